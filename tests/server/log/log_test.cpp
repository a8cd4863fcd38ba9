#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "base/json.h"
#include "observability/metrics.h"
#include "server/log/log.h"
#include "server/log/log_format.h"
#include "server/log/request_log.h"
#include "server/log/trace_context.h"
#include "tests/server/fake_service.h"

namespace sluice::server {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(TraceContextTest, TakesTheTraceIdOfWellFormedHeadersOnly) {
  const std::string trace = "4bf92f3577b34da6a3ce929d0e0e4736";
  const std::string good = "00-" + trace + "-00f067aa0ba902b7-01";
  EXPECT_EQ(read_traceparent(good).trace_id, trace);
  EXPECT_EQ(read_traceparent(good).parent_id, "00f067aa0ba902b7");
  EXPECT_EQ(read_traceparent("01-" + trace + "-00f067aa0ba902b7-01-what-will-be").trace_id, trace);
  for (const std::string& bad :
       {std::string(), good.substr(1), good + "-x", good + "0", "ff" + good.substr(2),
        "01-" + trace + "-00f067aa0ba902b7-01x", "00-" + std::string(32, '0') + good.substr(35),
        good.substr(0, 36) + std::string(16, '0') + "-01", "00_" + good.substr(3),
        good.substr(0, 35) + "_" + good.substr(36), good.substr(0, 52) + "_01",
        std::string("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01"),
        good.substr(0, 53) + "0g", std::string("\n") + good.substr(1), std::string(1 << 20, 'a')}) {
    EXPECT_EQ(read_traceparent(bad).trace_id, "") << bad.substr(0, 80);
  }
}

class LogTest : public testing::Test {
 protected:
  ~LogTest() override {
    end_log();
    writer_.reset();
    fs::remove_all(folder_);
  }
  void start(bool is_json, const std::string& file = "") {
    fs::create_directories(folder_);
    auto writer = start_log({.file = file.empty() ? path() : file, .is_json = is_json}, registry_);
    ASSERT_TRUE(writer.has_value()) << writer.error().message;
    writer_ = *std::move(writer);
  }
  std::string path() const { return folder_ / "sluice.log"; }
  std::vector<std::string> lines(const std::string& file) const {
    writer_->flush();
    std::ifstream in(file);
    std::vector<std::string> all;
    for (std::string line; std::getline(in, line);) all.push_back(line);
    return all;
  }
  int64_t num_lost() { return registry_.counter({"sluice_log_lines_lost_total", "", {}}).value(); }

