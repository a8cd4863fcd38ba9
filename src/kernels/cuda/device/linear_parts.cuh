#pragma once

#include "kernels/cuda/device/byte_numbers.cuh"
#include "kernels/cuda/device/sum_order.h"
#include "kernels/cuda/device_api.h"
#include "kernels/cuda/layout.h"

// What the kernels of `linear` share: the operands, the order of the sum over K, and what follows
// the sums.
//
// The order: K's pairs of tiles are cut into segments of segment_pairs(K) pairs. A segment's sum is
// a chain of matrix instructions that begins at zero, in ascending order; the segments' sums are
// added in ascending order, in float32. It depends on K alone, so a row's bits are the same for
// every number of rows, and every kernel here may do any share of the work.
namespace sluice::kernels::cuda {

// Small K have short segments, so that a block's eight warps have one each.
__host__ __device__ constexpr int segment_pairs(int num_pairs) {
  const int eighth = (num_pairs + 7) / 8;
  return eighth < 4 ? 4 : eighth > 16 ? 16 : eighth;
}

// The matrix units' types: 16-bit floats and Float8 with float32 sums, and int8 with int32 sums.
template <typename T>
struct Math {
  using Sum = float;
  static __device__ void multiply(float (&sum)[4], const uint4& weights, const uint2& x) {
    warp_multiply<T>(sum, weights, x);
  }
};
template <>
struct Math<int8_t> {
  using Sum = int32_t;
  static __device__ void multiply(int32_t (&sum)[4], const uint4& weights, const uint2& x) {
    warp_multiply_bytes(sum, weights, x);
  }
};
template <>
struct Math<Float8> {
  using Sum = float;
  static __device__ void multiply(float (&sum)[4], const uint4& weights, const uint2& x) {
    warp_multiply_float8(sum, weights, x);
  }
};

struct Product {
  const unsigned char* tiles = nullptr;
  WeightFormat format = WeightFormat::kPlain;
  bool is_wide = false;                  // bytes that become x's type
  const uint8_t* multipliers = nullptr;  // int4: [rows of tiles][groups of K][16]
  int group_size = 0;                    // int4
  int num_groups = 0;                    // int4
  const unsigned char* x = nullptr;
  int64_t row_bytes = 0;  // of x; from a row to the next, too
  int num_rows = 0;       // T
  int num_columns = 0;    // N
  int num_pairs = 0;      // of K
};

inline Product product_of(const Weight& weight) {
  Product product;
  product.tiles = static_cast<const unsigned char*>(weight.tiles);
  product.format = weight.format;
  product.is_wide = weight.is_wide;
  product.multipliers = weight.multipliers;
  product.group_size = static_cast<int>(weight.group_size);
  product.num_columns = static_cast<int>(weight.rows);
  product.num_pairs = static_cast<int>(num_pairs(weight.columns, number_bits(weight)));
  product.num_groups = static_cast<int>(num_groups(weight.columns, weight.group_size));
  return product;
}

// How a lane gets its words of a pair of tiles: as they lie in memory, or out of fewer bits. load()
// is from the device's memory, read() from the block's, at the lane's first word. A warp of the
// kernel for few rows has kBatch pairs on their way: 4 KiB (but see batch_pairs()).
struct PlainPairs {
  static constexpr int kBatch = 4;
  static constexpr int kBytes = static_cast<int>(kPairBytes);
  struct Raw {
    uint4 tiles[2];
  };
  static __device__ void load(Raw& raw, const Product& product, int64_t row_of_tiles, int pair) {
    const unsigned char* from = product.tiles + (row_of_tiles * product.num_pairs + pair) * kBytes +
                                threadIdx.x % kWarpThreads * 16;
    raw.tiles[0] = load_once(from);
    raw.tiles[1] = load_once(from + kTileBytes);
  }
  static __device__ void read(Raw& raw, const unsigned char* at) {
    raw.tiles[0] = *reinterpret_cast<const uint4*>(at);
    raw.tiles[1] = *reinterpret_cast<const uint4*>(at + kTileBytes);
  }
  static __device__ void expand(const Raw& raw, uint4 (&tiles)[2]) {
    tiles[0] = raw.tiles[0];
    tiles[1] = raw.tiles[1];
  }
};

// Bytes C, int8 or Float8, as T.
template <typename T, typename C>
struct WidePairs {
  static constexpr int kBatch = 8;
  static constexpr int kBytes = static_cast<int>(kPairBytes) / 2;
  struct Raw {
    uint4 numbers;
  };
  static __device__ void load(Raw& raw, const Product& product, int64_t row_of_tiles, int pair) {
    raw.numbers = load_once(product.tiles + (row_of_tiles * product.num_pairs + pair) * kBytes +
                            threadIdx.x % kWarpThreads * 16);
  }
  static __device__ void read(Raw& raw, const unsigned char* at) {
    raw.numbers = *reinterpret_cast<const uint4*>(at);
  }
  static __device__ void expand(const Raw& raw, uint4 (&tiles)[2]) {
    tiles[0] = tile(raw.numbers.x, raw.numbers.y);
    tiles[1] = tile(raw.numbers.z, raw.numbers.w);
  }

