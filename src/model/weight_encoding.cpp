#include "model/weight_encoding.h"

namespace sluice::model {
namespace {

using kernels::WeightFormat;

constexpr int64_t kGroupSizes[] = {32, 128};

}  // namespace

std::string format_name(const WeightEncoding& encoding) {
  switch (encoding.format) {
    case WeightFormat::kPlain:
      return "";
    case WeightFormat::kInt8:
      return "int8";
    case WeightFormat::kInt4:
      return "int4";
    case WeightFormat::kFloat8:
      return "fp8";
  }
  return "";
}

const char* values_dtype(WeightFormat format) {
  return format == WeightFormat::kInt8 ? "I8" : format == WeightFormat::kInt4 ? "U8" : "F8_E4M3";
}

Result<WantedDType> parse_dtype(const std::string& name, int64_t group_size) {
  WantedDType wanted;
  if (name == "int8") {
    wanted = {at::kBFloat16, {WeightFormat::kInt8, 0}};
  } else if (name == "int4") {
    wanted = {at::kBFloat16, {WeightFormat::kInt4, kDefaultGroupSize}};
  } else if (name == "fp8") {
    wanted = {at::kBFloat16, {WeightFormat::kFloat8, 0}};
  } else if (const auto plain = find_dtype(name)) {
    wanted.numbers = plain->scalar_type;
  } else if (!name.empty()) {
    return invalid_argument("dtype is '" + name.substr(0, 32) +
                            "', supported: f32, f16, bf16, int8, int4, fp8");
  }
  if (group_size == 0) return wanted;
  if (wanted.encoding.format != WeightFormat::kInt4) {
    return invalid_argument("a group size goes with dtype int4 only");
  }
  for (const int64_t size : kGroupSizes) {
    if (size != group_size) continue;
    wanted.encoding.group_size = size;
    return wanted;
  }
  return invalid_argument("group size is " + std::to_string(group_size) + ", supported: 32, 128");
}

Result<EncodedShape> encoded_shape(const std::vector<int64_t>& shape,
                                   const WeightEncoding& encoding) {
  if (shape.size() != 2) {
    return invalid_argument("has " + std::to_string(shape.size()) + " dimensions, expected 2");
  }
  const int64_t rows = shape[0];
  const int64_t columns = shape[1];
  const char* dtype = values_dtype(encoding.format);
  if (encoding.format != WeightFormat::kInt4) return EncodedShape{dtype, shape, {rows, 1}};
  if (columns % 2 != 0) {
    return fail(ErrorCode::kUnimplemented,
                "has " + std::to_string(columns) + " columns, int4 needs an even number; use int8");
  }
  const int64_t groups = (columns + encoding.group_size - 1) / encoding.group_size;
  return EncodedShape{dtype, {rows, columns / 2}, {rows, groups}};
}

}  // namespace sluice::model
