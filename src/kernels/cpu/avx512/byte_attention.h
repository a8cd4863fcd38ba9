#pragma once

#include "kernels/cpu/avx512/fixed_attention.h"
#include "kernels/cpu/avx512/with_rows.h"

namespace sluice::kernels::cpu::avx512 {

// A Product (fixed_attention.h) of VPDPBUSD: four numbers of a row's query, or four of its weights,
// meet sixteen positions, or numbers of D, at a time. The instruction's first factor has no sign:
// a query is made positive by adding kZero to its levels, and kZero times the sum of a position's
// keys is taken off its score.
template <typename Vec>
class ByteTiles {
 public:
  static constexpr bool kReadsAhead = true;

  explicit ByteTiles(int64_t head_size) : head_size_(head_size) {}

  void start(int64_t rows) { rows_ = rows; }

  void set_query(int64_t r, int64_t d, __m512i levels) {
    const __m512i number = _mm512_add_epi32(levels, _mm512_set1_epi32(kZero));
    set_words(_mm512_srli_epi32(number, 8), queries_[kHigh] + d / 4, r);
    set_words(number, queries_[kLow] + d / 4, r);
  }

  void set_weights(int64_t r, int64_t position, __m512i levels) {
    store_low_bytes(_mm512_srli_epi32(levels, 8), weights_[kHigh][r] + position);
    store_low_bytes(levels, weights_[kLow][r] + position);
  }

  void start_scores() {}
  int64_t groups_at_once() const { return kGroupsAtOnce; }

  void score(const int8_t* const* keys, int64_t count, int64_t to, const int8_t* const* ahead) {
    for (int64_t g = 0; g < count; ++g, to += kGroup) {
      in_parts([&](auto rows, int64_t first, bool is_first) {
        with_choice(ahead != nullptr && is_first, [&](auto reads_ahead) {
          score_group<rows.value, reads_ahead.value>(keys[g], first, to,
                                                     reads_ahead.value ? ahead[g] : nullptr);
        });
      });
    }
  }

  __m512i raw(int64_t r, int64_t position) const {
    return _mm512_loadu_si512(scores_[r] + position);
  }

  void mix(const int8_t* const* values, int64_t num_groups, const int8_t* const* ahead) {
    in_parts([&](auto rows, int64_t first, bool is_first) {
      constexpr int kColumns = columns_at_once(rows.value);
      int64_t d = 0;
      const auto run = [&](auto columns) {
        for (; d + 16 * columns.value <= head_size_; d += 16 * columns.value) {
          const Mixed mixed{values, ahead, num_groups, first, d};
          with_choice(ahead != nullptr && is_first, [&](auto reads_ahead) {
            mix_some<rows.value, columns.value, reads_ahead.value>(mixed);
          });
        }
      };
      run(RowCount<kColumns>{});
      if constexpr (kColumns > 1) run(RowCount<1>{});
    });
  }

  __m512i mixed(int64_t r, int64_t d) const {
    return _mm512_loadu_si512(sums_ + r * head_size_ + d);
  }

 private:
  static constexpr int kZero = 1 << 14;
  static_assert(kZero > kQueryLevels);
  static constexpr int kHigh = 0, kLow = 1;
  // Rows whose two parts' sums fit into the registers.
  static constexpr int kRowsAtOnce = 8;
  static constexpr int columns_at_once(int rows) { return rows <= 2 ? 4 : rows <= 5 ? 2 : 1; }

  struct Mixed {
    const int8_t* const* values;
    const int8_t* const* ahead;
    int64_t num_groups;
    int64_t first_row;
    int64_t first;  // number of D
  };

  // Calls visit(RowCount, first row, whether it is the first call).
  template <typename Visit>
  void in_parts(Visit visit) const {
    for (int64_t first = 0; first < rows_; first += kRowsAtOnce) {
      const int64_t left = rows_ - first;
      with_rows<kRowsAtOnce>(left < kRowsAtOnce ? left : kRowsAtOnce,
                             [&](auto rows) { visit(rows, first, first == 0); });
    }
  }

