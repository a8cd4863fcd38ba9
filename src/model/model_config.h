#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace sluice::model {

// What a loaded model is, from its manifest.
struct ModelConfig {
  std::string family;
  std::string digest;  // sha256 over the manifest, which holds every other file's hash
  std::string dtype;   // "f32", "f16", "bf16"
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
