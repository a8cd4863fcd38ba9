#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/zeros.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/backends.h"
#include "kernels/operators.h"
#include "kernels/packed_weight.h"
#include "kernels/quantize.h"
#include "support.h"

namespace sluice::kernels::testing {
namespace {

struct Kind {
  const char* name;
  WeightFormat format;
  int64_t group_size;
};
constexpr Kind kKinds[] = {{"int8", WeightFormat::kInt8, 0},
                           {"int4/32", WeightFormat::kInt4, 32},
                           {"int4/128", WeightFormat::kInt4, 128}};

struct Operands {
  at::Tensor x, bias, residual, packed;
  at::Tensor weight;  // what the codes stand for, float64
};

Operands make_operands(const Kind& kind, int64_t m, int64_t n, int64_t k, at::ScalarType type) {
  Operands o;
  o.x = random_tensor({m, k}, 1, type);
  const at::Tensor weight = random_tensor({n, k}, 2, type, 1.0 / std::sqrt(k));
  const QuantizedWeight quantized = quantize(weight, kind.format, kind.group_size).value();
  o.packed = pack(quantized, type).value();
  o.weight = dequantize(quantized, at::kFloat).to(at::kDouble);
  o.bias = random_tensor({n}, 3, type);
  o.residual = random_tensor({m, n}, 4, type);
  return o;
}

struct RoundedInput {
  at::Tensor codes, scales;  // float64
};

// Rows of x as the kernels' header says: int8 with the scale max|row| / 127, in float32.
RoundedInput round_input(const at::Tensor& x) {
  const at::Tensor wide = x.to(at::kFloat);
  const at::Tensor largest = wide.abs().amax({1}, true);
  const at::Tensor codes = (wide * (127.0f / largest)).round();
  return {codes.to(at::kDouble), (largest / 127.0f).to(at::kDouble)};
}

at::Tensor finish(const Operands& o, const at::Tensor& sums, std::string_view activation) {
  const at::Tensor identity = at::zeros({1, 1}, at::TensorOptions().dtype(at::kDouble)) + 1;
  const at::Tensor y = sums + o.bias.to(at::kDouble);
  const at::Tensor active =
      reference::linear(y.reshape({-1, 1}), identity, std::nullopt, activation, std::nullopt);
  return active.view_as(y) + o.residual.to(at::kDouble);
}

class QuantizedTest : public KernelTest {};

// The integer sums are exact, so what is left is the rounding of a handful of float32 operations
// on numbers of the size of the terms, and of the result to `type`.
TEST_F(QuantizedTest, EqualsTheExactProductOfTheCodes) {
  const int64_t shapes[][3] = {{1, 32, 64},   {1, 1, 2},      {3, 70, 100},  {4, 33, 256},
                               {5, 64, 1024}, {16, 64, 1024}, {17, 33, 30},  {33, 96, 2080},
                               {70, 100, 98}, {200, 65, 544}, {390, 40, 700}};
  for (const Kind& kind : kKinds) {
    for (const at::ScalarType type : kDtypes) {
      for (const auto& [m, n, k] : shapes) {
        const Operands o = make_operands(kind, m, n, k, type);
        const RoundedInput x = round_input(o.x);
        const at::Tensor sums = at::matmul(x.codes, o.weight.t()) * x.scales;
        const at::Tensor expected = finish(o, sums, "gelu_tanh");
        const at::Tensor size = sums.abs() + o.bias.to(at::kDouble).abs() + expected.abs() + 1;
        EXPECT_TRUE(close(linear(o.x, o.packed, o.bias, "gelu_tanh", o.residual), expected,
                          size * (8 * 0x1p-24) + expected.abs() * (unit_roundoff(type) * 1.01)))
            << kind.name << " " << type << " M=" << m << " N=" << n << " K=" << k;
      }
    }
  }
}

// Rounding a row of x moves each number by at most half a step of its scale.
TEST_F(QuantizedTest, IsWithinTheRoundingOfItsInput) {
  for (const Kind& kind : kKinds) {
    const Operands o = make_operands(kind, 20, 70, 512, at::kFloat);
    const at::Tensor expected = at::matmul(o.x.to(at::kDouble), o.weight.t());
    const at::Tensor step = o.x.to(at::kDouble).abs().amax({1}, true) / 127;
    const at::Tensor bound = step / 2 * o.weight.abs().sum(1).unsqueeze(0) * 1.001;
    EXPECT_TRUE(close(linear(o.x, o.packed, std::nullopt, "", std::nullopt), expected, bound))
        << kind.name;
    EXPECT_TRUE(close(logits(o.x, o.packed), expected, bound)) << kind.name;
    // Random roundings cancel: the error must be far below that bound on average.
    const at::Tensor error = (logits(o.x, o.packed).to(at::kDouble) - expected).abs().mean();
    EXPECT_LT(error.item<double>(), bound.mean().item<double>() / 10) << kind.name;
  }
}

TEST_F(QuantizedTest, AppliesEachActivation) {
  for (const at::ScalarType type : kDtypes) {
    Operands o = make_operands(kKinds[0], 5, 70, 64, type);
    o.bias = o.bias * 4;
    const RoundedInput x = round_input(o.x);
    const at::Tensor sums = at::matmul(x.codes, o.weight.t()) * x.scales;
    for (const char* activation : {"", "gelu_tanh", "gelu", "silu", "relu"}) {
      const at::Tensor expected = finish(o, sums, activation);
      const at::Tensor size = sums.abs() + o.bias.to(at::kDouble).abs() + expected.abs() + 1;
      EXPECT_TRUE(close(linear(o.x, o.packed, o.bias, activation, o.residual), expected,
                        size * (16 * 0x1p-24) + expected.abs() * (unit_roundoff(type) * 1.01)))
          << type << " " << activation;
    }
  }
}

TEST_F(QuantizedTest, RowLawOverM) {
  const int64_t sizes[][2] = {{70, 100}, {64, 1056}};
  for (const Kind& kind : kKinds) {
    for (const at::ScalarType type : kDtypes) {
      for (const auto& [n, k] : sizes) {
        const Operands o = make_operands(kind, 512, n, k, type);
        const at::Tensor whole = linear(o.x, o.packed, o.bias, "silu", o.residual);
        const at::Tensor whole_logits = logits(o.x, o.packed);
        for (int64_t m = 1; m <= 70; ++m) {
          const at::Tensor some =
              linear(o.x.narrow(0, 0, m), o.packed, o.bias, "silu", o.residual.narrow(0, 0, m));
          ASSERT_TRUE(same_bits(some, whole.narrow(0, 0, m)))
              << kind.name << " " << type << " M=" << m << " K=" << k;
        }
        for (int64_t row : {0, 1, 15, 16, 33, 191, 192, 211, 511}) {
          const at::Tensor alone =
              linear(o.x.narrow(0, row, 1), o.packed, o.bias, "silu", o.residual.narrow(0, row, 1));
          ASSERT_TRUE(same_bits(alone, whole.narrow(0, row, 1)))
              << kind.name << " " << type << " row " << row;
          ASSERT_TRUE(
              same_bits(logits(o.x.narrow(0, row, 1), o.packed), whole_logits.narrow(0, row, 1)))
              << kind.name << " " << type << " row " << row;
        }
      }
    }
  }
}

// So deep that the rows are cut into blocks, the last one smaller than any tile.
TEST_F(QuantizedTest, RowLawOverBlocks) {
  for (const Kind& kind : kKinds) {
    const Operands o = make_operands(kind, 196, 33, 16640, at::kBFloat16);
    const at::Tensor whole = linear(o.x, o.packed, o.bias, "", o.residual);
    for (int64_t row : {0, 95, 96, 191, 192, 195}) {
      const at::Tensor alone =
          linear(o.x.narrow(0, row, 1), o.packed, o.bias, "", o.residual.narrow(0, row, 1));
      ASSERT_TRUE(same_bits(alone, whole.narrow(0, row, 1))) << kind.name << " row " << row;
    }
  }
}

TEST_F(QuantizedTest, RowLawOverThreads) {
  for (const Kind& kind : kKinds) {
    const Operands o = make_operands(kind, 211, 1000, 300, at::kBFloat16);
    const at::Tensor alone = linear(o.x, o.packed, o.bias, "gelu", o.residual);
    for (int num_threads : {1, 2, 3}) {
      ThreadPool pool(num_threads);
      const ComputeScope scope(pool);
      ASSERT_TRUE(same_bits(linear(o.x, o.packed, o.bias, "gelu", o.residual), alone))
          << kind.name << " " << num_threads << " threads";
    }
  }
}

TEST_F(QuantizedTest, ARowDoesNotTouchItsNeighbours) {
  const auto infinity = std::numeric_limits<double>::infinity();
  for (const Kind& kind : kKinds) {
    for (const double poison : {std::numeric_limits<double>::quiet_NaN(), infinity, -infinity}) {
      const Operands o = make_operands(kind, 40, 64, 64, at::kBFloat16);
      const at::Tensor clean = linear(o.x, o.packed, o.bias, "", std::nullopt);
      at::Tensor poisoned = o.x.clone();
      poisoned[17][3].fill_(poison);
      const at::Tensor y = linear(poisoned, o.packed, o.bias, "", std::nullopt);
      ASSERT_TRUE(y[17].isnan().all().item<bool>()) << kind.name << " " << poison;
      ASSERT_TRUE(same_bits(y.narrow(0, 0, 17), clean.narrow(0, 0, 17)));
      ASSERT_TRUE(same_bits(y.narrow(0, 18, 22), clean.narrow(0, 18, 22)));
    }
  }
}

// Rows of nothing, of numbers that have no inverse, and of the largest.
TEST_F(QuantizedTest, TakesRowsOfAnySize) {
  const Operands o = make_operands(kKinds[0], 4, 40, 64, at::kFloat);
  at::Tensor x = o.x.clone();
  x[0].fill_(0);
  x[1].mul_(1e-38);
  x[2].mul_(1e-20);
  x[3].mul_(1e36);
  const at::Tensor y = logits(x, o.packed);
  const at::Tensor whole = logits(o.x, o.packed);
  EXPECT_EQ(y.narrow(0, 0, 2).abs().max().item<float>(), 0.0f);
  EXPECT_TRUE(close(y[2] * 1e20, whole[2].to(at::kDouble), whole[2].abs() * 1e-5 + 1e-6));
  EXPECT_TRUE(close(y[3] / 1e36, whole[3].to(at::kDouble), whole[3].abs() * 1e-5 + 1e-6));
}

// The largest sum there is: K at its limit, every number at its end.
TEST_F(QuantizedTest, TheLargestSumsAreExact) {
  const auto options = at::TensorOptions().dtype(at::kFloat);
  const int64_t k = kMaxQuantizedColumns;
  at::Tensor weight = at::full({2, k}, 127.0, options);
  weight[1].fill_(-127.0);
  const at::Tensor x = at::full({20, k}, 127.0, options);
  for (const Kind& kind : kKinds) {
    const QuantizedWeight quantized = quantize(weight, kind.format, kind.group_size).value();
    const at::Tensor y = logits(x, pack(quantized, at::kFloat).value()).to(at::kDouble);
    const at::Tensor expected = dequantize(quantized, at::kDouble).sum(1) * 127;
    EXPECT_TRUE(close(y, expected.unsqueeze(0).expand_as(y), expected.abs() * 2e-7)) << kind.name;
  }
  EXPECT_FALSE(quantize(at::full({1, k + 1}, 1.0, options), WeightFormat::kInt8, 0).has_value());
}

// FNV-1a over the bits. The sums are exact and every other operation is IEEE's, so this number is
// the same on every instruction set.
TEST_F(QuantizedTest, EveryInstructionSetComputesTheseBits) {
  const uint64_t expected[] = {14326269697923541874u, 13300443908922340281u, 17046072816088618792u};
  for (int i = 0; i < 3; ++i) {
    const Operands o = make_operands(kKinds[i], 21, 100, 200, at::kBFloat16);
    const at::Tensor y = linear(o.x, o.packed, o.bias, "", o.residual);
    uint64_t hash = 14695981039346656037u;
    const auto* bytes = static_cast<const uint8_t*>(y.const_data_ptr());
    for (size_t b = 0; b < y.nbytes(); ++b) hash = (hash ^ bytes[b]) * 1099511628211u;
    EXPECT_EQ(hash, expected[i]) << kKinds[i].name;
  }
}

TEST_F(QuantizedTest, EmbedReadsPackedRows) {
  const at::Tensor tokens = int_tensor({0, 69, 16, 31, 32, 5, 5});
  for (const Kind& kind : kKinds) {
    for (const at::ScalarType type : kDtypes) {
      for (const int64_t k : {98, 640}) {
        const QuantizedWeight weight =
            quantize(random_tensor({70, k}, 5, type), kind.format, kind.group_size).value();
        const at::Tensor expected = dequantize(weight, type).index_select(0, tokens);
        EXPECT_TRUE(same_bits(embed(tokens, pack(weight, type).value()), expected))
            << kind.name << " " << type;
      }
    }
  }
}

TEST_F(QuantizedTest, RoundsInt8ToTheNearestStep) {
  for (const at::ScalarType type : kDtypes) {
    const at::Tensor weight = random_tensor({9, 333}, 6, type);
    const QuantizedWeight q = quantize(weight, WeightFormat::kInt8, 0).value();
    EXPECT_EQ(q.values.abs().amax({1}).min().item<int8_t>(), 127);
    EXPECT_TRUE(close(dequantize(q, at::kFloat), weight.to(at::kDouble),
                      (q.scales * 0.5001).expand({9, 333}).to(at::kDouble)))
        << type;
  }
}

// int4: no group is worse than half a step of the finest grid that holds it all (whose step is a
// multiple of the row's base, hence the base), and the search gains on plain rounding.
TEST_F(QuantizedTest, RoundsInt4ToTheNearestStep) {
  for (const int64_t group : {32, 128}) {
    const at::Tensor weight = random_tensor({9, 640}, 7, at::kFloat);
    const QuantizedWeight q = quantize(weight, WeightFormat::kInt4, group).value();
    const at::Tensor groups = weight.view({9, -1, group}).to(at::kDouble);
    const at::Tensor error = groups - dequantize(q, at::kDouble).view({9, -1, group});
    const at::Tensor base = q.scales.to(at::kDouble).amax({1}, true) / 15;
    const at::Tensor step = groups.abs().amax({2}) / 7 + base;
    EXPECT_TRUE((error.square().mean(2) <= step.square() / 4).all().item<bool>());
    // Uniform rounding error of the plain grid max / 7, in the mean over groups.
    const double plain = (groups.abs().amax({2}) / 7).square().mean().item<double>() / 12;
    EXPECT_LT(error.square().mean().item<double>(), plain) << group;
  }
}

TEST_F(QuantizedTest, RowsOfZerosStayZero) {
  const at::Tensor weight = at::cat({at::zeros({1, 64}), random_tensor({1, 64}, 8, at::kFloat)}, 0);
  for (const Kind& kind : kKinds) {
    const QuantizedWeight q = quantize(weight, kind.format, kind.group_size).value();
    EXPECT_EQ(dequantize(q, at::kFloat)[0].abs().max().item<float>(), 0.0f) << kind.name;
    const at::Tensor y = logits(random_tensor({3, 64}, 9, at::kFloat), pack(q, at::kFloat).value());
    EXPECT_EQ(y.narrow(1, 0, 1).abs().max().item<float>(), 0.0f) << kind.name;
    EXPECT_GT(y.narrow(1, 1, 1).abs().min().item<float>(), 0.0f) << kind.name;
  }
}

TEST_F(QuantizedTest, DoesNotDependOnThreads) {
  const at::Tensor weight = random_tensor({70, 320}, 10, at::kBFloat16);
  for (const Kind& kind : kKinds) {
    const QuantizedWeight alone = quantize(weight, kind.format, kind.group_size).value();
    ThreadPool pool(2);
    const ComputeScope scope(pool);
    const QuantizedWeight shared = quantize(weight, kind.format, kind.group_size).value();
    EXPECT_TRUE(same_bits(alone.values, shared.values));
    EXPECT_TRUE(same_bits(alone.scales, shared.scales));
  }
}

TEST_F(QuantizedTest, RefusesWhatItCannotRound) {
  const at::Tensor weight = random_tensor({4, 64}, 11, at::kFloat);
  EXPECT_FALSE(quantize(weight, WeightFormat::kPlain, 0).has_value());
  EXPECT_FALSE(quantize(weight, WeightFormat::kInt4, 64).has_value());
  EXPECT_FALSE(quantize(weight.to(at::kDouble), WeightFormat::kInt8, 0).has_value());
  EXPECT_FALSE(quantize(weight[0], WeightFormat::kInt8, 0).has_value());
  EXPECT_FALSE(quantize(weight.narrow(1, 0, 63).contiguous(), WeightFormat::kInt4, 32).has_value());
  EXPECT_FALSE(quantize(weight.narrow(1, 0, 0).contiguous(), WeightFormat::kInt8, 0).has_value());
  at::Tensor poisoned = weight.clone();
  poisoned[2][5].fill_(std::numeric_limits<double>::quiet_NaN());
  const auto refused = quantize(poisoned, WeightFormat::kInt8, 0);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().message, "weight has a number that is not finite in row 2");
}

// What a file can hold: none of it is packed.
TEST_F(QuantizedTest, RefusesToPackWhatIsNotAsItSays) {
  const at::Tensor weight = random_tensor({4, 64}, 12, at::kFloat);
  const QuantizedWeight int8 = quantize(weight, WeightFormat::kInt8, 0).value();
  const QuantizedWeight int4 = quantize(weight, WeightFormat::kInt4, 32).value();
  ASSERT_TRUE(pack(int8, at::kHalf).has_value());
  ASSERT_TRUE(pack(int4, at::kHalf).has_value());
  EXPECT_FALSE(pack(int8, at::kDouble).has_value());
  EXPECT_FALSE(pack({int8.values, int4.scales, 0}, at::kFloat).has_value());
  EXPECT_FALSE(pack({int4.values, int4.scales, 0}, at::kFloat).has_value());
  EXPECT_FALSE(pack({int4.values, int4.scales, 64}, at::kFloat).has_value());
  EXPECT_FALSE(pack({int4.values, int4.scales, 128}, at::kFloat).has_value());
  EXPECT_FALSE(pack({int8.values, int8.scales.to(at::kHalf), 0}, at::kFloat).has_value());
  EXPECT_FALSE(pack({int8.values[0], int8.scales, 0}, at::kFloat).has_value());
  EXPECT_FALSE(pack({at::Tensor(), int8.scales, 0}, at::kFloat).has_value());
  at::Tensor lowest = int8.values.clone();
  lowest[3][63].fill_(-128);
  EXPECT_FALSE(pack({lowest, int8.scales, 0}, at::kFloat).has_value());
  for (const double bad : {-1.0, std::numeric_limits<double>::infinity(), std::nan("")}) {
    at::Tensor scales = int8.scales.clone();
    scales[1].fill_(bad);
    EXPECT_FALSE(pack({int8.values, scales, 0}, at::kFloat).has_value()) << bad;
    scales = int4.scales.clone();
    scales[1][1].fill_(bad);
    EXPECT_FALSE(pack({int4.values, scales, 32}, at::kFloat).has_value()) << bad;
  }
  at::Tensor odd = int4.scales.clone();
  odd[2][0].mul_(1.01);
  EXPECT_FALSE(pack({int4.values, odd, 32}, at::kFloat).has_value());
}

TEST_F(QuantizedTest, SaysItsBytes) {
  const at::Tensor weight = random_tensor({70, 256}, 13, at::kBFloat16);
  // The CPU's panels have 32 rows, and sums; a GPU's tiles 16, and padded multipliers.
  const int64_t cpu_bytes[] = {96 * (256 + 8), 96 * (128 + 8 + 8), 96 * (128 + 2 + 8)};
  const int64_t gpu_bytes[] = {80 * 256 + 70 * 4, 80 * (128 + 8) + 70 * 4, 80 * (128 + 2) + 70 * 4};
  for (int i = 0; i < 3; ++i) {
    const auto quantized = quantize(weight, kKinds[i].format, kKinds[i].group_size).value();
    const at::Tensor packed = pack(quantized, at::kBFloat16).value();
    EXPECT_TRUE(is_packed(packed));
    EXPECT_EQ(packed.sizes(), weight.sizes());
    EXPECT_EQ(packed.scalar_type(), at::kBFloat16);
    EXPECT_EQ(packed_bytes(packed), device().is_cpu() ? cpu_bytes[i] : gpu_bytes[i])
        << kKinds[i].name;
  }
}

// int8 weights whose products keep float16 and bfloat16 activations: GPUs only.
class WideQuantizedTest : public KernelTest {
 protected:
  void SetUp() override {
    KernelTest::SetUp();
    if (!IsSkipped() && device().is_cpu()) GTEST_SKIP() << "a wide int8 product needs a GPU";
  }
  static constexpr at::ScalarType kTypes[] = {at::kHalf, at::kBFloat16};

