#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <functional>
#include <string>

#include "kernels/checks.h"
#include "kernels/compute.h"
#include "kernels/cpu/packed_panels.h"
#include "kernels/packed_weight.h"
#include "kernels/quantized_parts.h"

// Packing of int8 and int4 weights (quantize.h) into panels (cpu/kernel_table.h).
namespace sluice::kernels {
namespace {

using cpu::byte_tile_offset;
using cpu::kByteTileBytes;
using cpu::kByteTileDepth;
using cpu::kPanelColumns;
using cpu::kTileColumns;

constexpr int kCodeZero = 8;

// Where a weight's row lies.
struct Place {
  uint8_t* panel;
  uint8_t* tiles;  // of the row's sixteen columns
  int64_t column;  // in the panel

  Place(const PackedWeight& weight, int64_t row)
      : panel(static_cast<uint8_t*>(weight.panels.data()) +
              row / kPanelColumns * weight.panel_bytes),
        column(row % kPanelColumns) {
    tiles = panel + column / kTileColumns * tile_bytes(weight) + head_bytes(weight);
  }

  static int64_t tile_bytes(const PackedWeight& weight) {
    return weight.format == WeightFormat::kInt8 ? kByteTileBytes : kByteTileBytes / 2;
  }
  static int64_t head_bytes(const PackedWeight& weight) {
    return weight.format == WeightFormat::kInt8
               ? 0
               : cpu::multiplier_bytes(weight.depth_tiles, weight.group_size);
  }
  // The byte of element k and, in int4, how far to shift it.
  uint8_t* byte(const PackedWeight& weight, int64_t k) const {
    const int64_t depth = k % kByteTileDepth;
    const int64_t offset = weight.format == WeightFormat::kInt8
                               ? byte_tile_offset(depth, column % kTileColumns)
                               : byte_tile_offset(depth / 8 * 4 + depth % 4, column % kTileColumns);
    return tiles + k / kByteTileDepth * 2 * tile_bytes(weight) + offset;
  }
  static int shift(int64_t k) { return k % 8 < 4 ? 0 : 4; }
  uint8_t& multiplier(int64_t group) const { return panel[group * kPanelColumns + column]; }
};

void pack_row_int8(const PackedWeight& weight, int64_t row, const int8_t* values) {
  const Place place(weight, row);
  int32_t sum = 0;
  for (int64_t k = 0; k < weight.columns; k += 4) {
    const int64_t count = std::min<int64_t>(4, weight.columns - k);
    std::memcpy(place.byte(weight, k), values + k, count);
    for (int64_t i = 0; i < count; ++i) sum += values[k + i];
  }
  static_cast<int32_t*>(weight.sums.data())[row] = sum;
}

void pack_row_int4(const PackedWeight& weight, int64_t row, const uint8_t* values,
                   const float* scales, float base) {
  const Place place(weight, row);
  int32_t sum = 0;
  for (int64_t first = 0; first < weight.columns; first += weight.group_size) {
    const int64_t group = first / weight.group_size;
    const int multiplier = multiplier_of(scales[group], base);
    place.multiplier(group) = static_cast<uint8_t>(multiplier);
    const int64_t end = std::min(first + weight.group_size, weight.columns);
    for (int64_t k = first; k < end; ++k) {
      const int code = k % 2 == 0 ? values[k / 2] & 15 : values[k / 2] >> 4;
      uint8_t* const byte = place.byte(weight, k);
      const int shift = Place::shift(k);
      *byte = static_cast<uint8_t>((*byte & (0xf0 >> shift)) | code << shift);
      sum += multiplier * (code - kCodeZero);
    }
  }
  static_cast<int32_t*>(weight.sums.data())[row] = sum;
}

PackedWeight describe(const QuantizedWeight& weight, at::ScalarType activations) {
  PackedWeight packed;
  packed.type = dtype_of(activations);
  packed.format = format_of(weight);
  packed.group_size = weight.group_size;
  packed.rows = weight.values.size(0);
  packed.columns = weight.values.size(1) * (packed.format == WeightFormat::kInt4 ? 2 : 1);
  set_geometry(packed);
  return packed;
}

// Rows and columns past the weight's count as zero.
void clear_panel(const PackedWeight& weight, int64_t panel) {
  auto* const bytes = static_cast<uint8_t*>(weight.panels.data()) + panel * weight.panel_bytes;
  const int64_t head = Place::head_bytes(weight);
  std::memset(bytes, 0, head);
  constexpr int kTwoZeros = kCodeZero << 4 | kCodeZero;
  std::memset(bytes + head, weight.format == WeightFormat::kInt8 ? 0 : kTwoZeros,
              weight.panel_bytes - head);
  for (int64_t i = panel * kPanelColumns; i < (panel + 1) * kPanelColumns; ++i) {
    static_cast<float*>(weight.scales.data())[i] = 0;
    static_cast<int32_t*>(weight.sums.data())[i] = 0;
  }
}

// False if a row is not as quantize.h says.
bool pack_row(const PackedWeight& packed, const QuantizedWeight& weight, int64_t row) {
  const int64_t num_scales = weight.scales.size(1);
  const float* scales = weight.scales.const_data_ptr<float>() + row * num_scales;
  if (!are_scales(scales, num_scales)) return false;
  float scale = scales[0];
  if (packed.format == WeightFormat::kInt8) {
    const auto* values = weight.values.const_data_ptr<int8_t>() + row * packed.columns;
    const auto* bytes = reinterpret_cast<const uint8_t*>(values);
    if (!are_values(bytes, packed.columns, packed.format)) return false;
    pack_row_int8(packed, row, values);
  } else {
    scale = base_of(scales, num_scales);
    if (scale < 0.0f) return false;
    pack_row_int4(packed, row, weight.values.const_data_ptr<uint8_t>() + row * packed.columns / 2,
                  scales, scale);
  }
  static_cast<float*>(packed.scales.data())[row] = scale;
  return true;
}

template <typename T>
void unpack(const PackedWeight& weight, int64_t row, T* output) {
  const Place place(weight, row);
  const float scale = static_cast<const float*>(weight.scales.data())[row];
  for (int64_t k = 0; k < weight.columns; ++k) {
    const uint8_t byte = *place.byte(weight, k);
    if (weight.format == WeightFormat::kInt8) {
      output[k] = static_cast<T>(static_cast<float>(static_cast<int8_t>(byte)) * scale);
    } else {
      const int code = byte >> Place::shift(k) & 15;
      const int value = (code - kCodeZero) * place.multiplier(k / weight.group_size);
      output[k] = static_cast<T>(static_cast<float>(value) * scale);
    }
  }
}

}  // namespace

Result<at::Tensor> pack_weight(const QuantizedWeight& weight, at::ScalarType activations) {
  if (const Result<void> checked = check_quantized(weight, activations); !checked) {
    return std::unexpected(checked.error());
  }
  if (weight.keeps_activations) {
    return invalid_argument("a quantized weight that keeps its activations is for GPUs");
  }
  if (format_of(weight) == WeightFormat::kFloat8) {
    return invalid_argument("an fp8 weight is for GPUs");
  }
  auto packed = std::make_shared<PackedWeight>(describe(weight, activations));
  if (const Result<void> allocated = allocate(*packed); !allocated) {
    return std::unexpected(allocated.error());
  }
  std::atomic<int64_t> bad_row{-1};
  auto task = [&](int64_t panel) {
    clear_panel(*packed, panel);
    const int64_t end = std::min(packed->rows, (panel + 1) * kPanelColumns);
    for (int64_t row = panel * kPanelColumns; row < end; ++row) {
      if (!pack_row(*packed, weight, row)) bad_row.store(row);
    }
  };
  parallel_for(packed->num_panels, std::ref(task));
  if (bad_row.load() >= 0) {
    return bad_quantized_row(weight, bad_row.load());
  }
  return as_tensor(std::move(packed));
}

void unpack_quantized_row(const PackedWeight& weight, int64_t row, void* output) {
  switch (weight.type) {
    case DType::kF32:
      return unpack(weight, row, static_cast<float*>(output));
    case DType::kF16:
      return unpack(weight, row, static_cast<c10::Half*>(output));
    case DType::kBF16:
      return unpack(weight, row, static_cast<c10::BFloat16*>(output));
  }
}

}  // namespace sluice::kernels