  // The lowest bytes of sixteen numbers, as a row's next four words.
  static void set_words(__m512i numbers, uint32_t (*words)[kTileRows], int64_t r) {
    uint32_t four[4];
    store_low_bytes(numbers, four);
    for (int i = 0; i < 4; ++i) words[i][r] = four[i];
  }

  // Four bytes of a row, for all lanes.
  static __m512i quad(const void* p) {
    int four;
    __builtin_memcpy(&four, p, sizeof(four));
    return _mm512_set1_epi32(four);
  }

  template <int R, bool kAhead>
  void score_group(const int8_t* keys, int64_t first_row, int64_t to, const int8_t* ahead) {
    __m512i high[R], low[R];
    __m512i all = _mm512_setzero_si512();
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) high[r] = low[r] = _mm512_setzero_si512();
    for (int64_t d = 0; d < head_size_; d += 4) {
      const uint32_t* high_queries = queries_[kHigh][d / 4] + first_row;
      const uint32_t* low_queries = queries_[kLow][d / 4] + first_row;
      const __m512i positions = _mm512_loadu_si512(keys + d * kGroup);
      if constexpr (kAhead) simd::prefetch_far_line(ahead + d * kGroup);
      all = _mm512_dpbusd_epi32(all, _mm512_set1_epi8(1), positions);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        high[r] = _mm512_dpbusd_epi32(high[r], quad(high_queries + r), positions);
        low[r] = _mm512_dpbusd_epi32(low[r], quad(low_queries + r), positions);
      }
    }
    const __m512i excess = _mm512_slli_epi32(all, 14);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      _mm512_storeu_si512(scores_[first_row + r] + to,
                          _mm512_sub_epi32(joined(high[r], low[r], 8), excess));
    }
  }

  template <int R, int C, bool kAhead>
  void mix_some(const Mixed& mixed) {
    const uint8_t* weights[2] = {weights_[kHigh][mixed.first_row], weights_[kLow][mixed.first_row]};
    __m512i high[R][C], low[R][C];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
      for (int c = 0; c < C; ++c) high[r][c] = low[r][c] = _mm512_setzero_si512();
    }
    for (int64_t g = 0; g < mixed.num_groups; ++g) {
      const int8_t* value = mixed.values[g] + 4 * mixed.first;
      for (int64_t i = 0; i < kGroup; i += 4, value += 4 * head_size_) {
        __m512i numbers[C];
#pragma GCC unroll 4
        for (int c = 0; c < C; ++c) {
          numbers[c] = _mm512_loadu_si512(value + 64 * c);
          if constexpr (kAhead) {
            simd::prefetch_far_line(mixed.ahead[g] + 4 * mixed.first + i * head_size_ + 64 * c);
          }
        }
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
          const int64_t place = r * kSoftmaxSplit + g * kGroup + i;
          const __m512i high_weights = quad(weights[kHigh] + place);
          const __m512i low_weights = quad(weights[kLow] + place);
#pragma GCC unroll 4
          for (int c = 0; c < C; ++c) {
            high[r][c] = _mm512_dpbusd_epi32(high[r][c], high_weights, numbers[c]);
            low[r][c] = _mm512_dpbusd_epi32(low[r][c], low_weights, numbers[c]);
          }
        }
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
      for (int c = 0; c < C; ++c) {
        _mm512_storeu_si512(sums_ + (mixed.first_row + r) * head_size_ + mixed.first + 16 * c,
                            joined(high[r][c], low[r][c], 8));
      }
    }
  }

  int64_t head_size_;
  int64_t rows_ = 0;
  alignas(64) uint32_t queries_[2][kMaxHeadSize / 4][kTileRows];  // a row's four numbers a word
  alignas(64) int32_t scores_[kTileRows][simd::kScoreStride];
  alignas(64) uint8_t weights_[2][kTileRows][kSoftmaxSplit];
  alignas(64) int32_t sums_[kTileRows * kMaxHeadSize];
};

}  // namespace sluice::kernels::cpu::avx512
