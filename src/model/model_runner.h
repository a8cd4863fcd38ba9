#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <exception>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kernels/kv_layout.h"
#include "model/model_config.h"
#include "model/step_batch.h"
#include "model/weight_encoding.h"
#include "sluice/error.h"

namespace sluice::kernels {
class Device;
class ThreadPool;
}  // namespace sluice::kernels
namespace sluice::observability {
class StepProfiler;
}

namespace sluice::model {

struct LoadOptions {
  kernels::Device* device = nullptr;  // null: the CPU
  int32_t max_model_len = 0;          // 0: the model's context length
  int32_t block_size = 16;            // S, tokens per KV block
  std::string dtype;           // "f32", "f16", "bf16", "int8", "int4", "fp8"; empty: as the files
  std::string kv_cache_dtype;  // "auto" or empty, "int8", "fp8", or the model's own (kv_format.h)
  // Beside quantized weights: "int8", "fp8", or "auto", the model's own. Empty: what the weights
  // are multiplied with, int8 or fp8; beside fp8 "auto" where the device is no faster so.
  std::string activation_dtype;
  std::filesystem::path families;  // family files for a Hugging Face folder; empty: the built-in
  // Called while files are checked and weights packed: bytes done, bytes in all.
  std::function<void(int64_t, int64_t)> progress;
};

// A loaded program with its packed weights and its KV pool, run one step at a time.
//
// Threads: one, the engine's.
class ModelRunner final {
 public:
  // Opens a package, or a Hugging Face folder (imported in memory). Checks hashes first, then
  // compiles, maps and packs. kNotFound, kInvalidArgument (names file and reason), kDataLoss (a
  // hash does not match), kResourceExhausted (memory).
  static Result<std::unique_ptr<ModelRunner>> load(const std::filesystem::path& folder,
                                                   const LoadOptions& options,
                                                   kernels::ThreadPool& pool);
  ~ModelRunner();

  const ModelConfig& config() const;
  kernels::KvFormat kv_format() const;
  bool keeps_activations() const;  // beside quantized weights, in place of rounding
  int64_t kv_bytes_per_block() const;
  int64_t weight_bytes() const;

  // Runs a step of `num_tokens` tokens of one sequence, the last `num_logits` of them with logits,
  // in a pool of its own that goes again: what a step needs beside the pool is in memory then.
  // Errors as forward(), and allocate_kv()'s. Requires: 1 <= num_logits <= num_tokens.
  Result<void> try_step(int32_t num_tokens, int32_t num_logits);

  // Allocates the pool. Once, before the first forward(). kResourceExhausted if memory refuses.
  Result<void> allocate_kv(int32_t num_blocks);

  // Runs the program. Returns logits [R, V] float32 for batch.logit_rows, in the CPU's memory,
  // valid until the next call. kInternal if the program throws: the step's sequences are lost, the
  // runner is not. kResourceExhausted, the same, without memory. kUnavailable if the device is
  // lost, and with it all that is on it.
  Result<at::Tensor> forward(const StepBatch& batch);

  // Changes a step's tokens [T] once they are on the device, before the program reads them.
  using Feed = std::function<void(const at::Tensor& tokens)>;

  // The same, with the logits where they were computed. On a GPU they may be still to come, and
  // rows may follow that mean nothing.
  Result<at::Tensor> start(const StepBatch& batch, const Feed& feed = {});

  // The error of a call on the model's device that threw, as forward() returns it.
  std::unexpected<Error> failed(const std::exception& exception);

  // From now on forward() times its operators; null: no more. `profiler` must outlive this.
  void set_profiler(observability::StepProfiler* profiler);

  // Why the last call failed, in LibTorch's words: for the log, never for a client.
  const std::string& failure_detail() const;

  // Why decode steps of some shape run call by call on a device that could play a recording, in the
  // device's words; empty as long as none does.
  std::string why_not_recorded() const;

 private:
  struct State;
  explicit ModelRunner(std::unique_ptr<State> state);
  void forget_pool();
  std::unique_ptr<State> state_;
};

}  // namespace sluice::model
