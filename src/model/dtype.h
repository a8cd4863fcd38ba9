#pragma once

#include <c10/core/ScalarType.h>

#include <optional>
#include <string>
#include <string_view>

namespace sluice::model {

// A weight's number format under its three names.
struct DTypeName {
  std::string_view name;         // in manifests and on the command line
  std::string_view safetensors;  // in safetensors headers
  at::ScalarType scalar_type;
};

inline constexpr DTypeName kDTypes[] = {
    {"f32", "F32", at::kFloat}, {"f16", "F16", at::kHalf}, {"bf16", "BF16", at::kBFloat16}};

// By any of the two names; nothing for another format.
inline std::optional<DTypeName> find_dtype(std::string_view name) {
  for (const DTypeName& dtype : kDTypes) {
    if (dtype.name == name || dtype.safetensors == name) return dtype;
  }
  return std::nullopt;
}

// Requires: one of the three.
inline DTypeName dtype_of(at::ScalarType scalar_type) {
  for (const DTypeName& dtype : kDTypes) {
    if (dtype.scalar_type == scalar_type) return dtype;
  }
  return kDTypes[0];
}

}  // namespace sluice::model
