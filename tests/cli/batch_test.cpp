#include "cli/batch.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <random>
#include <sstream>

#include "base/json.h"
#include "cli/answer.h"
#include "tests/cli/fake_runtime.h"

namespace sluice::cli {
namespace {

class BatchTest : public testing::Test {
 protected:
  void SetUp() override {
    path_ = std::filesystem::temp_directory_path() /
            ("sluice_batch_test_" + std::to_string(::getpid()) + ".jsonl");
  }
  void TearDown() override { std::filesystem::remove(path_); }

  void write_input(const std::string& text) { std::ofstream(path_, std::ios::binary) << text; }
  void write_letters(int count) {
    std::string text;
    for (int i = 0; i < count; ++i) text += R"({"prompt": "p)" + std::to_string(i) + "\"}\n";
    write_input(text);
  }

  // Runs the input from `first_index` on; the output is in output_.
  Batch::Outcome run(FakeService& service, int64_t first_index = 0,
                     std::shared_ptr<EventQueue> queue = std::make_shared<EventQueue>()) {
    auto source = RequestSource::open(path_, {});
    EXPECT_TRUE(source);
    Batch::Options options;
    options.max_running = 4;
    options.max_open = 8;
    options.write = [this](const std::string& lines) {
      output_ += lines;
      return true;
    };
    options.progress = [](int64_t) {};
    Batch batch(service, *std::move(source), std::move(queue), options);
    const auto outcome = batch.run(first_index);
    EXPECT_TRUE(outcome);
    return *outcome;
  }

  std::vector<int64_t> indices() const {
    std::vector<int64_t> found;
    std::istringstream lines(output_);
    for (std::string line; std::getline(lines, line);) {
      found.push_back(Json::parse(line)["index"].get<int64_t>());
    }
    return found;
  }