  observability::Registry registry_;
  const fs::path folder_ =
      fs::temp_directory_path() / ("sluice_log_test_" + std::to_string(getpid()));
  std::unique_ptr<LogWriter> writer_;
};

constexpr const char* kHostile =
    "a\r\nERROR: \x1b[31mfake\x7f \xc2\x9b"
    "2J";

TEST_F(LogTest, TextKeepsEveryMessageOnItsLine) {
  start(false);
  spdlog::info("{}", kHostile);
  spdlog::debug("not shown");
  const auto all = lines(path());
  ASSERT_EQ(all.size(), 1u);
  EXPECT_THAT(all[0], HasSubstr(R"( info: a\x0d\x0aERROR: \x1b[31mfake\x7f \xc2\x9b2J)"));
}

TEST_F(LogTest, JsonLinesAreObjects) {
  start(true);
  spdlog::warn("{}", kHostile);
  spdlog::info("not \xff UTF-8");
  const auto all = lines(path());
  ASSERT_EQ(all.size(), 2u);
  const Json first = Json::parse(all[0]);
  EXPECT_EQ(first["message"], kHostile);
  EXPECT_EQ(first["level"], "warning");
  EXPECT_EQ(first["time"].get<std::string>().size(),
            std::string("2026-01-31T12:00:00.000+00:00").size());
  for (const char c : all[0]) EXPECT_TRUE(c >= 0x20 && c < 0x7f) << all[0];
  EXPECT_TRUE(Json::parse(all[1]).is_object());
}

TEST_F(LogTest, ReopensAFileThatWasMoved) {
  start(false);
  spdlog::info("one");
  writer_->flush();
  fs::rename(path(), path() + ".1");
  spdlog::info("two");
  writer_->flush();
  ASSERT_TRUE(writer_->reopen().has_value());
  spdlog::info("three");
  EXPECT_EQ(lines(path() + ".1").size(), 2u);
  EXPECT_EQ(lines(path()).size(), 1u);
}

TEST_F(LogTest, AFullDiskLosesLinesAndCountsThem) {
  start(false, "/dev/full");
  for (int i = 0; i < 5; ++i) spdlog::info("line {}", i);
  writer_->flush();
  EXPECT_EQ(num_lost(), 5);
}

TEST_F(LogTest, AReaderThatHangsStopsNobody) {
  fs::create_directories(folder_);
  const std::string pipe = folder_ / "pipe";
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  const int reader = open(pipe.c_str(), O_RDONLY | O_NONBLOCK);
  start(false, pipe);
  const std::string text(1000, 'x');
  constexpr int kQueued = static_cast<int>(LogWriter::kMaxQueuedLines);
  constexpr int kLines = 3 * kQueued;
  constexpr int kInThePipe = 200;  // at most, with these lines
  for (int i = 0; i < kLines; ++i) spdlog::info(text);
  EXPECT_GE(num_lost(), kLines - 2 * kQueued - kInThePipe);
  close(reader);  // nobody reads any more: SIGPIPE is the command line's to ignore
  signal(SIGPIPE, SIG_IGN);
  end_log();
  writer_.reset();
  EXPECT_GE(num_lost(), kLines - kInThePipe);
}

TEST_F(LogTest, AFileThatCannotBeOpenedAgainIsKept) {
  start(false);
  fs::rename(folder_, folder_.string() + "-moved");
  const auto reopened = writer_->reopen();
  EXPECT_THAT(reopened ? "" : reopened.error().message, HasSubstr("cannot be opened"));
  spdlog::info("goes on");
  writer_->flush();
  fs::rename(folder_.string() + "-moved", folder_);
  EXPECT_THAT(lines(path()), Contains(HasSubstr("goes on")));
}

TEST_F(LogTest, AFileThatCannotBeOpenedIsRefused) {
  const auto refused = start_log({.file = "/no/such/folder/log"}, registry_);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(refused.error().message, HasSubstr("/no/such/folder/log"));
}

class Ignoring final : public GenerateObserver {
 public:
  void on_chunk(GenerateChunk) override {}
  void on_end(Result<GenerateSummary>) override {
    has_ended.store(true);
    has_ended.notify_all();
  }
  std::atomic<bool> has_ended{false};
};

TEST_F(LogTest, OneLineARequestWithoutItsText) {
  start(true);
  Usage usage;
  usage.prompt_tokens = 7;
  usage.completion_tokens = 1;
  usage.queue_time = std::chrono::milliseconds(250);
  FakeService fake([usage](FakeCall& call) {
    call.send(5, "secret answer");
    if (call.request().request_id == "breaks") {
      call.end(fail(ErrorCode::kInternal, "secret message"), usage, FinishReason::kError);
      return;
    }
    call.send_finish(FinishReason::kLength);
    call.end(GenerateSummary{}, usage, FinishReason::kLength);
  });
  RequestLog logged(fake, true);
  const auto ask = [&](const std::string& id, const std::string& model = "") {
    GenerateRequest request;
    request.model = model;
    request.request_id = id;
    request.client = "team\na";
    request.prompt = "secret prompt";
    request.traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    auto observer = std::make_shared<Ignoring>();
    const auto accepted = logged.generate(std::move(request), observer);
    if (accepted) observer->has_ended.wait(false);
  };
  ask("works");
  while (lines(path()).size() < 1) std::this_thread::yield();
  ask("breaks", "tiny");
  while (lines(path()).size() < 2) std::this_thread::yield();
  ask("");
  while (lines(path()).size() < 3) std::this_thread::yield();
  fake.generate_error = Error{ErrorCode::kResourceExhausted, "secret reason"};
  ask("refused", "secret model");
  ask("");
  const auto all = lines(path());
  ASSERT_EQ(all.size(), 5u);
  for (const std::string& line : all) EXPECT_THAT(line, Not(HasSubstr("secret")));
  const Json works = Json::parse(all[0]);
  EXPECT_EQ(works["message"], "request");
  EXPECT_EQ(works["id"], "works");
  EXPECT_EQ(works["model"], "tiny");
  EXPECT_EQ(works["client"], "team\na");
  EXPECT_EQ(works["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
  EXPECT_EQ(works["parent_id"], "00f067aa0ba902b7");
  EXPECT_EQ(works["prompt_tokens"], 7);
  EXPECT_EQ(works["completion_tokens"], 1);
  EXPECT_EQ(works["queue_seconds"], 0.25);
  EXPECT_EQ(works["finish_reason"], "length");
  const Json breaks = Json::parse(all[1]);
  EXPECT_EQ(breaks["error"], "INTERNAL");
  EXPECT_EQ(breaks["level"], "error");
  EXPECT_EQ(breaks["model"], "tiny");
  EXPECT_EQ(breaks["prompt_tokens"], 7);
  EXPECT_EQ(breaks["completion_tokens"], 1);
  EXPECT_EQ(breaks["queue_seconds"], 0.25);
  EXPECT_EQ(breaks["finish_reason"], "error");
  const Json refused = Json::parse(all[3]);
  EXPECT_EQ(refused["error"], "RESOURCE_EXHAUSTED");
  EXPECT_FALSE(refused.contains("model"));
  // Who brings no id gets one, refused or not.
  for (const size_t i : {2, 4}) EXPECT_EQ(Json::parse(all[i])["id"].get<std::string>().size(), 32u);
  EXPECT_NE(Json::parse(all[2])["id"], Json::parse(all[4])["id"]);
}

}  // namespace
}  // namespace sluice::server
