#pragma once

#include <cstdint>

#include "kernels/activation.h"
#include "kernels/dtype.h"
#include "kernels/kv_int8.h"
#include "kernels/weight_format.h"

// What one instruction set provides: functions over plain pointers, without ATen.
//
// The files behind a table are compiled with flags that not every machine can run. So they include
// this header and intrinsics only, and keep all their code in the instruction set's own namespace:
// an inline function shared with other files might be kept in its AVX-512 form by the linker.
//
// Row law: each function computes an output row from that row's inputs in an order that depends on
// the model's sizes and the position only, whatever block of the work it is given.
namespace sluice::kernels::cpu {

// Storage of 16-bit numbers.
struct Half {
  uint16_t bits;
};
struct Brain {
  uint16_t bits;
};

// A packed weight [N, K] is a row of panels, each 32 of its N wide. A panel holds tiles in the
// order [K / depth][2], each 16 wide (N), so that a panel is read as one stream.
//
//   float32, float16: tile[32][16], an element of K after the other
//   bfloat16:         tile[16][16][2], pairs of K side by side, as TDPBF16PS and VDPBF16PS take
//                     them
//   int8:             tile[16][16][4], 64 deep, fours of K side by side, as TDPBSSD and VPDPBUSD
//                     take them
//   int4:             tile[8][16][4], 64 deep, an int8 tile's fours 2 j in the low nibbles and
//                     2 j + 1 in the high ones of [j], each 8 too large. Before its tiles a panel
//                     holds its multipliers, one byte each: [K / group][32]
//
// Both dimensions are filled up with zeros.
inline constexpr int64_t kTileDepth = 32;
inline constexpr int64_t kTileColumns = 16;
inline constexpr int64_t kPanelColumns = 32;
inline constexpr int64_t kTileElements = kTileDepth * kTileColumns;
inline constexpr int64_t kByteTileDepth = 64;
inline constexpr int64_t kByteTileBytes = kByteTileDepth * kTileColumns;

inline constexpr int64_t tile_depth(WeightFormat format) {
  return format == WeightFormat::kPlain ? kTileDepth : kByteTileDepth;
}

// Number of the element of K `depth` and N `column` inside a tile.
inline constexpr int64_t tile_offset(DType type, int64_t depth, int64_t column) {
  return type == DType::kBF16 ? (depth / 2 * kTileColumns + column) * 2 + depth % 2
                              : depth * kTileColumns + column;
}
inline constexpr int64_t byte_tile_offset(int64_t depth, int64_t column) {
  return (depth / 4 * kTileColumns + column) * 4 + depth % 4;
}

// Bytes of an int4 panel's multipliers, as far as its tiles.
inline constexpr int64_t multiplier_bytes(int64_t depth_tiles, int64_t group_size) {
  const int64_t groups = (depth_tiles * kByteTileDepth + group_size - 1) / group_size;
  return (groups * kPanelColumns + 63) / 64 * 64;
}

struct LinearArgs {
  DType type = DType::kF32;
  WeightFormat format = WeightFormat::kPlain;
  Activation activation = Activation::kNone;
  bool float_output = false;       // logits: float32 whatever `type` is
  const void* panels = nullptr;    // the packed weight
  const void* input = nullptr;     // as prepare_input() left it
  const void* bias = nullptr;      // [N] or nullptr
  const void* residual = nullptr;  // [M, N] or nullptr
  void* output = nullptr;          // [M, N]
  int64_t rows = 0;                // M
  int64_t columns = 0;             // N
  int64_t depth_tiles = 0;         // K / tile_depth(format), rounded up
  int64_t panel_bytes = 0;

