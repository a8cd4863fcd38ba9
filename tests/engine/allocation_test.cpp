// A step in steady state allocates nothing on the heap: not on the engine's thread, not on a
// compute thread. Every way to ask the C library for memory is counted, in the whole process.
#include <gtest/gtest.h>
#include <malloc.h>

#include <atomic>
#include <cerrno>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/engine_loop.h"
#include "engine/engine_metrics.h"
#include "engine/lane.h"
#include "engine/live_request.h"
#include "engine/model_executor.h"
#include "engine/null_executor.h"
#include "kernels/compute.h"
#include "model/model_runner.h"
#include "observability/metrics.h"
#include "scheduler/scheduler.h"

namespace {

std::atomic<bool> is_counting{false};
std::atomic<int64_t> num_allocations{0};

void count() {
  if (is_counting.load(std::memory_order_relaxed)) num_allocations.fetch_add(1);
}

}  // namespace

// The C library's own, by their second names.
extern "C" {
void* __libc_malloc(size_t size);
void* __libc_calloc(size_t count, size_t size);
void* __libc_realloc(void* block, size_t size);
void* __libc_memalign(size_t alignment, size_t size);

void* malloc(size_t size) {
  count();
  return __libc_malloc(size);
}
void* calloc(size_t num, size_t size) {
  count();
  return __libc_calloc(num, size);
}
void* realloc(void* block, size_t size) {
  count();
  return __libc_realloc(block, size);
}
void* memalign(size_t alignment, size_t size) {
  count();
  return __libc_memalign(alignment, size);
}
void* aligned_alloc(size_t alignment, size_t size) {
  return memalign(alignment, size);
}
int posix_memalign(void** block, size_t alignment, size_t size) {
  *block = memalign(alignment, size);
  return *block == nullptr ? ENOMEM : 0;
}
}

namespace sluice::engine {
namespace {

namespace fs = std::filesystem;

constexpr int32_t kBlockSize = 16;
constexpr int32_t kSettlingSteps = 24;
constexpr int32_t kCountedSteps = 64;  // every sequence goes through four blocks

// Throws a step's events away, as the delivery thread does in the end.
class DiscardingSink final : public OutputSink {
 public:
  void publish(std::vector<OutputEvent>& events) override {
    events_.swap(events);
    num_tokens += std::ssize(events_);
    events_.clear();
  }
  int64_t num_tokens = 0;

