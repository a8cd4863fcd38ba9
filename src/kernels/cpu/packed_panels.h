#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>

#include "kernels/cpu/kernel_table.h"
#include "sluice/error.h"

// The inside of a packed weight, for the CPU kernels only.
namespace sluice::kernels {

// Memory that starts on a 2 MiB boundary where it is that large, and asks for huge pages: a weight
// is read once a step from end to end, and small pages cost a tenth of the bandwidth.
class HugeBuffer final {
 public:
  HugeBuffer() = default;
  // Throws std::bad_alloc.
  explicit HugeBuffer(int64_t bytes);
  // A view of memory that `owner` keeps alive: a mapped file. Nobody may write to it.
  HugeBuffer(const void* data, int64_t bytes, std::shared_ptr<const void> owner);

  void* data() const { return data_.get(); }
  int64_t bytes() const { return bytes_; }

 private:
  struct Free {
    std::shared_ptr<const void> owner;  // of a view, which frees nothing
    void operator()(void* data) const;
  };
  std::unique_ptr<void, Free> data_;
  int64_t bytes_ = 0;
};

// A weight [rows, columns] in panels (kernel_table.h).
struct PackedWeight {
  DType type = DType::kF32;  // of the activations that it meets
  WeightFormat format = WeightFormat::kPlain;
  int64_t rows = 0;         // N
  int64_t columns = 0;      // K
  int64_t group_size = 0;   // int4
  int64_t num_panels = 0;   // N / 32, rounded up
  int64_t depth_tiles = 0;  // K / tile_depth(format), rounded up
  int64_t panel_bytes = 0;
  HugeBuffer panels;
  HugeBuffer scales;  // int8 and int4: float32 [32 num_panels]
  HugeBuffer sums;    // int8 and int4: int32 [32 num_panels]
};

// What the opaque tensor holds. Copies of the tensor share it; nobody changes it.
using PackedHandle = std::shared_ptr<const PackedWeight>;

// Sets num_panels, depth_tiles and panel_bytes by the members before them.
void set_geometry(PackedWeight& weight);

// Memory for the weight that the other members describe.
Result<void> allocate(PackedWeight& weight);

// The opaque tensor that says the weight's sizes and the dtype of its activations.
at::Tensor as_tensor(PackedHandle weight);

// What `tensor` packs, or nullptr for a plain tensor. Lives as long as `tensor`.
const PackedWeight* packed_weight(const at::Tensor& tensor);

// Writes weight[row, :] to `output`, in the activations' dtype.
void unpack_row(const PackedWeight& weight, int64_t row, void* output);
void unpack_quantized_row(const PackedWeight& weight, int64_t row, void* output);

}  // namespace sluice::kernels
