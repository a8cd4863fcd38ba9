#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/device_sampler.h"
#include "engine/step_executor.h"
#include "kernels/compute.h"
#include "model/model_runner.h"
#include "observability/step_profiler.h"

namespace sluice::engine {

// Runs a loaded model and draws from its logits, both on the model's device. The CPU does all of it
// in collect(); a GPU has it from launch() on.
class ModelExecutor final : public StepExecutor {
 public:
  // `sampler`: null on the CPU, which draws with sample_rows().
  ModelExecutor(std::unique_ptr<model::ModelRunner> runner,
                std::shared_ptr<kernels::ThreadPool> pool, std::unique_ptr<DeviceSampler> sampler);

  // Runs steps of the usual shapes, so that no request pays for what is prepared at a first call: a
  // prefill and a decode; on a GPU decodes of every size that is recorded, of short contexts.
  // Requires: the KV pool is allocated; no sequence is in it yet.
  Result<void> warm_up(int32_t block_size, int32_t max_num_seqs);

  // As ModelRunner's.
  std::string why_not_recorded() const { return runner_->why_not_recorded(); }

  // From now on a failed step's error has LibTorch's words.
  void say_library_messages() { says_library_messages_ = true; }

  // From now on every step's operators and sampling are timed. `profiler` must outlive this.
  void set_profiler(observability::StepProfiler* profiler);

  // Steps whose parts are timed come one after the other.
  int max_under_way() const override { return sampler_ != nullptr && profiler_ == nullptr ? 2 : 1; }
  Result<void> launch(StepInput& input) override;
  Result<std::span<sampling::RowResult>> collect() override;

 private:
  std::unexpected<Error> explained(Error error) const;
  static void make_step(int32_t num_sequences, int32_t num_tokens, int32_t num_logprobs,
                        StepInput& input);
  Result<void> try_step(int32_t num_sequences, int32_t num_tokens, int32_t num_logprobs);
  Result<void> try_overlap();
  // On the CPU.
  Result<std::span<sampling::RowResult>> compute();

  std::unique_ptr<model::ModelRunner> runner_;
  std::shared_ptr<kernels::ThreadPool> pool_;
  std::unique_ptr<DeviceSampler> sampler_;
  observability::StepProfiler* profiler_ = nullptr;
  bool says_library_messages_ = false;
  StepInput* input_ = nullptr;        // on the CPU: the step under way
  std::vector<int32_t> last_tokens_;  // on a GPU: see DeviceSampler::prepare()
  std::vector<sampling::RowResult> results_;
};

}  // namespace sluice::engine