 private:
  std::vector<OutputEvent> events_;
};

// Greedy, sampled in several ways, with penalties, with end tokens that min_tokens forbids.
CheckedRequest request_of(int i) {
  CheckedRequest request;
  for (int32_t t = 0; t < 3 + i; ++t) request.prompt.push_back(t + 7 * i);
  request.sampling.temperature = i % 4 == 0 ? 0.0f : 0.8f;
  if (i % 4 == 1) request.sampling.top_p = 0.9f;
  if (i % 4 == 2) request.sampling.top_k = 20;
  if (i % 4 == 3) request.sampling.min_p = 0.01f;
  if (i % 3 == 1) request.sampling.frequency_penalty = 0.5f;
  if (i % 3 == 2) request.sampling.logit_bias = {{5, -1.0f}, {9, 1.0f}};
  request.sampling.seed = static_cast<uint64_t>(i);
  request.stop.max_tokens = 1000;
  request.stop.max_length = 2000;
  request.stop.min_tokens = i % 2 == 0 ? 1000 : 0;
  request.stop.end_token_ids = {2};
  request.stop.ignore_eos = i % 2 == 1;
  return request;
}

std::unique_ptr<sequence::Sequence> sequence_of(int i) {
  auto live = std::make_shared<LiveRequest>();
  live->checked = request_of(i);
  sequence::SequenceSpec spec;
  spec.request = static_cast<uint64_t>(i) + 1;
  spec.prompt = live->checked.prompt;
  spec.sampling = live->checked.sampling;
  spec.stop = live->checked.stop;
  spec.max_undelivered = 1 << 20;
  auto state = std::make_unique<SequenceState>();
  if (sampling::uses_counts(spec.sampling)) {
    state->counts.reserve(spec.prompt.size(), 1000);
    state->counts.add_prompt(spec.prompt);
  }
  state->request = std::move(live);
  auto sequence =
      std::make_unique<sequence::Sequence>(std::move(spec), std::make_shared<sequence::Signals>());
  sequence->attach(std::move(state));
  return sequence;
}

// Allocations in kCountedSteps steps of `num_sequences`, after the first steps.
int64_t allocations(std::unique_ptr<StepExecutor> executor, int num_sequences) {
  scheduler::SchedulerOptions options;
  options.num_blocks = 64 * num_sequences;
  options.block_size = kBlockSize;
  options.max_model_len = 2000;
  options.max_num_seqs = num_sequences;
  options.max_num_batched_tokens = 2048;
  options.keep_prefixes = true;
  auto queue = std::make_shared<EngineQueue>(16);
  const base::SteadyClock clock;
  DiscardingSink sink;
  std::vector<std::unique_ptr<Lane>> lanes;
  lanes.push_back(std::make_unique<Lane>(scheduler::Scheduler::create(options).value(),
                                         std::move(executor), [](const std::string&) {}));
  for (int i = 0; i < num_sequences; ++i) {
    std::vector<std::unique_ptr<sequence::Sequence>> completions;
    completions.push_back(sequence_of(i));
    lanes.back()->add(std::move(completions));
  }
  observability::Registry registry;
  const std::vector<ServedModel> models(1);
  EngineMetrics metrics(registry, models);
  EngineLoop loop(std::move(lanes), queue, clock, sink, {.metrics = &metrics});
  for (int i = 0; i < kSettlingSteps; ++i) EXPECT_TRUE(loop.tick());
  const int64_t before = sink.num_tokens;
  num_allocations = 0;
  is_counting = true;
  for (int i = 0; i < kCountedSteps; ++i) loop.tick();
  is_counting = false;
  EXPECT_EQ(sink.num_tokens - before, int64_t{kCountedSteps} * num_sequences);
  loop.stop();
  loop.run();
  return num_allocations;
}

TEST(AllocationTest, TheCounterCounts) {
  is_counting = true;
  auto one = std::make_unique<int>(1);
  is_counting = false;
  EXPECT_GE(num_allocations.load(), 1);
  EXPECT_EQ(*one, 1);
}

TEST(AllocationTest, AStepOfTheEngineAllocatesNothing) {
  for (const int num_sequences : {1, 64}) {
    EXPECT_EQ(allocations(std::make_unique<NullExecutor>(100), num_sequences), 0);
  }
}

class ModelAllocationTest : public testing::TestWithParam<const char*> {};

TEST_P(ModelAllocationTest, AStepOfAModelAllocatesNothing) {
  const fs::path folder = fs::path(SLUICE_SOURCE_DIR) / GetParam();
  if (!fs::exists(folder)) GTEST_SKIP() << "there is no " << GetParam();
  for (const int num_threads : {1, 2}) {
    for (const int num_sequences : {1, 7}) {
      auto pool = std::make_shared<kernels::ThreadPool>(num_threads);
      auto runner = model::ModelRunner::load(folder, {}, *pool);
      ASSERT_TRUE(runner.has_value()) << runner.error().message;
      ASSERT_TRUE((*runner)->allocate_kv(64 * num_sequences).has_value());
      auto executor = std::make_unique<ModelExecutor>(std::move(*runner), pool, nullptr);
      ASSERT_TRUE(executor->warm_up(kBlockSize, 1).has_value());
      EXPECT_EQ(allocations(std::move(executor), num_sequences), 0)
          << num_sequences << " sequences, " << num_threads << " threads";
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, ModelAllocationTest,
                         testing::Values("models/llama-tiny", "models/bloom-tiny",
                                         "tests/golden/variants/llama_gqa_tied_bf16",
                                         "tests/golden/variants/bloom_3_heads_f32"));

}  // namespace
}  // namespace sluice::engine