  std::filesystem::path path_;
  std::string output_;
};

TEST_F(BatchTest, AnswersEveryLineInOrder) {
  write_letters(20);
  FakeService service;
  const auto outcome = run(service);
  EXPECT_EQ(outcome.num_answered, 20);
  EXPECT_EQ(outcome.num_failed, 0);
  EXPECT_FALSE(outcome.interrupted);
  std::vector<int64_t> expected(20);
  std::iota(expected.begin(), expected.end(), 0);
  EXPECT_EQ(indices(), expected);
  EXPECT_EQ(service.num_delivered, 10 * 2 + 10 * 3);  // "p0".."p9", "p10".."p19"
}

TEST_F(BatchTest, EmptyLinesCountButGiveNothing) {
  write_input("\n{\"prompt\": \"a\"}\n  \t\r\n{\"prompt\": \"b\"}");
  FakeService service;
  run(service);
  EXPECT_EQ(indices(), (std::vector<int64_t>{1, 3}));
}

TEST_F(BatchTest, ARefusedLineLeavesItsNeighboursAlone) {
  write_letters(5);
  FakeService service;
  service.check = [](const GenerateRequest& request) -> Result<void> {
    if (request.prompt == "p2") return invalid_argument("no p2");
    return {};
  };
  const auto outcome = run(service);
  EXPECT_EQ(outcome.num_failed, 1);
  EXPECT_EQ(indices(), (std::vector<int64_t>{0, 1, 2, 3, 4}));
  EXPECT_NE(output_.find(R"({"index":2,"error":{"code":"INVALID_ARGUMENT","message":"no p2"}})"),
            std::string::npos);
}

TEST_F(BatchTest, AFullQueueIsWaitedFor) {
  write_letters(30);
  FakeService service;
  service.hold = true;
  service.capacity = 2;
  std::mt19937 random(7);
  const auto release_all = [&] {
    while (service.num_held() > 0) service.release(random() % service.num_held());
  };
  int num_refused = 0;
  service.on_full = [&] {
    ++num_refused;
    release_all();  // in any order; the output is in the input's all the same
  };
  service.check = [&](const GenerateRequest& request) -> Result<void> {
    if (request.prompt == "p29") {
      release_all();
      service.hold = false;
    }
    return {};
  };
  const auto outcome = run(service);
  EXPECT_GT(num_refused, 5);
  EXPECT_EQ(outcome.num_answered, 30);
  EXPECT_EQ(outcome.num_failed, 0);
  EXPECT_LE(service.most_live, 2);
  EXPECT_EQ(indices().size(), 30);
  const std::vector<int64_t> found = indices();
  EXPECT_TRUE(std::ranges::is_sorted(found));
}

TEST_F(BatchTest, AnInterruptCancelsWhatRuns) {
  write_letters(10);
  FakeService service;
  service.hold = true;
  const auto queue = std::make_shared<EventQueue>();
  queue->interrupt();
  const auto outcome = run(service, 0, queue);
  EXPECT_TRUE(outcome.interrupted);
  EXPECT_EQ(outcome.num_answered, 0);
  EXPECT_EQ(service.num_cancelled, 4);  // as many as may run at once
  EXPECT_EQ(output_, "");
}

// The law of --output: cut anywhere, run again, and the file is the one of an undisturbed run.
TEST_F(BatchTest, ResumesBitEqualFromEveryByte) {
  write_input(
      "{\"prompt\": \"ab\"}\n\n{\"prompt\": \"c\", \"n\": 3}\n{\"prompt\": \"bad\"}\n"
      "{\"prompt\": \"\xe4\xba\xba\"}\n");
  FakeService service;
  service.check = [](const GenerateRequest& request) -> Result<void> {
    if (request.prompt == "bad") return invalid_argument("bad");
    return {};
  };
  run(service);
  const std::string whole = output_;
  const auto lines = check_requests(path_, {});
  ASSERT_TRUE(lines);
  EXPECT_EQ(*lines, (std::vector<int32_t>{1, 0, 3, 1, 1}));
  for (size_t cut = 0; cut <= whole.size(); ++cut) {
    std::istringstream existing(whole.substr(0, cut));
    const auto resume = find_resume_point(existing, *lines);
    ASSERT_TRUE(resume) << cut << resume.error().message;
    output_ = whole.substr(0, resume->keep_bytes);
    run(service, resume->next_index);
    ASSERT_EQ(output_, whole) << "cut at byte " << cut;
  }
}

TEST(ResumeTest, RefusesAFileThatIsNotItsOutput) {
  const std::vector<int32_t> lines{1, 1, 2};
  for (const char* text : {"hello\n", "{}\n", "[]\n", "{\"index\":1}\n", "{\"index\":\"0\"}\n",
                           "{\"index\":0}\n{\"index\":0}\n", "{\"index\":-1}\n",
                           "{\"index\":0}\n{\"index\":1}\n{\"index\":2,\"completion\":1}\n",
                           "{\"index\":0}\n\n{\"index\":1}\n"}) {
    std::istringstream existing(text);
    EXPECT_FALSE(find_resume_point(existing, lines)) << text;
  }
}

TEST(ResumeTest, KnowsWhenAllIsDone) {
  std::istringstream existing(
      "{\"index\":0}\n{\"index\":1}\n{\"index\":2,\"completion\":0}\n"
      "{\"index\":2,\"completion\":1}\n");
  const auto resume = find_resume_point(existing, {1, 1, 2});
  ASSERT_TRUE(resume);
  EXPECT_EQ(resume->next_index, 3);
}

TEST_F(BatchTest, NamesFileAndLineOfAMistake) {
  write_input("{\"prompt\": \"a\"}\n{\"prompt\": \"b\", \"temprature\": 1}\n");
  const auto lines = check_requests(path_, {});
  ASSERT_FALSE(lines);
  EXPECT_NE(lines.error().message.find(".jsonl:2: unknown field \"temprature\"; did you mean "
                                       "temperature?"),
            std::string::npos)
      << lines.error().message;
}

TEST_F(BatchTest, AMissingInputIsNotFound) {
  const auto lines = check_requests(path_, {});
  ASSERT_FALSE(lines);
  EXPECT_EQ(lines.error().code, ErrorCode::kNotFound);
}

TEST(ReadLineTest, StopsAtTheLimit) {
  std::istringstream in("abc\nabcd\n");
  std::string line;
  EXPECT_TRUE(*read_line(in, line, 3));
  EXPECT_EQ(line, "abc");
  EXPECT_FALSE(read_line(in, line, 3));
}

TEST(AnswerTest, WritesTheFieldsInOrder) {
  GenerateRequest request;
  request.logprobs = 1;
  Answer answer(request);
  GenerateChunk prompt;
  prompt.is_prompt = true;
  prompt.text = "p";
  prompt.token_ids = {1};
  answer.add(prompt);
  GenerateChunk chunk;
  chunk.text = "\xe4\xba\xba";
  chunk.token_ids = {2};
  chunk.logprobs = {{{2, -0.1F, "\xe4\xba\xba"}, {{3, -0.5F, "x"}}}};
  chunk.finish_reason = FinishReason::kStop;
  chunk.stop_reason = "7";
  answer.add(chunk);
  GenerateSummary summary;
  summary.seed = UINT64_MAX;
  summary.profile = "cpu-test/1";
  summary.digest = "d";
  summary.usage.prompt_tokens = 1;
  EXPECT_EQ(
      answer_lines(4, answer, summary),
      "{\"index\":4,\"text\":\"p\xe4\xba\xba\",\"token_ids\":[1,2],\"logprobs\":[{\"token_id\":"
      "2,\"logprob\":-0.1,\"text\":\"\xe4\xba\xba\",\"top\":[{\"token_id\":3,\"logprob\":-0.5,"
      "\"text\":\"x\"}]}],\"finish_reason\":\"stop\",\"stop_reason\":\"7\",\"usage\":"
      "{\"prompt_tokens\":1,\"cached_tokens\":0,\"completion_tokens\":1},\"seed\":"
      "18446744073709551615,\"profile\":\"cpu-test/1\",\"digest\":\"d\"}\n");
}

TEST(AnswerTest, ALogprobKeepsItsBits) {
  std::mt19937 random(11);
  GenerateRequest request;
  request.logprobs = 0;
  Answer answer(request);
  GenerateChunk chunk;
  std::vector<float> values;
  for (int i = 0; i < 1000; ++i) {
    values.push_back(-std::generate_canonical<float, 24>(random) * 30);
    chunk.token_ids.push_back(i);
    chunk.logprobs.push_back({{i, values.back(), ""}, {}});
  }
  answer.add(chunk);
  const Json json = Json::parse(answer_lines(0, answer, {}));
  for (size_t i = 0; i < values.size(); ++i) {
    EXPECT_EQ(static_cast<float>(json["logprobs"][i]["logprob"].get<double>()), values[i]);
  }
}

}  // namespace
}  // namespace sluice::cli
