#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "sampling/row_kernels.h"

namespace sluice::sampling {

// The machine's build of the inner loops.
const RowKernels& row_kernels();

// A row of logits and what one pass over it tells. Reused from row to row for its memory.
//
// "Order" below is: larger logit first, of equal ones the lower index first.
class Row final {
 public:
  void reserve(int32_t size);
  // Looks at z [size]. The row keeps the span, not a copy.
  void scan(std::span<const float> z);

  std::span<const float> z() const { return z_; }
  int32_t size() const { return static_cast<int32_t>(z_.size()); }
  int32_t num_groups() const { return static_cast<int32_t>(group_keys_.size()); }
  std::span<const float> group(int32_t g) const;
  int32_t group_key(int32_t g) const { return group_keys_[g]; }  // the largest
  bool is_finite_or_minus_infinity() const;
  bool has_anything() const { return range_.largest > kKeyOfMinusInfinity; }
  float max() const;
  float min() const;  // may be -infinity

  // The first index in the order.
  int32_t argmax() const;
  // A key such that at least `count` elements are not below it, and few more.
  int32_t key_reached_by(int32_t count);

 private:
  std::span<const float> z_;
  std::vector<int32_t> group_keys_;
  std::vector<int32_t> scratch_;
  KeyRange range_{};
};

using kernels::from_key;
using kernels::key_of;
using kernels::natural_log;

}  // namespace sluice::sampling
