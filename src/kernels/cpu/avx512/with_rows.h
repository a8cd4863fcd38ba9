#pragma once

namespace sluice::kernels::cpu::avx512 {

template <int N>
struct RowCount {
  static constexpr int value = N;
};

// Calls visit(RowCount<rows>{}), 1 <= rows <= kMost: loops over so many rows are unrolled whole, so
// that their sums live in registers.
template <int kMost, typename Visit>
static inline void with_rows(int64_t rows, Visit visit) {
  if constexpr (kMost > 1) {
    if (rows < kMost) return with_rows<kMost - 1>(rows, visit);
  }
  visit(RowCount<kMost>{});
}

}  // namespace sluice::kernels::cpu::avx512
