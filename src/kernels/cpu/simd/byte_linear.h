#pragma once

#include "kernels/cpu/simd/code_groups.h"
#include "kernels/cpu/simd/linear.h"

// Packed linear with int8 and int4 weights: each row of x is rounded to int8 with one scale, the
// sums are exact integers, and the two scales are applied in float32 at the end. The order of the
// products does not matter, so every instruction set computes the same bits.
//
// A product P for bytes adds to those of linear.h what its sums mean, and how it takes int4: as
// int8 tiles made of the codes, with as many sums beside them as there is room for (kCodeSums), or
// as in code_groups.h (kSumsGroups).
namespace sluice::kernels::cpu::simd {

inline constexpr int64_t kUnpackedBytes = kPassTiles * 2 * kByteTileBytes;

// Exact sums of a panel, dequantized.
template <typename V, typename P>
struct ByteSums {
  const int32_t* sums;
  const float* input_scales;   // of the block's first row there
  const float* weight_scales;  // of the panel's first column there
  const int32_t* weight_sums;

  struct Column {
    V scales;
    typename P::Sum excess;
  };
  Column column(int column) const {
    return {V::load(weight_scales + column), P::excess(weight_sums + column)};
  }
  V at(int64_t row, int column, const Column& of) const {
    const V sum = P::finished(sums + row * kPanelColumns + column, of.excess);
    return sum * (V::set(input_scales[row]) * of.scales);
  }
};

template <typename V, typename P>
inline ByteSums<V, P> byte_sums(const LinearArgs& args, const LinearBlock& block, int64_t panel,
                                const int32_t* sums) {
  const int64_t column = panel * kPanelColumns;
  return {sums, args.input_scales + block.first_row, args.weight_scales + column,
          args.weight_sums + column};
}

template <typename P>
inline void unpack_tiles(const CodePanel<P>& panel, int64_t first_tile, int64_t num_tiles,
                         int8_t* to) {
  for (int64_t t = first_tile; t < first_tile + num_tiles; ++t) {
    for (int half = 0; half < 2; ++half) {
      for (int64_t part = t * kCodeParts; part < (t + 1) * kCodeParts; ++part) {
        const CodePlace place = panel.at(part, half);
        const auto by = P::load_multipliers(place.multipliers);
        for (int64_t i = 0; i < kCodeBytes; i += 64, to += 128) {
          typename P::Weights even, odd;
          prefetch_line(place.codes + i + kStreamBytes);
          P::expand(place.codes + i, by, even, odd);
          P::store(even, to);
          P::store(odd, to + 64);
        }
      }
    }
  }
}

// The int8 tiles [first_tile, first_tile + num_tiles) of a panel: where they lie, or unpacked.
template <typename P>
inline const int8_t* byte_tiles(const LinearArgs& args, int64_t panel, int64_t first_tile,
                                int64_t num_tiles, int8_t* unpacked) {
  if constexpr (!P::kSumsGroups) {
    if (args.format == WeightFormat::kInt4) {
      unpack_tiles<P>(CodePanel<P>(args, panel), first_tile, num_tiles, unpacked);
      return unpacked;
    }
  }
  return static_cast<const int8_t*>(args.panels) + panel * args.panel_bytes +
         first_tile * 2 * kByteTileBytes;
}

// Adds the products of a tile's codes of sixteen columns, unpacked in registers, to the sums of its
// even and odd fours, which are the same ones with one chain.
template <typename P, int R, int kChains>
__attribute__((always_inline)) inline void add_code_tile(const CodePanel<P>& panel, int64_t tile,
                                                         int half, const typename P::Operand* input,
                                                         typename P::Sum (*sums)[R]) {
  constexpr int kStride = P::kOperandsPerStep * R;
  typename P::Sum* even_sums = sums[0];
  typename P::Sum* odd_sums = sums[kChains - 1];
#pragma GCC unroll 2
  for (int64_t part = tile * kCodeParts; part < (tile + 1) * kCodeParts; ++part) {
    const CodePlace place = panel.at(part, half);
    const typename P::Multipliers by = P::load_multipliers(place.multipliers);
#pragma GCC unroll 4
    for (int64_t offset = 0; offset < kCodeBytes; offset += 64) {
      typename P::Weights even, odd;
      prefetch_line(place.codes + offset + kStreamBytes);
      P::expand(place.codes + offset, by, even, odd);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        even_sums[r] = P::step(even_sums[r], even, input + r, R);
        odd_sums[r] = P::step(odd_sums[r], odd, input + kStride + r, R);
      }
      input += 2 * kStride;
    }
  }
}

