// What the host does for a GPU's decode step: the time of a step on a device whose kernels take no
// time and do nothing. A GPU that computes longer than this never waits for the host, since the
// next step is launched while one runs (docs/decisions/0024). The driver's own time, of which a
// recorded step asks little, is not in it.
//
// Usage: host_step_bench [SEQUENCES CONTEXT]...      default: 1, 64, 256 with 1,000 tokens each
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "engine/devices.h"
#include "engine/engine_loop.h"
#include "engine/live_request.h"
#include "engine/model_executor.h"
#include "kernels/cuda/plugin.h"

namespace sluice::engine {
namespace {

using kernels::cuda::DeviceApi;
using kernels::cuda::DeviceInfo;
using kernels::cuda::Event;
using kernels::cuda::Graph;
using kernels::cuda::kSuccess;
using kernels::cuda::SampleArgs;
using kernels::cuda::SampleResult;
using kernels::cuda::Status;
using kernels::cuda::Stream;

constexpr int32_t kBlockSize = 16;
constexpr int kSettlingSteps = 50;
constexpr int kMeasuredSteps = 2000;

Status allocate(void** data, size_t bytes) {
  *data = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
  return kSuccess;
}
Status release(void* data) {
  std::free(data);
  return kSuccess;
}
Status copy(void* to, const void* from, size_t bytes, Stream) {
  std::memcpy(to, from, bytes);
  return kSuccess;
}
template <typename Args>
Status skip(const Args&, Stream) {
  return kSuccess;
}
template <typename Args>
int64_t no_bytes(const Args&) {
  return 0;
}

// Draws token 5 everywhere; all else is left out.
DeviceApi idle_api() {
  DeviceApi api;
  api.version = kernels::cuda::kDeviceApiVersion;
  api.count_devices = [](int32_t* count) -> Status {
    *count = 1;
    return kSuccess;
  };
  api.describe = [](int32_t, DeviceInfo* info) -> Status {
    *info = {};
    std::snprintf(info->name, sizeof(info->name), "idle");
    info->num_multiprocessors = 1;
    info->total_bytes = int64_t{16} << 30;
    return kSuccess;
  };
  api.count_free_bytes = [](int64_t* num_bytes) -> Status {
    *num_bytes = int64_t{16} << 30;
    return kSuccess;
  };
  api.use = [](int32_t) -> Status { return kSuccess; };
  api.error_text = [](Status) -> const char* { return "no error"; };
  api.create_stream = [](Stream*) -> Status { return kSuccess; };
  api.destroy_stream = api.synchronize = [](Stream) -> Status { return kSuccess; };
  api.create_event = [](Event*) -> Status { return kSuccess; };
  api.destroy_event = api.wait_for_event = [](Event) -> Status { return kSuccess; };
  api.record_event = [](Event, Stream) -> Status { return kSuccess; };
  api.begin_capture = [](Stream) -> Status { return kSuccess; };
  api.end_capture = [](Stream, Graph* graph) -> Status {
    static char any = 0;
    *graph = &any;
    return kSuccess;
  };
  api.launch_graph = [](Graph, Stream) -> Status { return kSuccess; };
  api.destroy_graph = [](Graph) -> Status { return kSuccess; };
  api.allocate = api.allocate_host = &allocate;
  api.release = api.release_host = &release;
  api.copy_to_device = api.copy_to_host = api.copy_on_device = &copy;
  api.pack = &skip;
  api.embed = &skip;
  api.select_rows = &skip;
  api.rms_norm = api.layer_norm = &skip;
  api.copy_columns = &skip;
  api.add = &skip;
  api.swiglu = &skip;
  api.linear_workspace = &no_bytes;
  api.linear = &skip;
  api.attention_workspace = &no_bytes;
  api.attention = &skip;
  api.feed_tokens = &skip;
  api.sample_workspace = &no_bytes;
  api.sample = [](const SampleArgs& args, Stream) -> Status {
    std::fill_n(args.results, args.num_rows, SampleResult{.token_id = 5});
    return kSuccess;
  };
  return api;
}

class DiscardingSink final : public OutputSink {
 public:
  void publish(std::vector<OutputEvent>& events) override { events.clear(); }
};

std::unique_ptr<sequence::Sequence> sequence_of(int64_t index, int64_t context) {
  auto live = std::make_shared<LiveRequest>();
  sequence::SequenceSpec spec;
  spec.request = static_cast<uint64_t>(index) + 1;
  spec.prompt.assign(static_cast<size_t>(context), static_cast<int32_t>(index % 50));
  spec.sampling.temperature = 0.7f;
  spec.sampling.top_p = 0.9f;
  spec.stop.max_tokens = kSettlingSteps + 2 * kMeasuredSteps;
  spec.stop.max_length = 1 << 20;
  spec.max_undelivered = 1 << 20;
  auto state = std::make_unique<SequenceState>();
  state->request = std::move(live);
  auto sequence =
      std::make_unique<sequence::Sequence>(std::move(spec), std::make_shared<sequence::Signals>());
  sequence->attach(std::move(state));
  return sequence;
}

Result<void> measure(kernels::cuda::CudaDevice& device, int64_t num_sequences, int64_t context) {
  auto pool = std::make_shared<kernels::ThreadPool>(1);
  const std::filesystem::path folder =
      std::filesystem::path(SLUICE_SOURCE_DIR) / "tests/golden/variants/llama_gqa_tied_bf16";
  model::LoadOptions loading;
  loading.device = &device;
  auto runner = model::ModelRunner::load(folder, loading, *pool);
  if (!runner) return std::unexpected(runner.error());
  const int64_t most = context + kSettlingSteps + 2 * kMeasuredSteps;
  const auto num_blocks = static_cast<int32_t>((most / kBlockSize + 2) * num_sequences);
  if (auto allocated = (*runner)->allocate_kv(num_blocks); !allocated) return allocated;
  auto executor = std::make_unique<ModelExecutor>(std::move(*runner), pool,
                                                  std::make_unique<DeviceSampler>(device));
  auto warm = executor->warm_up(kBlockSize, static_cast<int32_t>(num_sequences));
  if (!warm) return warm;
  scheduler::SchedulerOptions options;
  options.num_blocks = num_blocks;
  options.block_size = kBlockSize;
  options.max_model_len = 1 << 20;
  options.max_num_seqs = static_cast<int32_t>(num_sequences);
  options.max_num_batched_tokens = 1 << 20;
  options.keep_prefixes = true;
  auto scheduler = scheduler::Scheduler::create(options);
  if (!scheduler) return std::unexpected(scheduler.error());
  std::vector<std::unique_ptr<Lane>> lanes;
  lanes.push_back(std::make_unique<Lane>(std::move(*scheduler), std::move(executor),
                                         [](const std::string& line) { std::puts(line.c_str()); }));
  for (int64_t i = 0; i < num_sequences; ++i) {
    std::vector<std::unique_ptr<sequence::Sequence>> completions;
    completions.push_back(sequence_of(i, context));
    lanes.back()->add(std::move(completions));
  }
  const base::SteadyClock clock;
  DiscardingSink sink;
  EngineLoop loop(std::move(lanes), std::make_shared<EngineQueue>(1), clock, sink);
  for (int i = 0; i < kSettlingSteps; ++i) loop.tick();
  const int64_t tokens_before = loop.num_tokens();
  std::vector<double> times;
  for (int i = 0; i < kMeasuredSteps; ++i) {
    const auto start = std::chrono::steady_clock::now();
    loop.tick();
    const std::chrono::duration<double, std::micro> time = std::chrono::steady_clock::now() - start;
    times.push_back(time.count());
  }
  if (loop.num_tokens() - tokens_before != kMeasuredSteps * num_sequences) {
    return fail(ErrorCode::kInternal, "not every sequence was in every step");
  }
  std::ranges::sort(times);
  std::printf("%5ld sequences of %ld tokens: %.1f us a step (median; 1%% take more than %.1f)\n",
              static_cast<long>(num_sequences), static_cast<long>(context), times[times.size() / 2],
              times[times.size() * 99 / 100]);
  loop.stop();
  loop.run();
  return {};
}

int run(std::vector<std::pair<int64_t, int64_t>> cases) {
  static const DeviceApi api = idle_api();
  kernels::cuda::provide_device_api(api);
  const auto device = kernels::cuda::CudaDevice::open(api, 0);
  if (!device) {
    std::fprintf(stderr, "%s\n", device.error().message.c_str());
    return 1;
  }
  for (const auto& [num_sequences, context] : cases) {
    const auto measured = measure(**device, num_sequences, context);
    if (measured) continue;
    std::fprintf(stderr, "%s\n", measured.error().message.c_str());
    return 1;
  }
  return 0;
}

}  // namespace
}  // namespace sluice::engine

int main(int argc, char** argv) {
  std::vector<std::pair<int64_t, int64_t>> cases;
  for (int i = 1; i + 1 < argc; i += 2)
    cases.emplace_back(std::atoll(argv[i]), std::atoll(argv[i + 1]));
  if (argc % 2 == 0) {
    std::fprintf(stderr, "usage: %s [SEQUENCES CONTEXT]...\n", argv[0]);
    return 2;
  }
  if (cases.empty()) cases = {{1, 1000}, {64, 1000}, {256, 1000}};
  return sluice::engine::run(std::move(cases));
}
