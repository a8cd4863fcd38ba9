#include "kernels/cpu/amx/linear.h"

#include "kernels/cpu/amx/tiles.h"
#include "kernels/cpu/avx512/byte_product.h"
#include "kernels/cpu/avx512/vec.h"
#include "kernels/cpu/simd/byte_linear.h"

// TDPBF16PS adds 32 products of depth to 16 x 16 float32 sums, in an order that the instruction
// fixes for each sum, whatever rows and columns the tiles have. TDPBSSD adds 64 exact products.
//
// Two tiles of rows (a pair) and two of columns meet at a time. The second-level cache feeds the
// tile unit at half of its rate only, so a panel is taken in parts that stay in the first-level
// cache while all pairs of a block meet them; between two parts a pair's sums are put aside, exact.
namespace sluice::kernels::cpu::amx {
namespace {

using avx512::Vec;

constexpr int64_t kTileRows = 16;
constexpr int64_t kPairRows = 2 * kTileRows;
constexpr int64_t kTileBytes = 1024;
// A pair's four tiles of sums, and of products' operands.
constexpr int64_t kSumBytes = 4 * kTileBytes;
// Depth of a panel's part: 16 KiB.
constexpr int64_t kPartTiles = simd::kPassTiles;
constexpr int64_t kPartBytes = kPartTiles * 2 * kTileBytes;
// Fewer rows are faster without tiles: one in int8, and in int4 a few, whose weights AVX-512
// unpacks in registers.
constexpr int64_t kMinInt8Rows = 2;
constexpr int64_t kMinInt4Rows = 5;
// Weights of one pair come as a stream from memory, fetched so far ahead of their use: by itself a
// Xeon reads four fifths as fast. Int4's are further ahead, since a part is read at once, to be
// unpacked. (8 to 32 KiB are alike.)
constexpr int64_t kStreamTiles = 4;
constexpr int64_t kInt4StreamTiles = 2 * kPartTiles;
// Prepared rows of a block: with the panels on the way they fit in the second-level cache.
constexpr int64_t kRowBlockBytes = 5 << 18;
// Input blocks of a block of rows. Fewer would read the weight again and again, more gain nothing.
constexpr int64_t kMinRowBlocks = 3;
constexpr int64_t kMaxRowBlocks = 6;
// Panels of a block at most: they share the way of the rows' chunks through the cache.
constexpr int64_t kChunkPanels = 8;

// Depth of a block's rows that the second-level cache holds, in whole parts.
int64_t chunk_tiles(int64_t rows) {
  const int64_t tiles = kRowBlockBytes / (rows * 64) / kPartTiles * kPartTiles;
  return tiles < kPartTiles ? kPartTiles : tiles;
}

// Registers: sums 0 to 3 (two tiles of rows by two of columns), inputs 4 and 5, weights 6 and 7.
void configure(int64_t first_rows, int64_t second_rows) {
  TileConfig config;
  config.set(0, first_rows, 64);
  config.set(1, first_rows, 64);
  config.set(4, first_rows, 64);
  config.set(2, second_rows, 64);
  config.set(3, second_rows, 64);
  config.set(5, second_rows, 64);
  config.set(6, 16, 64);
  config.set(7, 16, 64);
  load_config(config);
}

template <int kRowTiles>
void load_sums(const char* sums, bool resume) {
  memory_fence();
  if (!resume) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    return;
  }
  _tile_loadd(0, sums, 64);
  _tile_loadd(1, sums + kTileBytes, 64);
  if constexpr (kRowTiles == 2) {
    _tile_loadd(2, sums + 2 * kTileBytes, 64);
    _tile_loadd(3, sums + 3 * kTileBytes, 64);
  }
}

template <int kRowTiles>
void store_sums(char* sums) {
  _tile_stored(0, sums, 64);
  _tile_stored(1, sums + kTileBytes, 64);
  if constexpr (kRowTiles == 2) {
    _tile_stored(2, sums + 2 * kTileBytes, 64);
    _tile_stored(3, sums + 3 * kTileBytes, 64);
  }
  memory_fence();
}

// A stretch of memory on its way to the second-level cache, a few lines a step.
struct Prefetch {
  const char* next = nullptr;
  int64_t lines_per_step = 0;
};

// Adds the products of one or two tiles of rows and a panel's part.
template <bool kBytes, int kRowTiles>
void add_products(const char* input, const char* weights, int64_t depth_tiles, Prefetch ahead) {
  for (int64_t t = 0; t < depth_tiles; ++t) {
    for (int64_t i = 0; i < ahead.lines_per_step; ++i, ahead.next += 64) {
      _mm_prefetch(ahead.next, _MM_HINT_T1);
    }
    _tile_loadd(6, weights, 64);
    _tile_loadd(4, input, 64);
    _tile_loadd(7, weights + kTileBytes, 64);
    if constexpr (kRowTiles == 2) _tile_loadd(5, input + kTileBytes, 64);
    if constexpr (kBytes) {
      _tile_dpbssd(0, 4, 6);
      _tile_dpbssd(1, 4, 7);
      if constexpr (kRowTiles == 2) {
        _tile_dpbssd(2, 5, 6);
        _tile_dpbssd(3, 5, 7);
      }
    } else {
      _tile_dpbf16ps(0, 4, 6);
      _tile_dpbf16ps(1, 4, 7);
      if constexpr (kRowTiles == 2) {
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
      }
    }
    weights += 2 * kTileBytes;
    input += kRowTiles * kTileBytes;
  }
}

// One pair's sums, four tiles of [16][16].
template <typename V>
struct TileSums {
  const char* sums;

