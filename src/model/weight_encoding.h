#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "model/dtype.h"
#include "model/model_config.h"
#include "sluice/error.h"

namespace sluice::model {

inline constexpr int64_t kDefaultGroupSize = 32;
inline constexpr const char* kScaleSuffix = ".scale";  // the scales' name is the weight's with this

// "int8", "int4", "fp8"; empty for plain.
std::string format_name(const WeightEncoding& encoding);

// How safetensors headers spell the dtype of a quantized weight's values. Requires: not plain.
const char* values_dtype(kernels::WeightFormat format);

// What --dtype asks for. int8, int4 and fp8 are bfloat16 with quantized weights, whatever the
// checkpoint has: rounding to 8 bits outweighs by far what bfloat16 rounds, and its kernels are the
// fastest.
struct WantedDType {
  std::optional<at::ScalarType> numbers;  // nothing: as the files have it
  WeightEncoding encoding;
};
// `name`: "f32", "f16", "bf16", "int8", "int4", "fp8" or empty. `group_size`: of int4; 0: the
// default. kInvalidArgument for another name, or a group size that does not go with it.
Result<WantedDType> parse_dtype(const std::string& name, int64_t group_size);

// A quantized weight in a safetensors file: its values' and its scales' dtype and shape.
struct EncodedShape {
  const char* values_dtype;
  std::vector<int64_t> values;
  std::vector<int64_t> scales;
};
// kInvalidArgument unless the shape has two dimensions; kUnimplemented for a weight that the format
// cannot hold (an odd number of columns in int4). Requires: not plain.
Result<EncodedShape> encoded_shape(const std::vector<int64_t>& shape,
                                   const WeightEncoding& encoding);

}  // namespace sluice::model
