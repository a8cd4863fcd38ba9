// The row law from end to end: a request's tokens and logprobs are the same bits alone, in crowds,
// in chunks, after preemptions and on any number of threads.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cctype>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <random>
#include <string>
#include <system_error>
#include <vector>

#include "engine/engine_service.h"
#include "sluice/import.h"
#include "sluice/runtime.h"
#include "tests/device/test_device.h"
#include "tests/engine/waiting_observer.h"

namespace sluice::engine {
namespace {

namespace fs = std::filesystem;

constexpr int kCrowd = 33;

// What a request got, bit for bit.
struct Answer {
  std::vector<int32_t> tokens;
  std::vector<int32_t> ids;    // of all top-N lists
  std::vector<uint32_t> bits;  // of all logprobs
  bool operator==(const Answer&) const = default;
};

void add_logprobs(const GenerateChunk& chunk, Answer& answer) {
  const auto add = [&](const TokenLogprob& entry) {
    answer.ids.push_back(entry.token_id);
    answer.bits.push_back(std::bit_cast<uint32_t>(entry.logprob));
  };
  for (const PositionLogprobs& position : chunk.logprobs) {
    add(position.token);
    for (const TokenLogprob& entry : position.top) add(entry);
  }
}

// Request `i` of the crowd, greedy or sampled in one of several ways.
GenerateRequest request_of(int i, int32_t vocabulary_size) {
  std::mt19937 engine(static_cast<uint32_t>(4000 + i));
  GenerateRequest request;
  request.token_ids.emplace();
  for (int t = 0; t < 1 + i * 7 % 45; ++t) {
    request.token_ids->push_back(
        static_cast<int64_t>(engine() % static_cast<uint32_t>(vocabulary_size)));
  }
  request.max_tokens = 12 + i % 9;
  request.ignore_eos = true;
  request.seed = static_cast<uint64_t>(i);
  request.logprobs = 3;
  if (i % 4 == 0) request.temperature = 0;
  if (i % 4 == 1) request.top_p = 0.9;
  if (i % 4 == 2) request.top_k = 20;
  if (i % 4 == 3) request.repetition_penalty = 1.3;
  if (i % 6 == 5) request.frequency_penalty = 0.5;
  if (i % 5 == 0) request.prompt_logprobs = 2;
  return request;
}

struct Setting {
  const char* name;
  int32_t max_num_seqs;
  int32_t max_num_batched_tokens;
  int32_t num_threads;
  int64_t kv_tokens;  // 0: plenty
};

// A model's folder, the dtype of its KV cache, the dtype that it is imported as first (empty: it is
// served as it is), and the activations' beside quantized weights.
struct Subject {
  std::string folder;
  std::string kv_cache_dtype = "auto";
  std::string dtype = "";
  std::string activation_dtype = "";

