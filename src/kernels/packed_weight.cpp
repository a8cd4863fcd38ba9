#include "kernels/packed_weight.h"

#include <ATen/OpaqueTensorImpl.h>
#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <new>

#include "kernels/checks.h"
#include "kernels/compute.h"
#include "kernels/cpu/packed_panels.h"
#include "kernels/cuda/cuda_device.h"

namespace sluice::kernels {
namespace {

using cpu::kPanelColumns;
using cpu::kTileColumns;
using cpu::kTileDepth;
using cpu::kTileElements;
using Impl = at::OpaqueTensorImpl<PackedHandle>;

constexpr int64_t kHugePageBytes = int64_t{2} << 20;
constexpr int64_t kCacheLineBytes = 64;

// One tile of float32 or float16: element after element of K.  source: [16 rows at most][K]
template <typename T>
void pack_plain_tile(const T* source, int64_t stride, int64_t rows, int64_t depth, T* tile) {
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t k = 0; k < depth; ++k) tile[k * kTileColumns + row] = source[row * stride + k];
  }
}

// One tile of bfloat16: pairs of K side by side.
void pack_paired_tile(const uint16_t* source, int64_t stride, int64_t rows, int64_t depth,
                      uint16_t* tile) {
  for (int64_t row = 0; row < rows; ++row) {
    const uint16_t* from = source + row * stride;
    for (int64_t k = 0; k + 2 <= depth; k += 2) {
      std::memcpy(tile + (k / 2 * kTileColumns + row) * 2, from + k, 4);
    }
    if (depth % 2 == 1) tile[(depth / 2 * kTileColumns + row) * 2] = from[depth - 1];
  }
}

template <typename T>
void pack_panel(const PackedWeight& weight, const T* rows, int64_t panel) {
  T* tile = static_cast<T*>(weight.panels.data()) + panel * weight.depth_tiles * 2 * kTileElements;
  for (int64_t t = 0; t < weight.depth_tiles; ++t) {
    for (int64_t half = 0; half < 2; ++half, tile += kTileElements) {
      const int64_t row = panel * kPanelColumns + half * kTileColumns;
      const int64_t num_rows = std::min(kTileColumns, weight.rows - row);
      const int64_t depth = std::min(kTileDepth, weight.columns - t * kTileDepth);
      if (num_rows < kTileColumns || depth < kTileDepth) {
        std::memset(static_cast<void*>(tile), 0, kTileElements * sizeof(T));
      }
      if (num_rows <= 0) continue;
      const T* source = rows + row * weight.columns + t * kTileDepth;
      if constexpr (sizeof(T) == 2) {
        if (weight.type == DType::kBF16) {
          pack_paired_tile(source, weight.columns, num_rows, depth, tile);
          continue;
        }
      }
      pack_plain_tile(source, weight.columns, num_rows, depth, tile);
    }
  }
}

}  // namespace

HugeBuffer::HugeBuffer(int64_t bytes) : bytes_(bytes) {
  const int64_t alignment = bytes >= kHugePageBytes ? kHugePageBytes : kCacheLineBytes;
  void* data = nullptr;
  if (posix_memalign(&data, alignment, std::max(bytes, kCacheLineBytes)) != 0) {
    throw std::bad_alloc();
  }
  data_.reset(data);
  // Only a wish: without huge pages everything works, slower.
  if (bytes >= kHugePageBytes) madvise(data, bytes, MADV_HUGEPAGE);
}

HugeBuffer::HugeBuffer(const void* data, int64_t bytes, std::shared_ptr<const void> owner)
    : data_(const_cast<void*>(data), Free{std::move(owner)}), bytes_(bytes) {}

void HugeBuffer::Free::operator()(void* data) const {
  if (!owner) std::free(data);
}

void set_geometry(PackedWeight& weight) {
  const int64_t depth = cpu::tile_depth(weight.format);
  weight.num_panels = (weight.rows + kPanelColumns - 1) / kPanelColumns;
  weight.depth_tiles = (weight.columns + depth - 1) / depth;
  switch (weight.format) {
    case WeightFormat::kPlain:
      weight.panel_bytes =
          weight.depth_tiles * 2 * kTileElements * (weight.type == DType::kF32 ? 4 : 2);
      return;
    case WeightFormat::kInt8:
      weight.panel_bytes = weight.depth_tiles * 2 * cpu::kByteTileBytes;
      return;
    case WeightFormat::kInt4:
      weight.panel_bytes = cpu::multiplier_bytes(weight.depth_tiles, weight.group_size) +
                           weight.depth_tiles * cpu::kByteTileBytes;
      return;
    case WeightFormat::kFloat8:
      return;  // on GPUs only
  }
}

