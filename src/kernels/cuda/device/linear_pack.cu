#include "kernels/cuda/device/intrinsics.cuh"
#include "kernels/cuda/device/kernels.h"
#include "kernels/cuda/layout.h"

// Weights from the order of files to tiles: a thread makes the 16 bytes that a lane will read.
namespace sluice::kernels::cuda {
namespace {

constexpr int kThreads = 256;

struct Source {
  const unsigned char* rows;
  int64_t row_bytes;
  int64_t num_rows;
  int64_t num_pairs;
  int64_t num_chunks;  // of 16 bytes, of the tiles
};

// A word of a row; zero past its end, which may lie inside the word.
__device__ uint32_t word_at(const Source& source, int64_t row, int64_t word) {
  if (row >= source.num_rows) return 0;
  uint32_t value = 0;
  for (int64_t byte = 0; byte < 4; ++byte) {
    const int64_t place = word * 4 + byte;
    if (place >= source.row_bytes) break;
    value |= static_cast<uint32_t>(source.rows[row * source.row_bytes + place]) << (8 * byte);
  }
  return value;
}

__global__ void pack_tiles(Source source, uint4* tiles) {
  const int64_t chunk = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (chunk >= source.num_chunks) return;
  const int64_t lane = chunk % kWarpThreads;
  const int64_t tile = chunk / kWarpThreads % 2;
  const int64_t pair = chunk / kWarpThreads / 2;
  const int64_t first_row = pair / source.num_pairs * kTileRows;
  const int64_t first_word = pair % source.num_pairs * kPairWords;
  uint32_t words[4];
  for (int64_t i = 0; i < 4; ++i) {
    words[i] =
        word_at(source, first_row + row_of(lane, i), first_word + word_of(lane % 4, tile, i));
  }
  tiles[chunk] = make_uint4(words[0], words[1], words[2], words[3]);
}

// A lane's half of a pair of int8 that becomes 16 bits.
__global__ void pack_wide(Source source, uint4* tiles) {
  const int64_t chunk = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (chunk >= source.num_chunks) return;
  const int64_t lane = chunk % kWarpThreads;
  const int64_t pair = chunk / kWarpThreads;
  const int64_t row = pair / source.num_pairs * kTileRows + lane / 4;
  const int64_t word = pair % source.num_pairs * 8 + lane % 4 * 2;
  tiles[chunk] = make_uint4(word_at(source, row, word), word_at(source, row + 8, word),
                            word_at(source, row, word + 1), word_at(source, row + 8, word + 1));
}

// Four codes of a row, of element k on: each in the low half of a byte.
__device__ uint32_t codes_at(const Source& source, int64_t row, int64_t k) {
  if (row >= source.num_rows) return 0;
  uint32_t codes = 0;
  for (int64_t i = 0; i < 4; ++i) {
    const int64_t place = (k + i) / 2;
    if (place >= source.row_bytes) break;
    const uint32_t byte = source.rows[row * source.row_bytes + place];
    codes |= ((k + i) % 2 == 0 ? byte & 15 : byte >> 4) << (8 * i);
  }
  return codes;
}

// A lane's half of a pair: word i has the codes of K's word i of the quarter, those of row + 8 in
// the high halves of the bytes.
__global__ void pack_codes(Source source, uint4* tiles) {
  const int64_t chunk = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (chunk >= source.num_chunks) return;
  const int64_t lane = chunk % kWarpThreads;
  const int64_t pair = chunk / kWarpThreads;
  const int64_t row = pair / source.num_pairs * kTileRows + lane / 4;
  const int64_t k = (pair % source.num_pairs * kPairWords + lane % 4 * 4) * 4;
  uint32_t words[4];
  for (int64_t i = 0; i < 4; ++i) {
    words[i] = codes_at(source, row, k + 4 * i) | codes_at(source, row + 8, k + 4 * i) << 4;
  }
  tiles[chunk] = make_uint4(words[0], words[1], words[2], words[3]);
}

// float32 stays as it is.
__global__ void copy_words(const uint32_t* from, uint32_t* to, int64_t count) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i < count) to[i] = from[i];
}

Grid grid_over(int64_t count) {
  return {dim3(static_cast<unsigned>(divide_up(count, kThreads))), kThreads, 0};
}

}  // namespace

Status pack(const PackArgs& args, Stream stream) {
  const Weight& weight = args.weight;
  if (is_plain_matrix(weight)) {
    const int64_t count = weight.rows * weight.columns;
    return launch(copy_words, grid_over(count), stream, static_cast<const uint32_t*>(args.source),
                  static_cast<uint32_t*>(args.tiles), count);
  }
  Source source{};
  source.rows = static_cast<const unsigned char*>(args.source);
  source.row_bytes = weight.columns * file_bits(weight) / 8;
  source.num_rows = weight.rows;
  source.num_pairs = num_pairs(weight.columns, number_bits(weight));
  source.num_chunks = weight_bytes(weight) / 16;
  if (weight.format == WeightFormat::kInt4) {
    return launch(pack_codes, grid_over(source.num_chunks), stream, source,
                  static_cast<uint4*>(args.tiles));
  }
  return launch(weight.is_wide ? pack_wide : pack_tiles, grid_over(source.num_chunks), stream,
                source, static_cast<uint4*>(args.tiles));
}

}  // namespace sluice::kernels::cuda
