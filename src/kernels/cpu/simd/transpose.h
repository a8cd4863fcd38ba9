#pragma once

#include <immintrin.h>

#include <cstdint>

// Small transpositions with AVX2 instructions, which all instruction sets here have.
namespace sluice::kernels::cpu::simd {

// Eight rows of eight 32-bit words: output[16 c + r] = input[r][word + c].
static inline void transpose_words(const uint32_t* const* input, int64_t word, uint32_t* output) {
  __m256 row[8], pair[8];
  for (int i = 0; i < 8; ++i) {
    row[i] = _mm256_loadu_ps(reinterpret_cast<const float*>(input[i] + word));
  }
  for (int i = 0; i < 8; i += 2) {
    pair[i] = _mm256_unpacklo_ps(row[i], row[i + 1]);
    pair[i + 1] = _mm256_unpackhi_ps(row[i], row[i + 1]);
  }
  for (int i = 0; i < 8; i += 4) {
    row[i] = _mm256_shuffle_ps(pair[i], pair[i + 2], 0x44);
    row[i + 1] = _mm256_shuffle_ps(pair[i], pair[i + 2], 0xee);
    row[i + 2] = _mm256_shuffle_ps(pair[i + 1], pair[i + 3], 0x44);
    row[i + 3] = _mm256_shuffle_ps(pair[i + 1], pair[i + 3], 0xee);
  }
  for (int i = 0; i < 4; ++i) {
    _mm256_storeu_ps(reinterpret_cast<float*>(output + i * 16),
                     _mm256_permute2f128_ps(row[i], row[i + 4], 0x20));
    _mm256_storeu_ps(reinterpret_cast<float*>(output + (i + 4) * 16),
                     _mm256_permute2f128_ps(row[i], row[i + 4], 0x31));
  }
}

// Rows [head_size] of C into lanes of a group of `width`, 32 bits at a time:
// word c of row r becomes word c * width + lane + r.
template <typename C>
static inline void scatter_words(const C* const* rows, int64_t count, int64_t lane, int64_t width,
                                 int64_t head_size, C* group) {
  const int64_t num_words = head_size * static_cast<int64_t>(sizeof(C)) / 4;
  auto* output = reinterpret_cast<uint32_t*>(group);
  const uint32_t* words[16];
  for (int64_t r = 0; r < count; ++r) words[r] = reinterpret_cast<const uint32_t*>(rows[r]);
  int64_t word = 0;
  if (count == 16 && width == 16) {
    for (; word + 8 <= num_words; word += 8) {
      transpose_words(words, word, output + word * 16);
      transpose_words(words + 8, word, output + word * 16 + 8);
    }
  }
  for (int64_t r = 0; r < count; ++r) {
    for (int64_t c = word; c < num_words; ++c) output[c * width + lane + r] = words[r][c];
  }
}

// output[2 i] = a[i], output[2 i + 1] = b[i], sixteen of each.
static inline void interleave(const uint16_t* a, const uint16_t* b, uint16_t* output) {
  const __m256i even = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(a));
  const __m256i odd = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(b));
  const __m256i low = _mm256_unpacklo_epi16(even, odd);
  const __m256i high = _mm256_unpackhi_epi16(even, odd);
  auto* lines = reinterpret_cast<__m256i*>(output);
  _mm256_storeu_si256(lines, _mm256_permute2x128_si256(low, high, 0x20));
  _mm256_storeu_si256(lines + 1, _mm256_permute2x128_si256(low, high, 0x31));
}

// output[4 i + r] = rows[r][first + i], sixteen of each of four rows.
static inline void interleave(const int8_t* const* rows, int64_t first, int8_t* output) {
  __m128i row[4];
  for (int r = 0; r < 4; ++r) {
    row[r] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(rows[r] + first));
  }
  const __m128i low[2] = {_mm_unpacklo_epi8(row[0], row[1]), _mm_unpacklo_epi8(row[2], row[3])};
  const __m128i high[2] = {_mm_unpackhi_epi8(row[0], row[1]), _mm_unpackhi_epi8(row[2], row[3])};
  auto* lines = reinterpret_cast<__m128i*>(output);
  _mm_storeu_si128(lines, _mm_unpacklo_epi16(low[0], low[1]));
  _mm_storeu_si128(lines + 1, _mm_unpackhi_epi16(low[0], low[1]));
  _mm_storeu_si128(lines + 2, _mm_unpacklo_epi16(high[0], high[1]));
  _mm_storeu_si128(lines + 3, _mm_unpackhi_epi16(high[0], high[1]));
}

}  // namespace sluice::kernels::cpu::simd
