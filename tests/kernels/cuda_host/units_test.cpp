#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <set>
#include <vector>

#include "host_memory.h"
#include "kernels/cuda/device/intrinsics.cuh"
#include "kernels/cuda/layout.h"
#include "with_schedule.h"

// The host's numbers and matrix units against plain arithmetic, and tiles as they read them.
namespace sluice::kernels::cuda {
namespace {

using Units = host::WithSchedule;

const DeviceApi& api() {
  static const DeviceApi table = host::memory_api();
  return table;
}

INSTANTIATE_TEST_SUITE_P(Schedules, Units, host::schedules(), host::schedule_name);

TEST(HostNumbers, RoundsToNearestEven) {
  EXPECT_EQ(to_bfloat16(1.0f).bits, 0x3f80);
  EXPECT_EQ(to_bfloat16(1.0f + 0x1p-8f).bits, 0x3f80);  // a tie
  EXPECT_EQ(to_bfloat16(1.0f + 0x1.8p-7f).bits, 0x3f82);
  EXPECT_EQ(to_bfloat16(std::numeric_limits<float>::max()).bits, 0x7f80);
  EXPECT_EQ(to_bfloat16(-std::numeric_limits<float>::infinity()).bits, 0xff80);
  EXPECT_TRUE(std::isnan(to_float(to_bfloat16(std::bit_cast<float>(0x7f800001u)))));
  EXPECT_TRUE(std::isnan(to_float(to_half(std::bit_cast<float>(0xff800001u)))));
  // Every float16, the points halfway to the next, and what is next to those.
  for (uint32_t bits = 0; bits < 0x7c00; ++bits) {
    const float value = to_float(Half{static_cast<uint16_t>(bits)});
    const int exponent = static_cast<int>(bits >> 10);
    const float expected =
        exponent == 0 ? std::ldexp(static_cast<float>(bits), -24)
                      : std::ldexp(static_cast<float>(1024 + (bits & 1023)), exponent - 25);
    ASSERT_EQ(value, expected) << bits;
    ASSERT_EQ(to_half(value).bits, bits);
    ASSERT_EQ(to_half(-value).bits, bits | 0x8000u);
    const float step = std::ldexp(1.0f, std::max(exponent, 1) - 25);
    const float halfway = value + step / 2;
    ASSERT_EQ(to_half(halfway).bits, bits + bits % 2) << bits;
    ASSERT_EQ(to_half(std::nextafter(halfway, 0.0f)).bits, bits);
    ASSERT_EQ(to_half(std::nextafter(halfway, 1e9f)).bits, bits + 1);
  }
}

// The matrices of one warp_multiply, each lane's numbers in the PTX ISA's places (mma.m16n8k16):
// with g = lane / 4 and p = lane % 4, a0,a1: (g, 2p+{0,1}), a2,a3: (g+8, same), a4,a5: (g, 2p+8+),
// a6,a7: (g+8, 2p+8+); b0,b1: (2p+{0,1}, g), b2,b3: (2p+8+, g); c0,c1: (g, 2p+), c2,c3: (g+8, 2p+).
struct Matrices {
  std::array<std::array<float, 16>, 16> a{};
  std::array<std::array<float, 8>, 16> b{};
  std::array<std::array<float, 8>, 16> sum{};
};

template <typename T>
__global__ void multiply_kernel(const T* a, const T* b, float* sum) {
  const int lane = static_cast<int>(threadIdx.x);
  const int g = lane / 4;
  const int p = lane % 4;
  const auto pair = [](T low, T high) {
    uint16_t bits[2];
    std::memcpy(&bits[0], &low, 2);
    std::memcpy(&bits[1], &high, 2);
    return static_cast<uint32_t>(bits[1]) << 16 | bits[0];
  };
  const auto of_a = [&](int row, int k) { return pair(a[row * 16 + k], a[row * 16 + k + 1]); };
  const auto of_b = [&](int k, int column) {
    return pair(b[k * 8 + column], b[(k + 1) * 8 + column]);
  };
  const uint4 left =
      make_uint4(of_a(g, 2 * p), of_a(g + 8, 2 * p), of_a(g, 2 * p + 8), of_a(g + 8, 2 * p + 8));
  const uint2 right = make_uint2(of_b(2 * p, g), of_b(2 * p + 8, g));
  float own[4] = {sum[g * 8 + 2 * p], sum[g * 8 + 2 * p + 1], sum[(g + 8) * 8 + 2 * p],
                  sum[(g + 8) * 8 + 2 * p + 1]};
  warp_multiply<T>(own, left, right);
  sum[g * 8 + 2 * p] = own[0];
  sum[g * 8 + 2 * p + 1] = own[1];
  sum[(g + 8) * 8 + 2 * p] = own[2];
  sum[(g + 8) * 8 + 2 * p + 1] = own[3];
}

template <typename T>
void multiply_on_host(const Matrices& m, std::array<std::array<float, 8>, 16>& result) {
  std::vector<T> a;
  std::vector<T> b;
  for (const auto& row : m.a) {
    for (const float value : row) a.push_back(from_float<T>(value));
  }
  for (const auto& row : m.b) {
    for (const float value : row) b.push_back(from_float<T>(value));
  }
  result = m.sum;
  ASSERT_EQ(launch(&multiply_kernel<T>, {.blocks = dim3(1), .threads = 32}, nullptr,
                   static_cast<const T*>(a.data()), static_cast<const T*>(b.data()), &result[0][0]),
            kSuccess);
}

template <typename T>
void expect_products() {
  // Small integers: every sum is exact, in any order.
  std::mt19937 random(7);
  Matrices m;
  const auto fill = [&](auto& matrix) {
    for (auto& row : matrix) {
      for (float& value : row) value = static_cast<float>(static_cast<int>(random() % 17) - 8);
    }
  };
  fill(m.a);
  fill(m.b);
  fill(m.sum);
  std::array<std::array<float, 8>, 16> result;
  multiply_on_host<T>(m, result);
  for (int row = 0; row < 16; ++row) {
    for (int column = 0; column < 8; ++column) {
      float expected = m.sum[row][column];
      for (int k = 0; k < 16; ++k) expected += m.a[row][k] * m.b[k][column];
      EXPECT_EQ(result[row][column], expected) << row << ", " << column;
    }
  }
}

TEST_P(Units, MultipliesAsTheMatrixUnits) {
  expect_products<BFloat16>();
  expect_products<Half>();
}

TEST_P(Units, AProductsNaNStaysInItsRowAndColumn) {
  Matrices m;
  for (auto& row : m.a) row.fill(1);
  for (auto& row : m.b) row.fill(1);
  m.a[5][3] = std::numeric_limits<float>::quiet_NaN();
  m.b[9][6] = std::numeric_limits<float>::quiet_NaN();
  std::array<std::array<float, 8>, 16> result;
  multiply_on_host<BFloat16>(m, result);
  for (int row = 0; row < 16; ++row) {
    for (int column = 0; column < 8; ++column) {
      EXPECT_EQ(std::isnan(result[row][column]), row == 5 || column == 6);
    }
  }
}

// mma.m16n8k32: a lane's register has four numbers of K in a row, 4 p + {0..3}; the second half of
// registers is 16 further.
template <typename Number, typename Sum>
__global__ void multiply_bytes_kernel(const Number* a, const Number* b, Sum* sum) {
  const int lane = static_cast<int>(threadIdx.x);
  const int g = lane / 4;
  const int p = lane % 4;
  const auto of_a = [&](int row, int k) {
    uint32_t bits;
    std::memcpy(&bits, a + row * 32 + k, 4);
    return bits;
  };
  const auto of_b = [&](int k) {
    uint32_t bits = 0;
    for (int i = 0; i < 4; ++i) {
      bits |= uint32_t{std::bit_cast<uint8_t>(b[(k + i) * 8 + g])} << 8 * i;
    }
    return bits;
  };
  const uint4 left =
      make_uint4(of_a(g, 4 * p), of_a(g + 8, 4 * p), of_a(g, 4 * p + 16), of_a(g + 8, 4 * p + 16));
  const uint2 right = make_uint2(of_b(4 * p), of_b(4 * p + 16));
  Sum own[4] = {1, 2, 3, 4};
  if constexpr (__is_same(Number, Float8)) {
    warp_multiply_float8(own, left, right);
  } else {
    warp_multiply_bytes(own, left, right);
  }
  for (int i = 0; i < 4; ++i) sum[(g + i / 2 * 8) * 8 + 2 * p + i % 2] = own[i];
}

TEST_P(Units, MultipliesBytes) {
  std::mt19937 random(11);
  std::vector<int8_t> a(16 * 32);
  std::vector<int8_t> b(32 * 8);
  for (int8_t& value : a) value = static_cast<int8_t>(random());
  for (int8_t& value : b) value = static_cast<int8_t>(random());
  a[0] = b[0] = -128;
  std::vector<int32_t> sum(16 * 8);
  ASSERT_EQ(launch(&multiply_bytes_kernel<int8_t, int32_t>, {.blocks = dim3(1), .threads = 32},
                   nullptr, static_cast<const int8_t*>(a.data()),
                   static_cast<const int8_t*>(b.data()), sum.data()),
            kSuccess);
  for (int row = 0; row < 16; ++row) {
    for (int column = 0; column < 8; ++column) {
      int32_t expected = 1 + row / 8 * 2 + column % 2;
      for (int k = 0; k < 32; ++k) expected += a[row * 32 + k] * b[k * 8 + column];
      EXPECT_EQ(sum[row * 8 + column], expected);
    }
  }
}

// Of any codes: a double holds every sum, of which each lane's is rounded once.
TEST_P(Units, MultipliesFloat8) {
  std::mt19937 random(12);
  std::vector<Float8> a(16 * 32);
  std::vector<Float8> b(32 * 8);
  for (auto* numbers : {&a, &b}) {
    for (Float8& number : *numbers) {
      do {
        number.bits = static_cast<uint8_t>(random());
      } while (is_float8_nan(number.bits));
    }
  }
  a[0] = b[0] = to_float8(kFloat8Largest);
  a[1] = b[8] = to_float8(0x1p-9f);
  std::vector<float> sum(16 * 8);
  ASSERT_EQ(launch(&multiply_bytes_kernel<Float8, float>, {.blocks = dim3(1), .threads = 32},
                   nullptr, static_cast<const Float8*>(a.data()),
                   static_cast<const Float8*>(b.data()), sum.data()),
            kSuccess);
  for (int row = 0; row < 16; ++row) {
    for (int column = 0; column < 8; ++column) {
      double expected = 1 + row / 8 * 2 + column % 2;
      for (int k = 0; k < 32; ++k) {
        expected += double{from_float8(a[row * 32 + k])} * from_float8(b[k * 8 + column]);
      }
      EXPECT_EQ(sum[row * 8 + column], static_cast<float>(expected)) << row << ", " << column;
    }
  }
}

// 16 x 16 numbers in rows of 48 bytes.
__global__ void load_transposed_kernel(uint32_t* output) {
  const int lane = static_cast<int>(threadIdx.x);
  auto* memory = reinterpret_cast<uint16_t*>(block_memory());
  for (int i = lane; i < 16 * 16; i += 32) memory[i / 16 * 24 + i % 16] = static_cast<uint16_t>(i);
  block_barrier();
  const uint4 loaded = warp_load_transposed(memory + lane % 16 * 24 + lane / 16 * 8);
  output[lane * 4] = loaded.x;
  output[lane * 4 + 1] = loaded.y;
  output[lane * 4 + 2] = loaded.z;
  output[lane * 4 + 3] = loaded.w;
}

TEST_P(Units, LoadsTransposed) {
  std::vector<uint32_t> output(32 * 4);
  ASSERT_EQ(launch(&load_transposed_kernel,
                   {.blocks = dim3(1), .threads = 32, .block_memory_bytes = 16 * 48}, nullptr,
                   output.data()),
            kSuccess);
  for (int lane = 0; lane < 32; ++lane) {
    for (int i = 0; i < 4; ++i) {
      const int row = i % 2 * 8 + lane % 4 * 2;
      const int column = i / 2 * 8 + lane / 4;
      const int first = row * 16 + column;
      EXPECT_EQ(output[lane * 4 + i], static_cast<uint32_t>((first + 16) << 16 | first));
    }
  }
}

TEST_P(Units, AddsPairs) {
  EXPECT_EQ(pair_of<BFloat16>(1.5f, -2.0f), 0xc0003fc0u);
  EXPECT_EQ(add_pairs<BFloat16>(pair_of<BFloat16>(1.5f, -2.0f), pair_of<BFloat16>(0.25f, 2.0f)),
            pair_of<BFloat16>(1.75f, 0.0f));
  EXPECT_EQ(add_pairs<Half>(pair_of<Half>(1029.0f, 3.0f), pair_of<Half>(-1152.0f, 1.0f)),
            pair_of<Half>(-123.0f, 4.0f));
}

TEST(Tiles, EachNumberHasItsPlace) {
  for (const int64_t bits : {16, 8}) {
    for (const auto& [rows, columns] : {std::pair{16, 32}, {48, 160}, {33, 40}}) {
      Weight weight;
      weight.rows = rows;
      weight.columns = columns * bits / 8;  // in bytes, as int8 has them
      weight.format = WeightFormat::kInt8;
      const int64_t num_numbers = weight_bytes(weight) * 8 / bits;
      const int64_t padded_rows = divide_up(rows, kTileRows) * kTileRows;
      std::set<int64_t> places;
      for (int64_t row = 0; row < padded_rows; ++row) {
        for (int64_t k = 0; k < num_numbers / padded_rows; ++k) {
          places.insert(number_offset(row, k, columns, bits));
        }
      }
      EXPECT_EQ(std::ssize(places), num_numbers);
      EXPECT_EQ(*places.begin(), 0);
      EXPECT_EQ(*places.rbegin(), num_numbers - 1);
    }
  }
}

// A weight in tiles against activations as `linear` reads them: lane l takes 8 numbers of
// activation l / 4 from 8 (l % 4) on, the first four for the pair's first tile.
__global__ void tiles_kernel(const BFloat16* tiles, const BFloat16* x, float* output,
                             int64_t columns, int64_t rows) {
  const int lane = static_cast<int>(threadIdx.x);
  constexpr int64_t kPairDepth = kRowPairBytes / 2;
  const int64_t num_pairs = columns / kPairDepth;
  float sum[4] = {};
  for (int64_t pair = 0; pair < num_pairs; ++pair) {
    const auto* numbers = x + lane / 4 * columns + pair * kPairDepth + lane % 4 * 8;
    const uint4 activations = load_once(numbers);
    const auto* first = tiles + ((blockIdx.x * num_pairs + pair) * 2 * 32 + lane) * 8;
    warp_multiply<BFloat16>(sum, load_once(first), make_uint2(activations.x, activations.y));
    warp_multiply<BFloat16>(sum, load_once(first + 256), make_uint2(activations.z, activations.w));
  }
  for (int i = 0; i < 4; ++i) {
    const int64_t row = blockIdx.x * kTileRows + lane / 4 + i / 2 * 8;
    output[(lane % 4 * 2 + i % 2) * rows + row] = sum[i];
  }
}

TEST_P(Units, TilesLieAsWarpMultiplyReadsThem) {
  constexpr int64_t kRows = 48;
  constexpr int64_t kColumns = 160;
  std::mt19937 random(3);
  const auto small = [&] { return static_cast<float>(static_cast<int>(random() % 9) - 4); };
  std::vector<float> weight(kRows * kColumns);
  std::vector<float> x(8 * kColumns);
  for (float& value : weight) value = small();
  for (float& value : x) value = small();
  void* tiles = nullptr;
  void* activations = nullptr;
  ASSERT_EQ(api().allocate(&tiles, weight.size() * 2), kSuccess);
  ASSERT_EQ(api().allocate(&activations, x.size() * 2), kSuccess);
  auto* to = static_cast<BFloat16*>(tiles);
  for (int64_t row = 0; row < kRows; ++row) {
    for (int64_t k = 0; k < kColumns; ++k) {
      to[number_offset(row, k, kColumns, 16)] = to_bfloat16(weight[row * kColumns + k]);
    }
  }
  auto* numbers = static_cast<BFloat16*>(activations);
  for (size_t i = 0; i < x.size(); ++i) numbers[i] = to_bfloat16(x[i]);
  std::vector<float> output(8 * kRows);
  ASSERT_EQ(launch(&tiles_kernel, {.blocks = dim3(kRows / 16), .threads = 32}, nullptr, to, numbers,
                   output.data(), kColumns, kRows),
            kSuccess);
  for (int64_t t = 0; t < 8; ++t) {
    for (int64_t row = 0; row < kRows; ++row) {
      float expected = 0;
      for (int64_t k = 0; k < kColumns; ++k) {
        expected += weight[row * kColumns + k] * x[t * kColumns + k];
      }
      ASSERT_EQ(output[t * kRows + row], expected) << t << ", " << row;
    }
  }
  EXPECT_EQ(api().release(tiles), kSuccess);
  EXPECT_EQ(api().release(activations), kSuccess);
}

}  // namespace
}  // namespace sluice::kernels::cuda