  const char* place(int64_t row, int column) const {
    return sums + (row / kTileRows * 2 + column / kTileColumns) * kTileBytes + row % kTileRows * 64;
  }
  struct Column {};
  Column column(int /*column*/) const { return {}; }
  V at(int64_t row, int column, Column /*of*/) const {
    return V::load(reinterpret_cast<const float*>(place(row, column)));
  }
};

// The same for int8: exact sums, dequantized.
struct ByteTileSums {
  TileSums<Vec> tiles;
  const float* input_scales;   // of the pair's first row there
  const float* weight_scales;  // of the panel's first column there

  using Column = Vec;  // the scales
  Vec column(int column) const { return Vec::load(weight_scales + column); }
  Vec at(int64_t row, int column, Vec scales) const {
    const Vec sum = {_mm512_cvtepi32_ps(_mm512_loadu_si512(tiles.place(row, column)))};
    return sum * (Vec::set(input_scales[row]) * scales);
  }
};

template <bool kBytes, typename T>
void finish_pair(const LinearArgs& args, const LinearBlock& rows, int64_t panel, const char* sums) {
  const TileSums<Vec> tiles{sums};
  if constexpr (kBytes) {
    const ByteTileSums bytes{tiles, args.input_scales + rows.first_row,
                             args.weight_scales + panel * kPanelColumns};
    simd::finish<Vec, T>(args, rows, panel, bytes);
  } else {
    simd::finish<Vec, T>(args, rows, panel, tiles);
  }
}

// Where the tiles of a panel's part lie: packed, or unpacked from int4 just now.
template <bool kBytes>
const char* part_tiles(const LinearArgs& args, int64_t panel, int64_t first, int64_t count,
                       char* unpacked) {
  if constexpr (kBytes) {
    return reinterpret_cast<const char*>(simd::byte_tiles<avx512::ByteProduct<Vec>>(
        args, panel, first, count, reinterpret_cast<int8_t*>(unpacked)));
  }
  return static_cast<const char*>(args.panels) + panel * args.panel_bytes + first * 2 * kTileBytes;
}

// A panel's tiles [first, first + depth).
struct Part {
  int64_t panel = 0;
  int64_t first = 0;
  int64_t depth = 0;
};

// A part that comes later, so that it is near when its turn comes; a share of it for each pair.
Prefetch prefetch_part(const LinearArgs& args, const Part& next, int64_t pairs) {
  const int64_t tile_bytes = args.panel_bytes / args.depth_tiles;
  Prefetch ahead;
  ahead.next = static_cast<const char*>(args.panels) + next.panel * args.panel_bytes +
               next.first * tile_bytes;
  ahead.lines_per_step = (tile_bytes / 64 + pairs - 1) / pairs;
  return ahead;
}

// At most one pair: its sums stay in registers, and the weights come as one stream.
template <bool kBytes, typename T, int kRowTiles>
void linear_pair(const LinearArgs& args, const LinearBlock& block, char* scratch) {
  const char* input = static_cast<const char*>(args.input) +
                      block.first_row / kPairRows * args.depth_tiles * 2 * kTileBytes;
  alignas(64) char unpacked[kPartBytes];
  char* const sums = scratch;
  const bool is_int4 = args.format == WeightFormat::kInt4;
  const int64_t part = is_int4 ? kPartTiles : args.depth_tiles;
  const int64_t distance = is_int4 ? kInt4StreamTiles : kStreamTiles;
  for (int64_t panel = block.first_panel; panel < block.first_panel + block.num_panels; ++panel) {
    load_sums<kRowTiles>(sums, false);
    for (int64_t t = 0; t < args.depth_tiles; t += part) {
      const int64_t depth = args.depth_tiles - t < part ? args.depth_tiles - t : part;
      const char* weights = part_tiles<kBytes>(args, panel, t, depth, unpacked);
      const Prefetch ahead = prefetch_part(args, {panel, t + distance, depth}, 1);
      memory_fence();
      add_products<kBytes, kRowTiles>(input + t * kRowTiles * kTileBytes, weights, depth, ahead);
    }
    store_sums<kRowTiles>(sums);
    finish_pair<kBytes, T>(args, block, panel, sums);
  }
}

// Rows [first, first + 32) of a block, or those that are left.
LinearBlock rows_of_pair(const LinearBlock& block, int64_t pair) {
  LinearBlock rows = block;
  rows.first_row += pair * kPairRows;
  rows.num_rows = block.num_rows - pair * kPairRows;
  if (rows.num_rows > kPairRows) rows.num_rows = kPairRows;
  return rows;
}

// A panel's part for all pairs of a block, whose sums follow each other.
template <bool kBytes, typename T>
void linear_part(const LinearArgs& args, const LinearBlock& block, const Part& part,
                 const Part& next, char* sums) {
  const int64_t pair_stride = args.depth_tiles * 2 * kTileBytes;
  const int64_t num_pairs = (block.num_rows + kPairRows - 1) / kPairRows;
  const char* input = static_cast<const char*>(args.input) +
                      block.first_row / kPairRows * pair_stride + part.first * 2 * kTileBytes;
  alignas(64) char unpacked[kPartBytes];
  const char* weights = part_tiles<kBytes>(args, part.panel, part.first, part.depth, unpacked);
  const bool is_last = part.first + part.depth == args.depth_tiles;
  Prefetch ahead = prefetch_part(args, next, num_pairs);
  for (int64_t pair = 0; pair < num_pairs; ++pair, sums += kSumBytes, input += pair_stride) {
    const LinearBlock rows = rows_of_pair(block, pair);
    load_sums<2>(sums, part.first > 0);
    add_products<kBytes, 2>(input, weights, part.depth, ahead);
    store_sums<2>(sums);
    ahead.next += ahead.lines_per_step * part.depth * 64;
    if (is_last) finish_pair<kBytes, T>(args, rows, part.panel, sums);
  }
}

// Rows whose whole depth does not fit in the second-level cache meet all panels of the block chunk
// by chunk of the depth; otherwise there is one chunk, and one panel's sums at a time.
template <bool kBytes, typename T>
void linear_pairs(const LinearArgs& args, const LinearBlock& block, char* scratch) {
  const int64_t num_pairs = (block.num_rows + kPairRows - 1) / kPairRows;
  const int64_t chunk = chunk_tiles(block.num_rows);
  const int64_t sums_stride = chunk < args.depth_tiles ? num_pairs * kSumBytes : 0;
  const int64_t last_panel = block.first_panel + block.num_panels - 1;
  for (int64_t begin = 0; begin < args.depth_tiles; begin += chunk) {
    const int64_t end = begin + chunk < args.depth_tiles ? begin + chunk : args.depth_tiles;
    for (Part part{block.first_panel, begin, 0}; part.panel <= last_panel;) {
      part.depth = end - part.first < kPartTiles ? end - part.first : kPartTiles;
      Part next{part.panel, part.first + part.depth, 0};
      if (next.first == end) next = {part.panel + 1, begin, 0};
      char* const sums = scratch + (part.panel - block.first_panel) * sums_stride;
      linear_part<kBytes, T>(args, block, part, next, sums);
      part = next;
    }
  }
}

// Input: [rows / 32][depth_tiles][2][16][64 bytes], or [depth_tiles][16][64 bytes].
template <bool kBytes, typename T>
void linear_as(const LinearArgs& args, const LinearBlock& block, void* scratch) {
  auto* const bytes = static_cast<char*>(scratch);
  if (args.rows <= kTileRows) {
    configure(block.num_rows, kTileRows);
    linear_pair<kBytes, T, 1>(args, block, bytes);
  } else if (block.num_rows <= kPairRows) {
    // A last block may have less than a tile; rows of zeros fill it up.
    configure(kTileRows, block.num_rows > kTileRows ? block.num_rows - kTileRows : kTileRows);
    linear_pair<kBytes, T, 2>(args, block, bytes);
  } else {
    configure(kTileRows, kTileRows);
    linear_pairs<kBytes, T>(args, block, bytes);
  }
  simd::fence_logits(args);
  _tile_release();
}

// Tiles of rows that lie side by side: two, or one where there is no second.
int64_t tiles_per_step(const InputArgs& args) {
  return args.rows <= kTileRows ? 1 : 2;
}

// Where row `row` of the prepared input begins: 64 bytes of each of its tiles.
char* input_row(const InputArgs& args, int64_t row, int64_t depth_tiles) {
  return static_cast<char*>(args.output) +
         (row / kPairRows * depth_tiles * 2 + row % kPairRows / kTileRows) * kTileBytes +
         row % kTileRows * 64;
}

// With those that fill up the last tiles.
int64_t padded_rows(const InputArgs& args) {
  const int64_t whole = tiles_per_step(args) * kTileRows;
  return (args.rows + whole - 1) / whole * whole;
}

int64_t padded_end(const InputArgs& args) {
  return args.end_row < args.rows ? args.end_row : padded_rows(args);
}

void prepare_brain(const InputArgs& args) {
  const int64_t depth_tiles = (args.depth + kTileDepth - 1) / kTileDepth;
  for (int64_t row = args.first_row; row < padded_end(args); ++row) {
    const Brain* x = static_cast<const Brain*>(args.x) + row * args.depth;
    char* output = input_row(args, row, depth_tiles);
    for (int64_t k = 0; k < depth_tiles * kTileDepth; k += kTileDepth) {
      const int64_t left = row < args.rows ? args.depth - k : 0;
      const uint32_t mask = left >= 32 ? ~0u : left <= 0 ? 0u : (1u << left) - 1u;
      _mm512_storeu_si512(output, _mm512_maskz_loadu_epi16(mask, x + k));
      output += tiles_per_step(args) * kTileBytes;
    }
  }
}

template <typename T>
void prepare_bytes(const InputArgs& args) {
  const int64_t depth_tiles = (args.depth + kByteTileDepth - 1) / kByteTileDepth;
  for (int64_t row = args.first_row; row < padded_end(args); ++row) {
    const bool is_padding = row >= args.rows;
    const T* x = static_cast<const T*>(args.x) + (is_padding ? 0 : row) * args.depth;
    const simd::RowScale scale =
        is_padding ? simd::RowScale{} : simd::row_scale<Vec>(x, args.depth);
    if (!is_padding) args.scales[row] = scale.scale;
    char* output = input_row(args, row, depth_tiles);
    for (int64_t k = 0; k < depth_tiles * kByteTileDepth; k += kByteTileDepth) {
      simd::round_bytes<Vec>(x + k, args.depth - k, scale.inverse,
                             reinterpret_cast<int8_t*>(output));
      output += tiles_per_step(args) * kTileBytes;
    }
  }
}

}  // namespace