  bool needs_gpu() const {
    return kv_cache_dtype == "fp8" || dtype == "fp8" || activation_dtype == "auto";
  }
};

std::unique_ptr<Service> make_service(const Subject& subject, const Setting& setting,
                                      const std::string& second_folder = "") {
  RuntimeOptions options;
  options.models = {{"model", fs::path(SLUICE_SOURCE_DIR) / subject.folder}};
  if (!second_folder.empty()) {
    options.models.push_back({"second", fs::path(SLUICE_SOURCE_DIR) / second_folder});
  }
  options.kv_cache_dtype = subject.kv_cache_dtype;
  options.activation_dtype = subject.activation_dtype;
  options.device = test_device::name();
  options.num_threads = setting.num_threads;
  options.block_size = 16;
  options.max_num_seqs = setting.max_num_seqs;
  options.max_num_batched_tokens = setting.max_num_batched_tokens;
  options.kv_cache_bytes = int64_t{64} << 20;
  auto service = create_service(options);
  if (setting.kv_tokens > 0 && service) {
    options.kv_cache_bytes = (*service)->models()[0].kv_bytes_per_token * setting.kv_tokens;
    service = create_service(options);
  }
  EXPECT_TRUE(service.has_value()) << service.error().message;
  return service ? std::move(*service) : nullptr;
}

Answer answer_of(WaitingObserver& observer) {
  Answer answer;
  const auto& summary = observer.wait();
  EXPECT_TRUE(summary.has_value()) << summary.error().message;
  for (const GenerateChunk& chunk : observer.chunks()) {
    add_logprobs(chunk, answer);
    if (chunk.is_prompt) continue;
    answer.tokens.insert(answer.tokens.end(), chunk.token_ids.begin(), chunk.token_ids.end());
  }
  return answer;
}

std::vector<Answer> answers_of(Service& service, int begin, int end) {
  const int32_t vocabulary_size = service.models()[0].vocabulary_size;
  std::vector<std::shared_ptr<WaitingObserver>> observers;
  for (int i = begin; i < end; ++i) {
    observers.push_back(std::make_shared<WaitingObserver>());
    const auto call = service.generate(request_of(i, vocabulary_size), observers.back());
    EXPECT_TRUE(call.has_value()) << call.error().message;
  }
  std::vector<Answer> answers;
  for (const auto& observer : observers) answers.push_back(answer_of(*observer));
  return answers;
}

class RowLawTest : public testing::TestWithParam<Subject> {
 protected:
  void SetUp() override {
    subject_ = GetParam();
    const fs::path folder = fs::path(SLUICE_SOURCE_DIR) / subject_.folder;
    if (!fs::exists(folder)) GTEST_SKIP() << "there is no " << subject_.folder;
    if (subject_.needs_gpu() && test_device::name() == "cpu") GTEST_SKIP() << "it needs a GPU";
    if (subject_.dtype.empty()) return;
    package_ = fs::temp_directory_path() /
               ("sluice-row-law-" + std::to_string(::getpid()) + "-" + subject_.dtype);
    ImportOptions options;
    options.source = folder;
    options.package = package_;
    options.dtype = subject_.dtype;
    const auto imported = import_model(options);
    ASSERT_TRUE(imported.has_value()) << imported.error().message;
    subject_.folder = package_.string();
  }
  void TearDown() override {
    std::error_code error;
    if (!package_.empty()) fs::remove_all(package_, error);
  }

