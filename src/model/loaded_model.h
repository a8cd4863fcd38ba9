#pragma once

#include <torch/csrc/jit/api/module.h>

#include <cstdint>
#include <filesystem>
#include <optional>

#include "model/golden_logits.h"
#include "model/model_runner.h"
#include "sluice/error.h"

namespace sluice::model {

// A program with its weights in place, packed where products use them.
struct LoadedModel {
  ModelConfig config;
  torch::jit::Module program;
  torch::jit::Function* forward = nullptr;  // the program's
  at::ScalarType dtype = at::kFloat;        // of activations and KV cache
  int64_t weight_bytes = 0;
  bool keeps_activations = false;      // beside quantized weights (kernels/quantize.h)
  std::optional<GoldenLogits> golden;  // of a package that has some for its weights as they are
};

// The device that the options name. kFailedPrecondition where it cannot compute.
Result<kernels::Device*> device_of(const LoadOptions& options);

// Loads a package (a folder with manifest.json), or any folder that can be imported. Errors as
// ModelRunner::load.
Result<LoadedModel> load_model(const std::filesystem::path& folder, const LoadOptions& options,
                               kernels::ThreadPool& pool);

}  // namespace sluice::model
