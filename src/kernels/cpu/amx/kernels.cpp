#include "kernels/cpu/amx/attention.h"
#include "kernels/cpu/amx/tiles.h"
#include "kernels/cpu/avx512/pair_product.h"
#include "kernels/cpu/simd/table.h"

// bfloat16 linear on AMX's tile registers: TDPBF16PS adds 32 products of depth to 16 x 16 sums, in
// an order that the instruction fixes for each sum, whatever rows and columns the tiles have.
namespace sluice::kernels::cpu {
namespace amx {

using avx512::Vec;

constexpr int64_t kTileRows = 16;
constexpr int64_t kTileBytes = 1024;
// Depth of one pass where a block has more than two tiles of rows: its part of the panel (32 KiB)
// stays in the first-level cache while all rows meet it.
constexpr int64_t kPassTiles = 16;

// Registers: sums 0 to 3 (two tiles of rows by two of columns), inputs 4 and 5, weights 6 and 7.
static void configure(int64_t first_rows, int64_t second_rows) {
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

// One or two tiles of rows times a panel's part. sums: [2 tiles of rows][16][32].
template <int kRowTiles>
static void multiply(const char* input, int64_t input_stride, const char* weights,
                     int64_t depth_tiles, float* sums, bool resume) {
  constexpr int64_t kStride = kPanelColumns * sizeof(float);
  float* second = sums + kTileRows * kPanelColumns;
  memory_fence();
  if (resume) {
    _tile_loadd(0, sums, kStride);
    _tile_loadd(1, sums + 16, kStride);
    if constexpr (kRowTiles == 2) {
      _tile_loadd(2, second, kStride);
      _tile_loadd(3, second + 16, kStride);
    }
  } else {
    _tile_zero(0);
    _tile_zero(1);
    if constexpr (kRowTiles == 2) {
      _tile_zero(2);
      _tile_zero(3);
    }
  }
  for (int64_t t = 0; t < depth_tiles; ++t) {
    _tile_loadd(6, weights, 64);
    _tile_loadd(4, input, 64);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(7, weights + kTileBytes, 64);
    _tile_dpbf16ps(1, 4, 7);
    if constexpr (kRowTiles == 2) {
      _tile_loadd(5, input + input_stride, 64);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
    weights += 2 * kTileBytes;
    input += kTileBytes;
  }
  _tile_stored(0, sums, kStride);
  _tile_stored(1, sums + 16, kStride);
  if constexpr (kRowTiles == 2) {
    _tile_stored(2, second, kStride);
    _tile_stored(3, second + 16, kStride);
  }
  memory_fence();
}

// Input: [rows / 16][depth_tiles][16][32].
static void linear_brain(const LinearArgs& args, const LinearBlock& block, void* scratch) {
  auto* const all_sums = static_cast<float*>(scratch);
  const int64_t row_stride = args.depth_tiles * kTileBytes;
  const int64_t row_tiles = (block.num_rows + kTileRows - 1) / kTileRows;
  const char* input =
      static_cast<const char*>(args.input) + block.first_row / kTileRows * row_stride;
  const int64_t first_rows = block.num_rows < kTileRows ? block.num_rows : kTileRows;
  const int64_t pass = row_tiles <= 2 ? args.depth_tiles : kPassTiles;
  configure(first_rows, row_tiles == 2 ? block.num_rows - kTileRows : kTileRows);
  for (int64_t p = 0; p < block.num_panels; ++p) {
    const int64_t panel = block.first_panel + p;
    const char* weights =
        static_cast<const char*>(args.panels) + panel * args.depth_tiles * 2 * kTileBytes;
    for (int64_t t = 0; t < args.depth_tiles; t += pass) {
      const int64_t depth = args.depth_tiles - t < pass ? args.depth_tiles - t : pass;
      for (int64_t r = 0; r < row_tiles; r += 2) {
        float* sums = all_sums + r * kTileRows * kPanelColumns;
        const char* part = input + r * row_stride + t * kTileBytes;
        if (row_tiles - r >= 2) {
          multiply<2>(part, row_stride, weights + t * 2 * kTileBytes, depth, sums, t > 0);
        } else {
          multiply<1>(part, row_stride, weights + t * 2 * kTileBytes, depth, sums, t > 0);
        }
      }
    }
    simd::finish<Vec, Brain>(args, block, panel, simd::FloatSums<Vec>{all_sums});
  }
  _tile_release();
}

static void prepare_brain(const InputArgs& args) {
  const int64_t depth_tiles = (args.depth + kTileDepth - 1) / kTileDepth;
  const int64_t first = args.first_block * kInputBlockRows;
  const int64_t end = first + args.num_blocks * kInputBlockRows;
  const int64_t padded_rows = (args.rows + kTileRows - 1) / kTileRows * kTileRows;
  for (int64_t row = first; row < end && row < padded_rows; ++row) {
    const Brain* x = static_cast<const Brain*>(args.x) + row * args.depth;
    char* output = static_cast<char*>(args.output) + row / kTileRows * depth_tiles * kTileBytes +
                   row % kTileRows * 64;
    for (int64_t k = 0; k < depth_tiles * kTileDepth; k += kTileDepth) {
      const int64_t left = row < args.rows ? args.depth - k : 0;
      const uint32_t mask = left >= 32 ? ~0u : left <= 0 ? 0u : (1u << left) - 1u;
      _mm512_storeu_si512(output, _mm512_maskz_loadu_epi16(mask, x + k));
      output += kTileBytes;
    }
  }
}

static bool is_tiled(DType type, WeightFormat format) {
  return type == DType::kBF16 && format == WeightFormat::kPlain;
}

static int64_t input_bytes(const InputArgs& args) {
  if (!is_tiled(args.type, args.format)) return avx512_kernels().input_bytes(args);
  const int64_t depth_tiles = (args.depth + kTileDepth - 1) / kTileDepth;
  return (args.rows + kTileRows - 1) / kTileRows * depth_tiles * kTileBytes;
}

static void prepare_input(const InputArgs& args) {
  is_tiled(args.type, args.format) ? prepare_brain(args) : avx512_kernels().prepare_input(args);
}

static void linear(const LinearArgs& args, const LinearBlock& block, void* scratch) {
  is_tiled(args.type, args.format) ? linear_brain(args, block, scratch)
                                   : avx512_kernels().linear(args, block, scratch);
}

static void write_kv(const AttentionArgs& args, int64_t sequence, int64_t first_row,
                     int64_t num_rows) {
  has_tiled_attention(args) ? write_kv_tiled(args, sequence, first_row, num_rows)
                            : avx512_kernels().write_kv(args, sequence, first_row, num_rows);
}

static void attend(const AttentionArgs& args, const AttentionBlock& block) {
  has_tiled_attention(args) ? attend_tiled(args, block) : avx512_kernels().attend(args, block);
}

}  // namespace amx

const KernelTable& amx_kernels() {
  static const KernelTable table = [] {
    KernelTable kernels = avx512_kernels();
    kernels.input_bytes = amx::input_bytes;
    kernels.prepare_input = amx::prepare_input;
    kernels.linear = amx::linear;
    kernels.write_kv = amx::write_kv;
    kernels.attend = amx::attend;
    return kernels;
  }();
  return table;
}

}  // namespace sluice::kernels::cpu
