#pragma once

#include <torch/csrc/jit/api/module.h>

#include <cstdint>
#include <filesystem>
#include <string>

#include "sluice/error.h"

namespace sluice::model {

enum class ProgramOrigin : uint8_t {
  kPackage,  // without weights: small
  kUser,     // may hold its weights
};

// Loads a TorchScript archive (program.pt). Refuses before loading what would run code while
// loading: __setstate__ methods and custom classes. Does not check the operators.
// kNotFound; kInvalidArgument with file and reason.
Result<torch::jit::Module> load_program(const std::filesystem::path& path, ProgramOrigin origin);

// The program as the bytes of an archive. kInternal if LibTorch cannot save it.
Result<std::string> save_program(const torch::jit::Module& program);

}  // namespace sluice::model