Result<at::Tensor> pack_weight(const at::Tensor& weight) {
  const at::ScalarType type = weight.scalar_type();
  if (type != at::kFloat && type != at::kHalf && type != at::kBFloat16) {
    return invalid_argument(std::string("weight has dtype ") + c10::toString(type) +
                            ", expected float32, float16 or bfloat16");
  }
  if (is_packed(weight)) return invalid_argument("weight is packed already");
  if (weight.dim() != 2 || !weight.is_cpu() || !weight.is_contiguous()) {
    return invalid_argument("weight has " + std::to_string(weight.dim()) +
                            " dimensions, expected 2, contiguous, on the CPU");
  }
  if (weight.numel() == 0) {
    return invalid_argument("weight is " + std::to_string(weight.size(0)) + " x " +
                            std::to_string(weight.size(1)) + ", expected at least 1 x 1");
  }
  auto packed = std::make_shared<PackedWeight>();
  packed->type = dtype_of(type);
  packed->rows = weight.size(0);
  packed->columns = weight.size(1);
  set_geometry(*packed);
  if (const Result<void> allocated = allocate(*packed); !allocated) {
    return std::unexpected(allocated.error());
  }
  const void* rows = weight.const_data_ptr();
  auto pack = [&](int64_t panel) {
    if (type == at::kFloat) {
      pack_panel(*packed, static_cast<const float*>(rows), panel);
    } else {
      pack_panel(*packed, static_cast<const uint16_t*>(rows), panel);
    }
  };
  parallel_for(packed->num_panels, std::ref(pack));
  return as_tensor(std::move(packed));
}

Result<void> allocate(PackedWeight& weight) {
  const int64_t bytes = weight.num_panels * weight.panel_bytes;
  try {
    weight.panels = HugeBuffer(bytes);
    if (weight.format != WeightFormat::kPlain) {
      weight.scales = HugeBuffer(weight.num_panels * kPanelColumns * 4);
      weight.sums = HugeBuffer(weight.num_panels * kPanelColumns * 4);
    }
  } catch (const std::bad_alloc&) {
    return fail(ErrorCode::kResourceExhausted,
                "no memory for a packed weight of " + std::to_string(bytes) + " bytes");
  }
  return {};
}

at::Tensor as_tensor(PackedHandle weight) {
  const at::ScalarType type = scalar_type_of(weight->type);
  const int64_t sizes[] = {weight->rows, weight->columns};
  return at::detail::make_tensor<Impl>(c10::DispatchKeySet(c10::DispatchKey::CPU),
                                       c10::scalarTypeToTypeMeta(type), c10::Device(c10::kCPU),
                                       std::move(weight), at::IntArrayRef(sizes));
}

const PackedWeight* packed_weight(const at::Tensor& tensor) {
  if (!tensor.defined() || tensor.unsafeGetTensorImpl()->has_storage()) return nullptr;
  const auto* impl = dynamic_cast<const Impl*>(tensor.unsafeGetTensorImpl());
  return impl == nullptr ? nullptr : impl->opaque_handle().get();
}

bool is_packed(const at::Tensor& tensor) {
  return packed_weight(tensor) != nullptr || cuda::packed_weight(tensor).has_value();
}

int64_t packed_bytes(const at::Tensor& packed) {
  const PackedWeight* weight = packed_weight(packed);
  if (weight == nullptr) return cuda::packed_bytes(packed);
  return weight->panels.bytes() + weight->scales.bytes() + weight->sums.bytes();
}

void unpack_row(const PackedWeight& weight, int64_t row, void* output) {
  if (weight.format != WeightFormat::kPlain) return unpack_quantized_row(weight, row, output);
  const int64_t first = row / kPanelColumns * weight.depth_tiles * 2 * kTileElements +
                        row % kPanelColumns / kTileColumns * kTileElements;
  const int64_t column = row % kTileColumns;
  auto copy = [&]<typename T>(const T* panels, T* to) {
    for (int64_t k = 0; k < weight.columns; ++k) {
      to[k] = panels[first + k / kTileDepth * 2 * kTileElements +
                     cpu::tile_offset(weight.type, k % kTileDepth, column)];
    }
  };
  if (weight.type == DType::kF32) {
    copy(static_cast<const float*>(weight.panels.data()), static_cast<float*>(output));
  } else {
    copy(static_cast<const uint16_t*>(weight.panels.data()), static_cast<uint16_t*>(output));
  }
}

}  // namespace sluice::kernels
