#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <set>
#include <string>

#include "model/model_runner.h"
#include "model/weight_loader.h"
#include "sluice/error.h"

// A package's weights as the kernels hold them: packed/LAYOUT/model.safetensors beside weights/.
//
// Such a file is mapped and used in place. Nothing is packed or copied at the start, no memory is
// touched for the first time, and processes that serve the same package share the pages.
//
// A product's weight NAME is NAME.panels (U64, a multiple of 64 bytes), quantized ones also have
// NAME.scales (F32) and NAME.sums (I32); __metadata__ says its "ROWS COLUMNS" by NAME. All other
// weights are as in weights/.
namespace sluice::model {

inline constexpr const char* kPackedFolder = "packed";

// Path in the package, of this build's layout.
std::string packed_path();

// Writes the file into a package's folder, from its weights/model.safetensors.
//   packed   paths of the products' weights
//   written  called with the bytes of each slab; false stops with kCancelled
Result<void> write_packed(const std::filesystem::path& folder, const ModelConfig& config,
                          const std::set<std::string>& packed,
                          const std::function<bool(size_t)>& written);

// Puts the file's weights into a program. `read` gets the bytes of each.
// kInvalidArgument with the weight at fault.
Result<void> load_packed(const std::filesystem::path& folder, const ModelConfig& config,
                         WeightLoader& loader, const std::function<void(size_t)>& read);

}  // namespace sluice::model
