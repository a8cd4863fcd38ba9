#pragma once

#include <cstdint>

#include "kernels/cuda/device_api.h"

// How a weight's numbers lie on a CUDA device, for kernels and for tests.
//
// The matrix units multiply fragments: of a tile of 16 rows and 8 words of K (a word is 32 bits:
// two numbers of 16 bits, or four of 8) lane l of a warp holds four words (PTX ISA, mma.m16n8k16
// and m16n8k32): rows l / 4 and l / 4 + 8, words l % 4 and l % 4 + 4. A packed weight has them
// where a lane reads them: tile after tile in the order of reading, in a tile lane after lane, 16
// bytes each. So a warp reads 512 bytes in a row, and neither shared memory nor a shuffle stands
// between a weight and its product.
//
// Which of K's words a unit calls "word 0" is ours to say, as long as weights and activations
// agree. Two tiles make a pair of 16 words of K, of which a lane's quarter l % 4 has 4 in a row: so
// a lane reads its share of a row of activations with one 16-byte load.
namespace sluice::kernels::cuda {

inline constexpr int64_t kTileRows = 16;      // of N
inline constexpr int64_t kPairWords = 16;     // of K, in a pair of tiles
inline constexpr int64_t kTileBytes = 512;    // 32 lanes of 16 bytes
inline constexpr int64_t kPairBytes = 1024;   // two tiles
inline constexpr int64_t kRowPairBytes = 64;  // a row of activations' share of a pair

constexpr int64_t divide_up(int64_t count, int64_t unit) {
  return (count + unit - 1) / unit;
}

// A lane's part of a tile: the word of the pair in its register i is word_of(quarter, tile, i), and
// its row row_of(lane, i). Of activations it is the quarter's words 2 tile and 2 tile + 1.
constexpr int64_t row_of(int64_t lane, int64_t i) {
  return lane / 4 + i % 2 * 8;
}
constexpr int64_t word_of(int64_t quarter, int64_t tile, int64_t i) {
  return quarter * 4 + tile * 2 + i / 2;
}

// Pairs of tiles that `columns` numbers of `bits` bits fill.
constexpr int64_t num_pairs(int64_t columns, int64_t bits) {
  return divide_up(columns * bits, kPairWords * 32);
}

// float32 has no matrix unit of its precision: its "tiles" are the plain matrix.
constexpr bool is_plain_matrix(const Weight& weight) {
  return weight.format == WeightFormat::kPlain && weight.type == DType::kF32;
}

// Bits of a number as the matrix unit multiplies it, and as files and tiles have it. What becomes
// wider on its way has pairs of half the bytes, 16 a lane. Of int4's codes word i is the lane's
// word i of K with the codes of its row in the low halves of the bytes and those of row + 8 in the
// high ones. Of bytes that become 16 bits, words 2 i and 2 i + 1 are the lane's numbers 4 i to
// 4 i + 3 of its row and of row + 8.
constexpr int64_t number_bits(const Weight& weight) {
  return weight.format == WeightFormat::kPlain || weight.is_wide ? size_of(weight.type) * 8 : 8;
}
constexpr int64_t file_bits(const Weight& weight) {
  return weight.format == WeightFormat::kPlain  ? number_bits(weight)
         : weight.format == WeightFormat::kInt4 ? 4
                                                : 8;
}

// Bytes of a weight's tiles.
constexpr int64_t weight_bytes(const Weight& weight) {
  if (is_plain_matrix(weight)) return weight.rows * weight.columns * 4;
  const bool is_half = number_bits(weight) != file_bits(weight);
  return divide_up(weight.rows, kTileRows) * num_pairs(weight.columns, number_bits(weight)) *
         (is_half ? kPairBytes / 2 : kPairBytes);
}

// int4's multipliers are [rows of tiles][groups][16], a byte each; a group is 32 or 128 numbers of
// K, rounded up to whole pairs.
constexpr int64_t num_groups(int64_t columns, int64_t group_size) {
  const int64_t pairs = num_pairs(columns, 8);
  return group_size == 32 ? pairs * 2 : divide_up(pairs, 2);
}
constexpr int64_t multiplier_offset(int64_t row, int64_t group, int64_t groups) {
  return (row / kTileRows * groups + group) * kTileRows + row % kTileRows;
}

// Where the tiles have the word that holds weight[row, k], in words. Rows and columns past the
// weight's are zero.
constexpr int64_t word_offset(int64_t row, int64_t word, int64_t pairs_per_row) {
  const int64_t pair = row / kTileRows * pairs_per_row + word / kPairWords;
  const int64_t quarter = word % kPairWords / 4;
  const int64_t tile = word % 4 / 2;
  const int64_t lane = row % 8 * 4 + quarter;
  const int64_t i = word % 2 * 2 + row % kTileRows / 8;
  return ((pair * 2 + tile) * 32 + lane) * 4 + i;
}

// Where the tiles have weight[row, k] of `columns` columns of `bits` bits, in numbers.
constexpr int64_t number_offset(int64_t row, int64_t k, int64_t columns, int64_t bits) {
  const int64_t numbers = 32 / bits;  // of a word
  return word_offset(row, k / numbers, num_pairs(columns, bits)) * numbers + k % numbers;
}

// The same of bytes that become 16 bits.
constexpr int64_t wide_offset(int64_t row, int64_t k, int64_t columns) {
  const int64_t pair = row / kTileRows * num_pairs(columns, 16) + k / 32;
  const int64_t lane = row % 8 * 4 + k % 32 / 8;
  return (pair * 32 + lane) * 16 + (k % 8 / 4 * 2 + row % kTileRows / 8) * 4 + k % 4;
}

}  // namespace sluice::kernels::cuda
