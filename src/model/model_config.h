#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/weight_format.h"

namespace sluice::model {

// How the weights of products are stored: in the model's dtype, or in 8 or 4 bits with scales
// (kernels/quantize.h). All other weights have the model's dtype.
struct WeightEncoding {
  kernels::WeightFormat format = kernels::WeightFormat::kPlain;
  int64_t group_size = 0;  // of int4: 32 or 128

  bool is_plain() const { return format == kernels::WeightFormat::kPlain; }
  bool operator==(const WeightEncoding&) const = default;
};

// What a loaded model is, from its manifest.
struct ModelConfig {
  std::string family;
  std::string digest;  // sha256 over the manifest, which holds every other file's hash
  std::string dtype;   // "f32", "f16", "bf16": of activations, and of weights if these are plain
  WeightEncoding encoding;
  int64_t num_parameters = 0;
  int32_t vocabulary_size = 0;
  int32_t context_length = 0;
  int32_t num_layers = 0;
  int32_t num_heads = 0;
  int32_t num_kv_heads = 0;
  int32_t head_size = 0;
  std::vector<int32_t> end_token_ids;
};

}  // namespace sluice::model
