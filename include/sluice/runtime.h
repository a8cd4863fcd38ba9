#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "sluice/error.h"
#include "sluice/service.h"

namespace sluice {

// A model to serve: a package, a Hugging Face folder, or "null", which computes nothing and
// answers with token ids drawn from the position (it measures what the engine itself costs).
struct ModelSource {
  std::string name;  // as requests name it; empty: the folder's name
  std::filesystem::path path;
};

// Everything that create_service needs; flags of `sluice serve` map to it one to one.
struct RuntimeOptions {
  std::vector<ModelSource> models;
  std::string device = "auto";  // auto | cpu | cuda[:N]
  std::string dtype;  // f32 | f16 | bf16 | int8 | int4 | fp8; empty: as each model's files have it
  // What meets quantized weights: int8 | fp8 | auto (the model's dtype; int8 and fp8 weights, on a
  // GPU). Empty: int8 beside int8 and int4; beside fp8 that where the GPU is faster so, else auto.
  std::string activation_dtype;
  int32_t num_threads = 0;  // compute threads; 0: one per core that this process may use
  int32_t block_size = 16;  // tokens per KV block
  std::string kv_cache_dtype = "auto";   // auto (the model's dtype) | int8 | fp8 | f32, f16, bf16
  int32_t max_num_seqs = 64;             // sequences in one step
  int32_t max_num_batched_tokens = 512;  // tokens in one step
  int32_t max_model_len = 0;             // 0: the model's context length
  int64_t kv_cache_bytes = 0;  // per model; 0: a share of the memory that is free after loading
  // On a GPU that share is what is left of this part of its memory; 0 < x <= 1.
  double gpu_memory_utilization = 0.9;
  // Keeps full KV blocks that no sequence uses until their place is needed, for prompts that begin
  // alike. No result depends on it.
  bool enable_prefix_caching = true;
  // An engine whose step takes longer than this is not live.
  std::chrono::nanoseconds live_within = std::chrono::seconds(60);
  std::chrono::nanoseconds null_step_time{0};  // of the model "null": it waits in each step
  bool profile = false;  // times every part of every step (StepStatistics::profiles)
  ServiceLimits limits;
  // Where the service adds its figures; null: to a registry of its own.
  std::shared_ptr<observability::Registry> metrics;
  // While models load: the model's name, bytes done, bytes in all.
  std::function<void(const std::string&, int64_t, int64_t)> progress;
  // Notices of failed steps have LibTorch's words too, which may have names and shapes of the
  // model.
  bool library_messages = false;
  // The GPU does not answer any more: every request has ended with kUnavailable, and so will all
  // others. Called once, with the reason, from the engine's thread; the process should end.
  std::function<void(const std::string&)> on_device_lost;
  // One line for a person: which device, how many tokens fit, why a GPU is not used, and so on.
  std::function<void(const std::string&)> notice;
};

// Loads the models, sizes the KV pools, starts the engine thread. The first error is returned with
// the model's name in it.
Result<std::unique_ptr<Service>> create_service(RuntimeOptions options);

// The time of one part of the steps: of the engine's ("schedule", "sampling", ...) or of one of the
// program's operators with one shape.
struct StepPart {
  std::string name;
  std::string shape;  // "[3072, 1024]": a weight's; "[rows, 1024]": of operators without one
  int64_t calls = 0;
  double ms = 0;  // of all calls
};

// All steps of a kind: "decode" if every row was a sequence's next token, otherwise "prefill".
struct StepProfile {
  std::string kind;
  int64_t steps = 0;
  int64_t tokens = 0;  // rows computed
  double ms = 0;       // of all steps; more than the parts' sum
  std::vector<StepPart> parts;
};

// Figures of the engine loop since the last call, for `sluice bench` and metrics.
struct StepStatistics {
  int64_t steps = 0;
  int64_t tokens = 0;                           // rows computed
  double step_ms_p50 = 0, step_ms_p99 = 0;      // whole step
  double engine_us_p50 = 0, engine_us_p99 = 0;  // a step without its model call and sampling
  std::vector<StepProfile> profiles;            // with RuntimeOptions::profile
};
StepStatistics take_step_statistics(Service& service);

// One compute device as `sluice doctor` shows it.
struct DeviceReport {
  std::string name;         // "cpu", "cuda:0"
  std::string description;  // processor or GPU model
  int64_t memory_bytes = 0;
  int64_t free_memory_bytes = 0;
  std::string driver;    // of a GPU
  double matmul_ms = 0;  // a 1000 x 1000 float32 product, median of several
  double matmul_gflops = 0;
  std::string compute_capability;  // of a GPU: "9.0"
  double copy_gb_per_s = 0;        // of a GPU: bytes read and written by a copy in its memory
  std::string error;               // why the device cannot be used; empty if it can
};

struct MachineReport {
  std::string version;
  std::string cpu_model;
  std::vector<std::string> instruction_sets;  // that really run here
  std::string profile;                        // the kernels' choice
  std::string profile_error;
  int32_t num_cores = 0;
  std::vector<DeviceReport> devices;
  std::string gpu_note;  // why there is no GPU in the list; empty if there is one
};
MachineReport inspect_machine();

// How a model would lie in memory.
struct MemoryPlan {
  std::string family;
  std::string dtype;
  int64_t num_parameters = 0;
  int64_t weight_bytes = 0;
  int64_t kv_bytes_per_token = 0;
  int64_t available_bytes = 0;
  int64_t kv_capacity_tokens = 0;  // in what the weights leave free
  int32_t context_length = 0;
};
// kv_cache_dtype: as in RuntimeOptions.
Result<MemoryPlan> plan_memory(const std::filesystem::path& model,
                               const std::string& kv_cache_dtype = "auto");

}  // namespace sluice