 private:
  // Four numbers of the lane's row and of row + 8.
  static __device__ uint4 tile(uint32_t row, uint32_t row_8) {
    const uint2 first = widen_bytes<T, C>(row);
    const uint2 second = widen_bytes<T, C>(row_8);
    return make_uint4(first.x, second.x, first.y, second.y);
  }
};

// int4's group of K that a lane's quarter of a pair is in: a pair has two groups of 32, or half a
// one of 128.
__device__ inline int64_t group_of(const Product& product, int pair, int quarter) {
  return product.group_size == 32 ? pair * 2 + quarter / 2 : pair / 2;
}

// Four int8 weights out of the low halves of four bytes: (code - 8) times the multiplier, which is
// -120 to 105. A byte's product with up to 15 stays in its byte.
__device__ inline uint32_t code_values(uint32_t codes, uint32_t multiplier) {
  const uint32_t products = (codes & 0x0f0f0f0fu) * multiplier;
  const uint32_t zeros = 0x08080808u * multiplier;
  // Byte by byte, without borrows (Warren, Hacker's Delight, 2-18).
  return ((products | 0x80808080u) - (zeros & 0x7f7f7f7fu)) ^ ((products ^ ~zeros) & 0x80808080u);
}

// What follows a sum.
struct Finish {
  DType type = DType::kBF16;  // of bias, residual and output
  const void* bias = nullptr;
  const void* residual = nullptr;
  void* output = nullptr;
  const float* row_scales = nullptr;     // of x, where it was rounded
  const float* column_scales = nullptr;  // of a quantized weight
  Activation activation = Activation::kNone;
  bool float_output = false;
};

// No part of a kernel's loops: one copy is enough.
__attribute__((noinline)) static __device__ float activate(float x, Activation activation) {
  switch (activation) {
    case Activation::kNone:
      return x;
    case Activation::kGeluTanh:
      // x / (1 + e^-2u) loses nothing to cancellation where tanh u is near -1.
      return x / (1.0f + expf(-1.59576912160573f * fmaf(x * x * 0.044715f, x, x)));
    case Activation::kGelu:
      return 0.5f * x * (1.0f + erff(x * 0.70710678118654752f));
    case Activation::kSilu:
      return x / (1.0f + expf(-x));
    case Activation::kRelu:
      return x > 0.0f ? x : x != x ? x : 0.0f;
  }
  return x;
}

__device__ inline float number_at(const void* numbers, DType type, int64_t place) {
  switch (type) {
    case DType::kF32:
      return static_cast<const float*>(numbers)[place];
    case DType::kF16:
      return to_float(static_cast<const Half*>(numbers)[place]);
    case DType::kBF16:
      break;
  }
  return to_float(static_cast<const BFloat16*>(numbers)[place]);
}

__device__ inline void put_number(void* numbers, DType type, int64_t place, float y) {
  switch (type) {
    case DType::kF32:
      static_cast<float*>(numbers)[place] = y;
      return;
    case DType::kF16:
      static_cast<Half*>(numbers)[place] = from_float<Half>(y);
      return;
    case DType::kBF16:
      static_cast<BFloat16*>(numbers)[place] = from_float<BFloat16>(y);
      return;
  }
}

// The product of which the matrix units gave `sum`.
template <typename Sum>
__device__ inline float scaled(const Finish& to, int row, int column, Sum sum) {
  float y = static_cast<float>(sum);
  if (to.row_scales != nullptr) {
    y *= to.row_scales[row] * to.column_scales[column];
  } else if (to.column_scales != nullptr) {
    y *= to.column_scales[column];
  }
  return y;
}

template <typename Sum>
__device__ inline void finish(const Finish& to, const Product& product, int row, int column,
                              Sum sum) {
  const int64_t place = static_cast<int64_t>(row) * product.num_columns + column;
  // Both on their way before either is waited for.
  float bias = 0;
  float residual = 0;
  if (to.bias != nullptr) bias = number_at(to.bias, to.type, column);
  if (to.residual != nullptr) residual = number_at(to.residual, to.type, place);
  float y = scaled(to, row, column, sum);
  if (to.bias != nullptr) y += bias;
  if (to.activation != Activation::kNone) y = activate(y, to.activation);
  if (to.residual != nullptr) y += residual;
  put_number(to.output, to.float_output ? DType::kF32 : to.type, place, y);
}

// The same as a function that is called, for unrolled loops: the compiler multiplies the paths
// through each copy's branches with those of the next, to kernels of ten thousand instructions, for
// minutes.
template <typename Sum>
__attribute__((noinline)) static __device__ void call_finish(const Finish& to,
                                                             const Product& product, int row,
                                                             int column, Sum sum) {
  finish(to, product, row, column, sum);
}

// Whether rows of 16-bit numbers, and the output's, can be read and written 16 bytes at a time.
__device__ inline bool has_eights(const Finish& to, const Product& product) {
  const auto address = [](const void* p) { return reinterpret_cast<uintptr_t>(p); };
  return to.type != DType::kF32 && product.num_columns % 8 == 0 &&
         (address(to.bias) | address(to.residual) | address(to.output)) % 16 == 0;
}

// y[n] += number n of eight 16-bit ones.
__device__ inline void add_eight(float (&y)[8], const uint4& numbers, DType type) {
  const uint32_t words[4] = {numbers.x, numbers.y, numbers.z, numbers.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float2 pair =
        type == DType::kF16 ? numbers_of<Half>(words[i]) : numbers_of<BFloat16>(words[i]);
    y[2 * i] += pair.x;
    y[2 * i + 1] += pair.y;
  }
}

template <typename T>
__device__ inline uint4 eight_of(const float (&y)[8]) {
  return make_uint4(pair_of<T>(y[0], y[1]), pair_of<T>(y[2], y[3]), pair_of<T>(y[4], y[5]),
                    pair_of<T>(y[6], y[7]));
}

// finish() of eight columns, where has_eights().
template <typename Sum>
__device__ inline void finish_eight(const Finish& to, const Product& product, int row, int column,
                                    const Sum (&sums)[8]) {
  const int64_t place = static_cast<int64_t>(row) * product.num_columns + column;
  const auto eight_at = [](const void* numbers, int64_t first) {
    return *reinterpret_cast<const uint4*>(static_cast<const uint16_t*>(numbers) + first);
  };
  uint4 bias = make_uint4(0, 0, 0, 0);
  uint4 residual = bias;
  if (to.bias != nullptr) bias = eight_at(to.bias, column);
  if (to.residual != nullptr) residual = eight_at(to.residual, place);
  float y[8];
#pragma unroll
  for (int n = 0; n < 8; ++n) y[n] = scaled(to, row, column + n, sums[n]);
  if (to.bias != nullptr) add_eight(y, bias, to.type);
  if (to.activation != Activation::kNone) {
#pragma unroll
    for (int n = 0; n < 8; ++n) y[n] = activate(y[n], to.activation);
  }
  if (to.residual != nullptr) add_eight(y, residual, to.type);
  if (to.float_output) {
    auto* output = static_cast<float*>(to.output) + place;
#pragma unroll
    for (int n = 0; n < 8; n += 4) {
      store_16_bytes(output + n, make_uint4(__float_as_uint(y[n]), __float_as_uint(y[n + 1]),
                                            __float_as_uint(y[n + 2]), __float_as_uint(y[n + 3])));
    }
    return;
  }
  store_16_bytes(static_cast<uint16_t*>(to.output) + place,
                 to.type == DType::kF16 ? eight_of<Half>(y) : eight_of<BFloat16>(y));
}

// A quarter's 16 bytes of a row of x in a pair; zeros past the row's end. What there is for rows
// past the last has no meaning: it meets no other row. kAligned: rows are multiples of 16 bytes;
// there is no branch then, so that many loads are on their way together.
template <bool kAligned>
__device__ inline uint4 load_x(const Product& product, int row, int64_t byte) {
  const bool is_inside = byte < product.row_bytes;
  const unsigned char* from =
      product.x + min(row, product.num_rows - 1) * product.row_bytes + (is_inside ? byte : 0);
  if constexpr (kAligned) {
    const uint4 x = load_16_bytes(from);
    return make_uint4(is_inside ? x.x : 0, is_inside ? x.y : 0, is_inside ? x.z : 0,
                      is_inside ? x.w : 0);
  } else {  // 16-bit numbers, which begin at even addresses
    uint32_t words[4];
    for (int i = 0; i < 4; ++i) {
      const int64_t left = product.row_bytes - byte - 4 * i;
      const auto* numbers = reinterpret_cast<const uint16_t*>(from + 4 * i);
      words[i] = left >= 4   ? numbers[0] | static_cast<uint32_t>(numbers[1]) << 16
                 : left >= 2 ? numbers[0]
                             : 0;
    }
    return make_uint4(words[0], words[1], words[2], words[3]);
  }
}

}  // namespace sluice::kernels::cuda