  Subject subject_;
  fs::path package_;
};

TEST_P(RowLawTest, AloneInCrowdsInChunksPreemptedAndOnThreads) {
  constexpr Setting kAlone{"alone", 1, 4096, 1, 0};
  const auto alone_service = make_service(subject_, kAlone);
  ASSERT_NE(alone_service, nullptr);
  std::vector<Answer> alone;
  for (int i = 0; i < kCrowd; ++i) alone.push_back(answers_of(*alone_service, i, i + 1)[0]);

  for (const Setting& setting :
       {Setting{"crowd", 33, 4096, 1, 0}, Setting{"threads", 33, 4096, 2, 0},
        Setting{"chunks_of_1", 1, 1, 1, 0}, Setting{"chunks_of_16", 16, 16, 2, 0},
        Setting{"preempted", 33, 48, 2, 160}}) {
    SCOPED_TRACE(setting.name);
    const int64_t played = test_device::num_recordings_played();
    const auto service = make_service(subject_, setting);
    ASSERT_NE(service, nullptr);
    for (const int size : {2, 7, kCrowd}) {
      const auto together = answers_of(*service, kCrowd - size, kCrowd);
      for (int i = 0; i < size; ++i) {
        const Answer& expected = alone[static_cast<size_t>(kCrowd - size + i)];
        EXPECT_EQ(together[static_cast<size_t>(i)].tokens, expected.tokens)
            << "request " << kCrowd - size + i << " in a crowd of " << size;
        EXPECT_EQ(together[static_cast<size_t>(i)], expected)
            << "request " << kCrowd - size + i << " in a crowd of " << size;
      }
    }
    if (test_device::is_slow()) {
      EXPECT_GT(test_device::num_recordings_played() - played, 0) << "as a GPU's decodes should be";
    }
    if (setting.kv_tokens > 0) {
      EXPECT_GT(dynamic_cast<EngineService&>(*service).num_preemptions(), 0);
    }
  }
}

// Two models take turns on one device, each with steps of its own under way.
TEST(TwoModelsTest, NeitherDisturbsTheOther) {
  constexpr Setting kTogether{"together", 6, 64, 2, 0};
  const Subject subject{"tests/golden/variants/llama_gqa_tied_bf16"};
  const std::string second = "tests/golden/variants/bloom_3_heads_f32";
  const auto service = make_service(subject, kTogether, second);
  ASSERT_NE(service, nullptr);
  const auto start = [&](int i, const char* model) {
    auto observer = std::make_shared<WaitingObserver>();
    GenerateRequest request = request_of(i, 100);
    request.model = model;
    request.max_tokens = 30;
    const auto call = service->generate(request, observer);
    EXPECT_TRUE(call.has_value()) << call.error().message;
    return observer;
  };
  std::vector<std::shared_ptr<WaitingObserver>> together;
  for (int i = 0; i < 6; ++i) {
    together.push_back(start(i, "model"));
    together.push_back(start(i, "second"));
  }
  std::vector<Answer> answers;
  for (const auto& observer : together) answers.push_back(answer_of(*observer));
  for (int i = 0; i < 6; ++i) {
    for (const bool is_second : {false, true}) {
      const Answer alone = answer_of(*start(i, is_second ? "second" : "model"));
      EXPECT_EQ(answers[static_cast<size_t>(2 * i + (is_second ? 1 : 0))], alone)
          << "request " << i << " of the " << (is_second ? "second" : "first");
    }
  }
}

// The variants, packages with quantized weights, a user's own program, the default packages, and a
// model of the caller's own.
std::vector<Subject> models() {
  std::vector<Subject> subjects = {
      {"tests/golden/variants/llama_mha_untied_f32"},
      {"tests/golden/variants/llama_gqa_tied_bf16"},
      {"tests/golden/variants/bloom_3_heads_f32"},
      {"tests/golden/variants/llama_gqa_tied_bf16", "auto", "int8"},
      {"tests/golden/variants/llama_mha_untied_f32", "auto", "int4"},
      {"tests/golden/variants/bloom_4_heads_bf16", "auto", "int8"},
      {"tests/golden/scripted"},
      {"tests/golden/variants/bloom_4_heads_bf16"},
      {"tests/golden/variants/llama_dynamic_rope_f32"},
      {"tests/golden/variants/mistral_window_bf16"},
      {"tests/golden/variants/qwen3_layer_types_biased_f32"},
      {"tests/golden/variants/qwen3_tied_bf16"},
      {"tests/golden/variants/gpt2_tied_f32"},
      {"tests/golden/variants/gpt_neox_parallel_f32"},
      {"models/llama-tiny"},
      {"models/bloom-tiny"},
      {"tests/golden/variants/llama_mha_untied_f32", "int8"},
      {"tests/golden/variants/mistral_window_bf16", "int8"},
      {"tests/golden/variants/bloom_4_heads_bf16", "int8"},
      {"models/llama-tiny", "int8"},
      {"tests/golden/variants/llama_gqa_tied_bf16", "fp8"},
      {"tests/golden/variants/bloom_4_heads_bf16", "fp8"},
      {"models/llama-tiny", "fp8"},
      {"tests/golden/variants/llama_gqa_tied_bf16", "auto", "fp8", "fp8"},
      {"tests/golden/variants/bloom_4_heads_bf16", "auto", "fp8", "auto"},
      {"tests/golden/variants/bloom_4_heads_bf16", "auto", "int8", "auto"}};
  const char* own = std::getenv("SLUICE_ROW_LAW_MODEL");
  if (own != nullptr) subjects.push_back({own});
  return subjects;
}

INSTANTIATE_TEST_SUITE_P(Models, RowLawTest, testing::ValuesIn(models()), [](const auto& info) {
  std::string name = fs::path(info.param.folder).filename().string();
  if (info.param.kv_cache_dtype != "auto") name += "_kv_" + info.param.kv_cache_dtype;
  if (!info.param.dtype.empty()) name += "_" + info.param.dtype;
  if (info.param.activation_dtype == "auto") name += "_a16";
  std::ranges::replace_if(name, [](unsigned char c) { return std::isalnum(c) == 0; }, '_');
  return name;
});

}  // namespace
}  // namespace sluice::engine