// The rows of a micro-kernel times an int4 panel, tile by tile nearly in the order of memory. Few
// rows have two chains of sums for each column, so that none waits for the one before.
// Input [steps][operands][R], sums [R][32].
template <typename P, int R>
inline void multiply_codes(const CodePanel<P>& panel, int64_t depth_tiles,
                           const typename P::Operand* input, int32_t* sums) {
  constexpr int kChains = R <= 4 ? 2 : 1;
  constexpr int kInputTile = kStepsPerTile * P::kOperandsPerStep * R;
  constexpr int kColumns = 2 * kChains * R <= P::kCodeSums ? 2 : 1;
  const int64_t turn = kColumns == 2 ? depth_tiles : kTurnTiles;
  for (int64_t begin = 0; begin < depth_tiles; begin += turn) {
    const int64_t end = depth_tiles - begin < turn ? depth_tiles : begin + turn;
    for (int first = 0; first < 2; first += kColumns) {
      int32_t* to = sums + first * 16;
      typename P::Sum acc[kColumns][kChains][R];
#pragma GCC unroll 2
      for (int c = 0; c < kColumns; ++c) {
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) {
          acc[c][kChains - 1][r] = P::Sum::zero();
          acc[c][0][r] = begin > 0 ? P::Sum::load(to + r * kPanelColumns + c * 16) : P::Sum::zero();
        }
      }
      const typename P::Operand* operands = input + begin * kInputTile;
      for (int64_t tile = begin; tile < end; ++tile) {
#pragma GCC unroll 2
        for (int c = 0; c < kColumns; ++c) {
          add_code_tile<P, R, kChains>(panel, tile, first + c, operands, acc[c]);
        }
        operands += kInputTile;
      }
#pragma GCC unroll 2
      for (int c = 0; c < kColumns; ++c) {
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) {
          typename P::Sum sum = acc[c][0][r];
          if constexpr (kChains == 2) sum = sum + acc[c][1][r];
          sum.store(to + r * kPanelColumns + c * 16);
        }
      }
    }
  }
}

// Rows of one micro-kernel: an int4 panel is unpacked in registers for them. More of them share
// what is unpacked once.
template <typename P, int R = P::kRows>
inline void multiply_few_rows(const LinearArgs& args, const LinearBlock& block, int64_t panel,
                              int32_t* sums) {
  if constexpr (R > 1) {
    if (block.num_rows < R) return multiply_few_rows<P, R - 1>(args, block, panel, sums);
  }
  const auto* input = static_cast<const typename P::Operand*>(args.input) +
                      block.first_row * row_operands<P>(args.depth_tiles);
  multiply_codes<P, R>(CodePanel<P>(args, panel), args.depth_tiles, input, sums);
}

// Rows times a panel, part after part where more than one micro-kernel's rows meet it.
template <typename P>
inline void multiply_panel(const LinearArgs& args, const LinearBlock& block, int64_t panel,
                           int32_t* sums, int8_t* unpacked) {
  const bool is_whole = args.format == WeightFormat::kInt8 && block.num_rows <= P::kRows;
  const int64_t pass = is_whole ? args.depth_tiles : kPassTiles;
  for (int64_t t = 0; t < args.depth_tiles; t += pass) {
    const int64_t depth = args.depth_tiles - t < pass ? args.depth_tiles - t : pass;
    const int8_t* tiles = byte_tiles<P>(args, panel, t, depth, unpacked);
    multiply_block<P>(args, block, t, depth, tiles, sums);
  }
}