  // int8 and int4 only; [N] filled up to whole panels.
  int64_t group_size = 0;                // int4
  const float* weight_scales = nullptr;  // of the weight's int8 numbers
  const int32_t* weight_sums = nullptr;  // sums of a column's int8 numbers
  const float* input_scales = nullptr;   // [M], as prepare_input() left them
};

// A part of the output: rows and panels. `first_row` is a multiple of kInputBlockRows.
struct LinearBlock {
  int64_t first_row = 0;
  int64_t num_rows = 0;
  int64_t first_panel = 0;
  int64_t num_panels = 0;
};

inline constexpr int64_t kInputBlockRows = 96;
// Rows that are prepared together, up to the last: whole micro-kernels of simd/ in any case.
inline constexpr int64_t kPreparedRows = 48;

struct InputArgs {
  DType type = DType::kF32;
  WeightFormat format = WeightFormat::kPlain;
  const void* x = nullptr;  // [M, K]
  int64_t rows = 0;         // M
  int64_t depth = 0;        // K
  int64_t first_row = 0;  // what to prepare: [first_row, end_row), from a multiple of kPreparedRows
  int64_t end_row = 0;
  void* output = nullptr;
  float* scales = nullptr;  // int8 and int4: [M], largest magnitude of a row / 127
};

struct LinearPlan {
  int64_t row_block = 0;      // rows of a LinearBlock at most; a multiple of kInputBlockRows
  int64_t task_panels = 0;    // panels of a LinearBlock; 0 where their bytes may decide
  int64_t scratch_bytes = 0;  // of each thread
};

struct NormArgs {
  DType type = DType::kF32;
  const void* x = nullptr;       // [rows, size]
  const void* weight = nullptr;  // [size]
  const void* bias = nullptr;    // [size]; layer_norm only
  void* output = nullptr;        // [rows, size]
  int64_t size = 0;
  float epsilon = 0;
};

struct SwigluArgs {
  DType type = DType::kF32;
  const void* x = nullptr;  // [rows, 2 size]
  void* output = nullptr;   // [rows, size]
  int64_t size = 0;
};

// A KV block of one KV head holds its keys, then its values; S slots of D numbers each.
//
//   keys:   groups of 16 slots (the last one of S % 16), each [D][slots], or for bfloat16
//           [D / 2][slots][2]: sixteen positions' scores are one vector, and no sum goes across it
//   values: [S][D]; for bfloat16 under AMX and AVX-512 [S / 2][D][2] where S and D are multiples
//           of 16
//
// An int8 cache has int8 numbers and behind them a float32 scale for each slot's key, [S], and one
// for each slot's value, [S]. Keys are groups of [D][slots], values [S][D]; where bfloat16 is tiled
// under AMX, [D / 4][slots][4] and [S / 4][D][4], as TDPBSSD takes them.
inline constexpr int64_t kInt8SlotScaleBytes = 8;

struct AttentionArgs {
  DType type = DType::kF32;
  const void* qkv = nullptr;           // [T, (H + 2 Hkv) D]
  const int32_t* positions = nullptr;  // [T]
  bool int8_cache = false;
  void* cache = nullptr;                // [N, Hkv, S, 2 D], or 2 D + 8 for int8
  const int32_t* starts = nullptr;      // [B + 1]
  const int32_t* contexts = nullptr;    // [B]
  const int32_t* tables = nullptr;      // [B, M]
  const float* rope = nullptr;          // [P, D_rot / 2, 2] or nullptr
  const float* alibi_slopes = nullptr;  // [H] or nullptr
  void* queries = nullptr;              // scratch [T, H, D], float32 at most
  void* output = nullptr;               // [T, H, D]
  int64_t num_sequences = 0;            // B
  int64_t num_heads = 0;
  int64_t num_kv_heads = 0;
  int64_t head_size = 0;
  int64_t block_size = 0;
  int64_t max_blocks = 0;
  int64_t rotary_size = 0;
  int64_t window = 0;
  float scale = 0;
};

// Positions of one pass of the softmax. Passes start at multiples of it and are merged in order.
inline constexpr int64_t kSoftmaxSplit = 256;
inline constexpr int64_t kMaxHeadSize = 512;

// Rows of one sequence and one KV head that a call of `attend` computes.
struct AttentionBlock {
  int64_t sequence = 0;
  int64_t kv_head = 0;
  int64_t first_row = 0;  // within the sequence's rows of this step
  int64_t num_rows = 0;
  int64_t first_head = 0;  // among the query heads that share the KV head
  int64_t num_heads = 0;
  // With `parts`: one row, and of its splits of the softmax only [first_split, end_split), left
  // there for merge_splits. Without: all splits, and the output is written.
  int64_t first_split = 0;
  int64_t end_split = 0;
  float* parts = nullptr;  // [num_heads][num_parts][split_floats(D)]
  int64_t first_part = 0;  // the row's first split
  int64_t num_parts = 0;
};

// Floats that a row's split leaves: the largest score, the sum of weights, and the weighted values.
inline constexpr int64_t split_floats(int64_t head_size) {
  return 16 + (head_size + 15) / 16 * 16;
}

struct KernelTable {
  // Bytes of the prepared input of `args`' type, format, rows and depth.
  int64_t (*input_bytes)(const InputArgs& args);
  // Puts rows of x into the order that `linear` reads; with the last ones, what fills it up. For
  // int8 and int4 it rounds each row to int8, nearest even, with the row's own scale; one below
  // 1e-30 counts as zero.
  void (*prepare_input)(const InputArgs& args);
  // How `linear` wants its work cut.
  LinearPlan (*plan_linear)(const InputArgs& args);
  // scratch: as planned, aligned to a cache line.
  void (*linear)(const LinearArgs& args, const LinearBlock& block, void* scratch);
  void (*rms_norm)(const NormArgs& args, int64_t first_row, int64_t num_rows);
  void (*layer_norm)(const NormArgs& args, int64_t first_row, int64_t num_rows);
  void (*swiglu)(const SwigluArgs& args, int64_t first_row, int64_t num_rows);
  // Rotates rows of a sequence, keeps the queries and writes keys and values into the cache. Rows
  // of one group of 16 positions are in one call.
  void (*write_kv)(const AttentionArgs& args, int64_t sequence, int64_t first_row,
                   int64_t num_rows);
  void (*attend)(const AttentionArgs& args, const AttentionBlock& block);
  // Joins the parts of all splits of one row's context: the bits that `attend` would have given.
  // block: one row and one head, with all its `parts`.
  void (*merge_splits)(const AttentionArgs& args, const AttentionBlock& block);
};

const KernelTable& avx2_kernels();
const KernelTable& avx512_kernels();
const KernelTable& avx512vnni_kernels();
const KernelTable& avx512bw_kernels();
// AVX-512's, with bfloat16, int8 and int4 `linear` and bfloat16 `attend` on the tile registers
// where there are rows enough.
const KernelTable& amx_kernels();

}  // namespace sluice::kernels::cpu
