#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include "sluice/error.h"

namespace sluice {

struct ImportOptions {
  std::filesystem::path source;   // a Hugging Face folder
  std::filesystem::path package;  // made; must not exist, or `overwrite`
  std::string dtype;       // "f32", "f16", "bf16", "int8", "int4", "fp8"; empty: as the checkpoint
  int64_t group_size = 0;  // of int4: weights that share a scale, 32 or 128; 0: 32
  std::filesystem::path families;  // folder of NAME.py family files; empty: the built-in ones
  bool overwrite = false;
  bool packed = false;  // the weights once more, as the kernels hold them: they are used mapped
  // Loads the package once more and keeps some logits beside it, which every load compares with its
  // own: a machine, a driver or a build that computes something else is found at start-up. Left out
  // for a model that needs more than half of the free memory, whose logits are not finite, or whose
  // weights are fp8, which this CPU does not multiply.
  bool golden = true;
  std::function<void(const std::string&)> notice;  // one line for the user
  // Bytes written so far and in all; called on the importing thread. Returning false stops the
  // import (kCancelled) and leaves nothing behind.
  std::function<bool(int64_t, int64_t)> progress;
};

// Makes a package from a Hugging Face folder, without Python: compiles the family's TorchScript
// source, writes weights (quantized, if `dtype` says so), hashes and manifest. Written aside and
// renamed at the end, so that an interrupt leaves no half package. kNotFound, kInvalidArgument
// (file and reason), kAlreadyExists, kUnimplemented (a config field that changes the result and is
// not supported), kCancelled.
Result<void> import_model(const ImportOptions& options);

}  // namespace sluice
