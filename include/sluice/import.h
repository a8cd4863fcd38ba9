#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include "sluice/error.h"

namespace sluice {

struct ImportOptions {
  std::filesystem::path source;    // a Hugging Face folder
  std::filesystem::path package;   // made; must not exist, or `overwrite`
  std::string dtype;               // "f32", "f16", "bf16" or empty: as the checkpoint has it
  std::filesystem::path families;  // folder of NAME.py family files; empty: the built-in ones
  bool overwrite = false;
  // Bytes written so far and in all; called on the importing thread. Returning false stops the
  // import (kCancelled) and leaves nothing behind.
  std::function<bool(int64_t, int64_t)> progress;
};

// Makes a package from a Hugging Face folder, without Python: compiles the family's TorchScript
// source, writes weights, hashes and manifest. Written aside and renamed at the end, so that an
// interrupt leaves no half package. kNotFound, kInvalidArgument (file and reason), kAlreadyExists,
// kUnimplemented (a config field that changes the result and is not supported), kCancelled.
Result<void> import_model(const ImportOptions& options);

}  // namespace sluice