  static QuantizedWeight make_weight(int64_t n, int64_t k) {
    QuantizedWeight weight =
        quantize(random_tensor({n, k}, 2, at::kFloat, 1.0 / std::sqrt(k)), WeightFormat::kInt8, 0)
            .value();
    weight.keeps_activations = true;
    return weight;
  }
};

// int8 is exact in either type, and the order of the sum is the plain product's: the bits are too.
TEST_F(WideQuantizedTest, HasThePlainProductsBits) {
  const int64_t shapes[][3] = {{1, 32, 64},  {1, 1, 2},      {3, 70, 100},   {5, 64, 1024},
                               {17, 33, 30}, {33, 96, 2080}, {70, 100, 98},  {64, 40, 4096},
                               {65, 65, 72}, {200, 65, 544}, {390, 140, 712}};
  for (const at::ScalarType type : kTypes) {
    for (const auto& [m, n, k] : shapes) {
      QuantizedWeight weight = make_weight(n, k);
      weight.scales.fill_(1);
      const at::Tensor x = random_tensor({m, k}, 1, type);
      const at::Tensor bias = random_tensor({n}, 3, type);
      const at::Tensor residual = random_tensor({m, n}, 4, type);
      const at::Tensor wide = pack(weight, type).value();
      const at::Tensor plain = pack(weight.values.to(type)).value();
      ASSERT_TRUE(same_bits(linear(x, wide, bias, "gelu_tanh", residual),
                            linear(x, plain, bias, "gelu_tanh", residual)))
          << type << " M=" << m << " N=" << n << " K=" << k;
      ASSERT_TRUE(same_bits(logits(x, wide), logits(x, plain)))
          << type << " M=" << m << " N=" << n << " K=" << k;
    }
  }
}

// Float32's sums in a fixed order, and no rounding of x.
TEST_F(WideQuantizedTest, EqualsTheProductOfTheCodes) {
  for (const at::ScalarType type : kTypes) {
    for (const int64_t m : {3, 90}) {
      const QuantizedWeight weight = make_weight(70, 1000);
      const at::Tensor x = random_tensor({m, 1000}, 1, type);
      const at::Tensor exact = dequantize(weight, at::kFloat).to(at::kDouble).t();
      const at::Tensor expected = at::matmul(x.to(at::kDouble), exact);
      const at::Tensor size = at::matmul(x.to(at::kDouble).abs(), exact.abs());
      const at::Tensor packed = pack(weight, type).value();
      EXPECT_TRUE(close(logits(x, packed), expected, size * (1000 * 0x1p-24))) << type;
    }
  }
}

TEST_F(WideQuantizedTest, RowLaw) {
  for (const at::ScalarType type : kTypes) {
    for (const int64_t k : {100, 1056}) {
      const at::Tensor packed = pack(make_weight(70, k), type).value();
      const at::Tensor x = random_tensor({300, k}, 1, type);
      const at::Tensor whole = linear(x, packed, std::nullopt, "silu", std::nullopt);
      for (const int64_t m : {1, 7, 9, 16, 33, 64, 65, 70}) {
        ASSERT_TRUE(same_bits(linear(x.narrow(0, 0, m), packed, std::nullopt, "silu", std::nullopt),
                              whole.narrow(0, 0, m)))
            << type << " M=" << m << " K=" << k;
      }
      for (const int64_t row : {1, 63, 64, 192, 299}) {
        ASSERT_TRUE(
            same_bits(linear(x.narrow(0, row, 1), packed, std::nullopt, "silu", std::nullopt),
                      whole.narrow(0, row, 1)))
            << type << " row " << row << " K=" << k;
      }
    }
  }
}

TEST_F(WideQuantizedTest, EmbedReadsItsRows) {
  const at::Tensor tokens = int_tensor({0, 69, 16, 31, 32, 5, 5, 8});
  for (const at::ScalarType type : kTypes) {
    for (const int64_t k : {98, 640}) {
      const QuantizedWeight weight = make_weight(70, k);
      EXPECT_TRUE(same_bits(embed(tokens, pack(weight, type).value()),
                            dequantize(weight, type).index_select(0, tokens)))
          << type << " K=" << k;
    }
  }
}

// On every device: what keeps its activations where nothing can multiply it so.
TEST_F(QuantizedTest, RefusesToKeepActivationsElsewhere) {
  const at::Tensor weight = random_tensor({4, 64}, 12, at::kFloat);
  QuantizedWeight int8 = quantize(weight, WeightFormat::kInt8, 0).value();
  QuantizedWeight int4 = quantize(weight, WeightFormat::kInt4, 32).value();
  int8.keeps_activations = int4.keeps_activations = true;
  EXPECT_FALSE(pack(int8, at::kFloat).has_value());
  EXPECT_FALSE(pack(int4, at::kBFloat16).has_value());
  EXPECT_EQ(pack(int8, at::kBFloat16).has_value(), !device().is_cpu());
}

}  // namespace
}  // namespace sluice::kernels::testing