// Exact sums of a block's rows and a panel, [rows][32].
template <typename P>
inline void sum_panel(const LinearArgs& args, const LinearBlock& block, int64_t panel,
                      int32_t* sums, int8_t* unpacked) {
  if (args.format == WeightFormat::kInt4) {
    if constexpr (P::kSumsGroups) {
      return multiply_code_panel<P>(args, block, panel, sums);
    } else if (block.num_rows <= P::kRows) {
      return multiply_few_rows<P>(args, block, panel, sums);
    }
  }
  multiply_panel<P>(args, block, panel, sums, unpacked);
}

template <typename V, typename P, typename T>
inline void linear_bytes(const LinearArgs& args, const LinearBlock& block, void* scratch) {
  auto* sums = static_cast<int32_t*>(scratch);
  auto* unpacked = static_cast<int8_t*>(scratch) + kSumBytes;
  for (int64_t panel = block.first_panel; panel < block.first_panel + block.num_panels; ++panel) {
    sum_panel<P>(args, block, panel, sums, unpacked);
    finish<V, T>(args, block, panel, byte_sums<V, P>(args, block, panel, sums));
  }
  fence_logits(args);
}

// Smaller rows count as zero: the inverse of their scale is not a number.
inline constexpr float kSmallestRow = 1e-30f;

struct RowScale {
  float scale;  // NaN where the row holds a number that is not finite
  float inverse;
};

template <typename V, typename T>
inline RowScale row_scale(const T* x, int64_t depth) {
  V largest = V::zero();
  V poison = V::zero();
  for_each_vector<V>(x, depth, [&](V v, int64_t, int) {
    largest = V::max(V::abs(v), largest);
    poison = V::fma(v, V::zero(), poison);
  });
  const float magnitude = V::largest(largest);
  if (magnitude < kSmallestRow) return {V::sum(poison), 0.0f};
  return {magnitude / 127.0f + V::sum(poison), 127.0f / magnitude};
}

// Sixty-four numbers of a row, or those that are left, rounded; zeros behind them.
template <typename V, typename T>
inline void round_bytes(const T* x, int64_t left, float inverse, int8_t* bytes) {
  for (int64_t k = 0; k < kByteTileDepth; k += 16) {
    V v = V::zero();
    if (left - k >= 16) {
      v = V::load(x + k);
    } else if (left > k) {
      v = V::load(x + k, static_cast<int>(left - k));
    }
    V::store_bytes(v * V::set(inverse), bytes + k);
  }
}

// Rows of x as int8, P::kRows at a time, in the micro-kernel's order, and their scales.
template <typename V, typename P, typename T>
inline void quantize_input(const InputArgs& args) {
  constexpr int kTileOperands = kStepsPerTile * P::kOperandsPerStep;  // of a row
  static_assert(kTileOperands % 16 == 0);
  const int64_t depth_tiles = (args.depth + kByteTileDepth - 1) / kByteTileDepth;
  for (int64_t first = args.first_row; first < args.end_row; first += P::kRows) {
    const PreparedRows<P> rows(args, first, depth_tiles);
    const T* x = static_cast<const T*>(args.x) + first * args.depth;
    alignas(64) uint32_t fours[kStepsPerTile];
    alignas(64) typename P::Operand prepared[P::kRows][kTileOperands];
    const uint32_t* words[P::kRows];
    float inverse[P::kRows];
    for (int64_t r = 0; r < rows.count; ++r) {
      const RowScale scale = row_scale<V>(x + r * args.depth, args.depth);
      args.scales[first + r] = scale.scale;
      inverse[r] = scale.inverse;
    }
    auto* operands = rows.operands;
    for (int64_t k = 0; k < depth_tiles * kByteTileDepth; k += kByteTileDepth) {
      for (int64_t r = 0; r < rows.count; ++r) {
        round_bytes<V>(x + r * args.depth + k, args.depth - k, inverse[r],
                       reinterpret_cast<int8_t*>(fours));
        for (int i = 0; i < kStepsPerTile; ++i) {
          P::prepare(fours[i], prepared[r] + i * P::kOperandsPerStep);
        }
      }
      for (int part = 0; part < kTileOperands; part += 16) {
        for (int64_t r = 0; r < rows.count; ++r) words[r] = prepared[r] + part;
        interleave_words(words, rows.count, operands);
        operands += 16 * rows.count;
      }
    }
  }
}

}  // namespace sluice::kernels::cpu::simd
