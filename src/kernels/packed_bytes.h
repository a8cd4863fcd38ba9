#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "kernels/weight_format.h"
#include "sluice/error.h"

// Packed weights as plain bytes, so that a file can hold them and a program can use them mapped.
namespace sluice::kernels {

// Name of what the bytes mean (cpu/kernel_table.h: one layout for all instruction sets). Whoever
// changes the layout changes the name: files of the old one are then no longer used.
inline constexpr const char* kPackedLayout = "panels-1";

// What a packed weight is, apart from its numbers.
struct PackedKind {
  WeightFormat format = WeightFormat::kPlain;
  int64_t group_size = 0;                      // int4
  at::ScalarType activations = at::kBFloat16;  // float32, float16 or bfloat16
  int64_t rows = 0;                            // N
  int64_t columns = 0;                         // K
};

struct PackedBytes {
  std::span<const std::byte> panels;  // a panel is 32 rows, one after the other
  std::span<const std::byte> scales;  // float32, of int8 and int4; a panel's 32 after each other
  std::span<const std::byte> sums;    // int32, the same
};

// How many bytes of each a weight has.
struct PackedSizes {
  int64_t panels = 0;
  int64_t scales = 0;
  int64_t sums = 0;
};
PackedSizes packed_sizes(const PackedKind& kind);

// Rows of a panel: rows [32 i, 32 j) of a weight, packed by themselves, are its panels i to j.
inline constexpr int64_t kPanelRows = 32;

// The bytes of a packed weight; they live as long as the tensor.
// Requires: is_packed(packed).
PackedBytes packed_view(const at::Tensor& packed);

// The packed weight that these bytes are, without a copy. `owner` keeps them alive.
// kInvalidArgument for other sizes than packed_sizes() says, a start that is not a multiple of 64
// bytes, or a kind that pack_weight() does not make. The numbers are not looked at.
Result<at::Tensor> packed_from(const PackedKind& kind, const PackedBytes& bytes,
                               std::shared_ptr<const void> owner);

}  // namespace sluice::kernels
