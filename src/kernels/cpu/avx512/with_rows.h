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

template <bool kValue>
struct Choice {
  static constexpr bool value = kValue;
};

// Calls visit(Choice<is>{}), so that a loop has no branch for what it need not do.
template <typename Visit>
static inline void with_choice(bool is, Visit visit) {
  if (is) return visit(Choice<true>{});
  visit(Choice<false>{});
}

}  // namespace sluice::kernels::cpu::avx512
