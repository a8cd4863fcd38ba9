#pragma once

#include <memory>
#include <vector>

#include "engine/device_sampler.h"
#include "engine/step_executor.h"
#include "kernels/compute.h"
#include "model/model_runner.h"
#include "observability/step_profiler.h"

namespace sluice::engine {

// Runs a loaded model and draws from its logits, both on the model's device, all of it in
// collect().
class ModelExecutor final : public StepExecutor {
 public:
  // `sampler`: null on the CPU, which draws with sample_rows().
  ModelExecutor(std::unique_ptr<model::ModelRunner> runner,
                std::shared_ptr<kernels::ThreadPool> pool, std::unique_ptr<DeviceSampler> sampler);

  // Runs steps of the usual shapes, so that no request pays for what is prepared at a first call.
  // Requires: the KV pool is allocated; no sequence is in it yet.
  Result<void> warm_up(int32_t block_size);

  // From now on a failed step's error has LibTorch's words.
  void say_library_messages() { says_library_messages_ = true; }

  // From now on every step's operators and sampling are timed. `profiler` must outlive this.
  void set_profiler(observability::StepProfiler* profiler);

  void launch(StepInput& input) override { input_ = &input; }
  Result<std::span<sampling::RowResult>> collect() override;

 private:
  std::unexpected<Error> explained(Error error) const;
  Result<void> draw(const at::Tensor& logits);

  std::unique_ptr<model::ModelRunner> runner_;
  std::shared_ptr<kernels::ThreadPool> pool_;
  std::unique_ptr<DeviceSampler> sampler_;
  observability::StepProfiler* profiler_ = nullptr;
  bool says_library_messages_ = false;
  StepInput* input_ = nullptr;
  std::vector<sampling::RowResult> results_;
};

}  // namespace sluice::engine