bool has_tiled_linear(DType type, WeightFormat format, int64_t rows) {
  switch (format) {
    case WeightFormat::kPlain:
      return type == DType::kBF16;
    case WeightFormat::kInt8:
      return rows >= kMinInt8Rows;
    case WeightFormat::kFloat8:
      return false;  // on GPUs only
    case WeightFormat::kInt4:
      break;
  }
  return rows >= kMinInt4Rows;
}

int64_t tiled_input_bytes(const InputArgs& args) {
  const int64_t depth = tile_depth(args.format);
  const int64_t depth_tiles = (args.depth + depth - 1) / depth;
  return padded_rows(args) / kTileRows * depth_tiles * kTileBytes;
}

void prepare_tiled_input(const InputArgs& args) {
  if (args.format == WeightFormat::kPlain) return prepare_brain(args);
  switch (args.type) {
    case DType::kF32:
      return prepare_bytes<float>(args);
    case DType::kF16:
      return prepare_bytes<Half>(args);
    case DType::kBF16:
      return prepare_bytes<Brain>(args);
  }
}

LinearPlan plan_tiled_linear(const InputArgs& args) {
  const int64_t depth = tile_depth(args.format);
  const int64_t depth_tiles = (args.depth + depth - 1) / depth;
  const int64_t blocks = kRowBlockBytes / (kInputBlockRows * depth_tiles * 64);
  const int64_t clamped = blocks < kMinRowBlocks   ? kMinRowBlocks
                          : blocks > kMaxRowBlocks ? kMaxRowBlocks
                                                   : blocks;
  LinearPlan plan;
  plan.row_block = kInputBlockRows * clamped;
  const int64_t rows = args.rows < plan.row_block ? args.rows : plan.row_block;
  const bool is_chunked = rows > kPairRows && depth_tiles > chunk_tiles(rows);
  plan.task_panels = is_chunked ? kChunkPanels : 0;
  plan.scratch_bytes =
      (is_chunked ? kChunkPanels : 1) * ((rows + kPairRows - 1) / kPairRows) * kSumBytes;
  return plan;
}

void linear_tiled(const LinearArgs& args, const LinearBlock& block, void* scratch) {
  if (args.format == WeightFormat::kPlain) return linear_as<false, Brain>(args, block, scratch);
  switch (args.type) {
    case DType::kF32:
      return linear_as<true, float>(args, block, scratch);
    case DType::kF16:
      return linear_as<true, Half>(args, block, scratch);
    case DType::kBF16:
      return linear_as<true, Brain>(args, block, scratch);
  }
}

}  // namespace sluice::kernels::cpu::amx
