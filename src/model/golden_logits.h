#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "model/model_config.h"
#include "sluice/error.h"

namespace sluice::model {

// A file of a package that its manifest does not list: what it holds depends on the machine of the
// import, and the package's digest must not. It decides nothing but whether a model is served.
inline constexpr const char* kGoldenFile = "golden_logits.json";
inline constexpr size_t kMaxGoldenBytes = 1 << 20;

// What a model answered where it was imported: some of its logits for a fixed row of tokens. A
// build, a driver or a processor that computes something else is found by them.
struct GoldenLogits {
  std::string package;                     // sha256 of the manifest beside it
  std::string profile;                     // of the kernels that computed them
  std::vector<int32_t> token_ids;          // [T], the sequence
  std::vector<int32_t> columns;            // [C], the token ids whose logits are kept
  std::vector<std::vector<float>> logits;  // [T][C]
};

// The sequence and the columns for a model, spread over its vocabulary; no logits yet.
GoldenLogits plan_golden(const ModelConfig& config);

bool has_finite_logits(const GoldenLogits& golden);

// Requires: its logits are finite.
std::string write_golden(const GoldenLogits& golden);
// kDataLoss with file and reason: not JSON, unknown or missing fields, sizes that do not fit each
// other, numbers that are not finite, or token ids that the model does not have.
Result<GoldenLogits> parse_golden(std::string_view text, int32_t vocabulary_size);

// How far `logits` ([n][C], n <= T: the sequence's first tokens) are from the golden ones: root
// mean square of the difference over that of the golden logits around their mean. NaN if one is
// NaN.
double golden_difference(const GoldenLogits& golden, const std::vector<std::vector<float>>& logits);

// What that may be. Kernel profiles differ in the order of their sums and in what they round, so
// the bound is made of the roundings of one layer, which add up at random: `u` is the unit of the
// coarsest number format in use (decision 20). A wrong result is off by about 1.
struct GoldenPrecision {
  int32_t num_layers = 0;
  bool is_16_bit = false;  // activations: bf16 or f16
  bool is_8_bit = false;   // 8-bit activations beside quantized weights, or a KV cache of 8 bits
};
double golden_bound(const GoldenPrecision& precision);

}  // namespace sluice::model
