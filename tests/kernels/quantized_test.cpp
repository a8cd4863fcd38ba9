#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/zeros.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "kernels/backends.h"
#include "kernels/operators.h"
#include "kernels/packed_weight.h"
#include "kernels/quantize.h"
#include "support.h"
#include "tests/device/test_device.h"

namespace sluice::kernels::testing {
namespace {

struct Kind {
  const char* name;
  WeightFormat format;
  int64_t group_size;
};
constexpr Kind kKinds[] = {{"int8", WeightFormat::kInt8, 0},
                           {"int4/32", WeightFormat::kInt4, 32},
                           {"int4/128", WeightFormat::kInt4, 128},
                           {"fp8", WeightFormat::kFloat8, 0}};

bool is_float8(const Kind& kind) {
  return kind.format == WeightFormat::kFloat8;
}

// Those that the device multiplies with activations of 8 bits.
std::vector<Kind> kinds() {
  std::vector<Kind> found;
  for (const Kind& kind : kKinds) {
    if (!is_float8(kind) || device().float8_product() != Float8Product::kNone)
      found.push_back(kind);
  }
  return found;
}

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

// Rows of x as the kernels' header says: int8 with the scale max|row| / 127, or fp8 with
// max|row| / 448, in float32.
RoundedInput round_input(const at::Tensor& x, const Kind& kind) {
  const float most = is_float8(kind) ? 448.0f : 127.0f;
  const at::Tensor wide = x.to(at::kFloat);
  const at::Tensor largest = wide.abs().amax({1}, true);
  const at::Tensor steps = wide * (most / largest);
  const at::Tensor codes = is_float8(kind)
                               ? steps.clamp(-most, most).to(at::kFloat8_e4m3fn).to(at::kFloat)
                               : steps.round();
  return {codes.to(at::kDouble), (largest / most).to(at::kDouble)};
}

// Sums of fp8 are of float32, but for what a GPU's units drop of 33 terms that they align to the
// largest: bits below the 13th. (The worst case is larger, where most terms are nearly as large.)
at::Tensor sum_error(const Kind& kind, const RoundedInput& x, const at::Tensor& weight) {
  const at::Tensor size = at::matmul(x.codes.abs(), weight.abs().t()) * x.scales;
  if (!is_float8(kind)) return size * 0;
  const double dropped = test_device::is_slow() ? 0x1p-24 : 0x1p-13;
  return size * (dropped * (4 + static_cast<double>(weight.size(1)) / 32));
}

at::Tensor finish(const Operands& o, const at::Tensor& sums, std::string_view activation) {
  const at::Tensor identity = at::zeros({1, 1}, at::TensorOptions().dtype(at::kDouble)) + 1;
  const at::Tensor y = sums + o.bias.to(at::kDouble);
  const at::Tensor active =
      reference::linear(y.reshape({-1, 1}), identity, std::nullopt, activation, std::nullopt);
  return active.view_as(y) + o.residual.to(at::kDouble);
}

class QuantizedTest : public KernelTest {};

// Integer sums are exact, so what is left is the rounding of a handful of float32 operations
// on numbers of the size of the terms, and of the result to `type`.
TEST_F(QuantizedTest, EqualsTheExactProductOfTheCodes) {
  const int64_t shapes[][3] = {{1, 32, 64},   {1, 1, 2},      {3, 70, 100},  {4, 33, 256},
                               {5, 64, 1024}, {16, 64, 1024}, {17, 33, 30},  {33, 96, 2080},
                               {70, 100, 98}, {200, 65, 544}, {390, 40, 700}};
  for (const Kind& kind : kinds()) {
    for (const at::ScalarType type : kDtypes) {
      for (const auto& [m, n, k] : shapes) {
        const Operands o = make_operands(kind, m, n, k, type);
        const RoundedInput x = round_input(o.x, kind);
        const at::Tensor sums = at::matmul(x.codes, o.weight.t()) * x.scales;
        const at::Tensor expected = finish(o, sums, "gelu_tanh");
        const at::Tensor size = sums.abs() + o.bias.to(at::kDouble).abs() + expected.abs() + 1;
        const at::Tensor slope = 1.13 * sum_error(kind, x, o.weight);  // gelu's
        EXPECT_TRUE(
            close(linear(o.x, o.packed, o.bias, "gelu_tanh", o.residual), expected,
                  slope + size * (8 * 0x1p-24) + expected.abs() * (unit_roundoff(type) * 1.01)))
            << kind.name << " " << type << " M=" << m << " N=" << n << " K=" << k;
      }
    }
  }
}

// Rounding a row of x moves each number by at most half a step of its scale, or in fp8 by 2^-4 of
// itself where that is more than half of 2^-9.
TEST_F(QuantizedTest, IsWithinTheRoundingOfItsInput) {
  for (const Kind& kind : kinds()) {
    const Operands o = make_operands(kind, 20, 70, 512, at::kFloat);
    const at::Tensor expected = at::matmul(o.x.to(at::kDouble), o.weight.t());
    const at::Tensor size = o.x.to(at::kDouble).abs();
    const at::Tensor half = is_float8(kind)
                                ? size / 16 + size.amax({1}, true) * (0x1p-10 / 448)
                                : (size.amax({1}, true) / 254).expand({20, 512}).contiguous();
    const at::Tensor bound = at::matmul(half, o.weight.abs().t()) * 1.001 +
                             sum_error(kind, round_input(o.x, kind), o.weight);
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
    const RoundedInput x = round_input(o.x, kKinds[0]);
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
  for (const Kind& kind : kinds()) {
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
  for (const Kind& kind : kinds()) {
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
  for (const Kind& kind : kinds()) {
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
  for (const Kind& kind : kinds()) {
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
  for (const Kind& kind : kinds()) {
    const Operands o = make_operands(kind, 4, 40, 64, at::kFloat);
    at::Tensor x = o.x.clone();
    x[0].fill_(0);
    x[1].mul_(1e-38);
    x[2].mul_(1e-20);
    x[3].mul_(1e36);
    const at::Tensor y = logits(x, o.packed);
    const at::Tensor whole = logits(o.x, o.packed);
    EXPECT_EQ(y.narrow(0, 0, 2).abs().max().item<float>(), 0.0f) << kind.name;
    EXPECT_TRUE(close(y[2] * 1e20, whole[2].to(at::kDouble), whole[2].abs() * 1e-5 + 1e-6));
    EXPECT_TRUE(close(y[3] / 1e36, whole[3].to(at::kDouble), whole[3].abs() * 1e-5 + 1e-6));
  }
}

// Whole numbers whose scales are powers of two, and sums that the coarsest unit holds: on every
// device each number meets its own, and nothing is dropped.
TEST_F(QuantizedTest, Float8SumsOfWholeNumbersAreExact) {
  const auto whole_numbers = [](int64_t rows, int64_t k, uint64_t seed) {
    at::Tensor numbers = random_tensor({rows, k}, seed, at::kFloat, 3).round().clamp(-7, 7);
    numbers.narrow(1, k / 2, 1).fill_(7);  // scale 2^-6
    return numbers;
  };
  const int64_t shapes[][3] = {{1, 32, 64},   {3, 70, 100}, {8, 16, 7},     {9, 33, 256},
                               {64, 65, 544}, {65, 40, 72}, {200, 130, 640}};
  for (const Kind& kind : kinds()) {
    if (!is_float8(kind)) continue;
    for (const auto& [m, n, k] : shapes) {
      const at::Tensor x = whole_numbers(m, k, 1);
      const at::Tensor weight = whole_numbers(n, k, 2);
      const at::Tensor packed = pack(quantize(weight, kind.format, 0).value(), at::kFloat).value();
      EXPECT_TRUE(same_bits(logits(x, packed), at::matmul(x, weight.t())))
          << "M=" << m << " N=" << n << " K=" << k;
    }
  }
}

// The largest sum there is: K at its limit, every number at its end.
TEST_F(QuantizedTest, TheLargestSumsAreExact) {
  const auto options = at::TensorOptions().dtype(at::kFloat);
  const int64_t k = kMaxQuantizedColumns;
  at::Tensor weight = at::full({2, k}, 127.0, options);
  weight[1].fill_(-127.0);
  const at::Tensor x = at::full({20, k}, 127.0, options);
  for (const Kind& kind : kinds()) {
    if (is_float8(kind)) continue;
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
  for (const Kind& kind : kinds()) {
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

// As ATen's own conversion, which has no say in ours.
TEST_F(QuantizedTest, RoundsFloat8ToTheNearestNumber) {
  for (const at::ScalarType type : kDtypes) {
    const at::Tensor weight = random_tensor({9, 3333}, 6, type, 0.02);
    const QuantizedWeight q = quantize(weight, WeightFormat::kFloat8, 0).value();
    const at::Tensor wide = weight.to(at::kFloat);
    const at::Tensor scales = wide.abs().amax({1}, true) / 448.0f;
    EXPECT_TRUE(same_bits(q.scales, scales)) << type;
    EXPECT_TRUE(same_bits(q.values, (wide / scales).clamp(-448.0f, 448.0f).to(at::kFloat8_e4m3fn)))
        << type;
    EXPECT_EQ(format_of(q), WeightFormat::kFloat8);
    EXPECT_TRUE(close(dequantize(q, at::kFloat), wide.to(at::kDouble),
                      (wide.abs() * 0.0626 + scales * 0x1p-10).to(at::kDouble)));
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
  for (const Kind& kind : kinds()) {
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
  for (const WeightFormat format : {WeightFormat::kInt8, WeightFormat::kFloat8}) {
    const auto refused = quantize(poisoned, format, 0);
    ASSERT_FALSE(refused.has_value());
    EXPECT_EQ(refused.error().message, "weight has a number that is not finite in row 2");
  }
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

TEST_F(QuantizedTest, RefusesToPackFloat8ThatIsNotAsItSays) {
  const at::Tensor weight = random_tensor({4, 67}, 12, at::kFloat);
  const QuantizedWeight fp8 = quantize(weight, WeightFormat::kFloat8, 0).value();
  const auto packed = pack(fp8, at::kHalf);
  if (device().is_cpu()) {
    ASSERT_FALSE(packed.has_value());
    EXPECT_EQ(packed.error().message, "an fp8 weight is for GPUs");
    return;
  }
  EXPECT_EQ(packed.has_value(), device().float8_product() != Float8Product::kNone);
  const auto expect_refused = [](QuantizedWeight bad, const char* why) {
    bad.keeps_activations = true;
    const auto refused = pack(bad, at::kHalf);
    ASSERT_FALSE(refused.has_value()) << why;
    EXPECT_NE(refused.error().message.find(why), std::string::npos) << refused.error().message;
  };
  for (const uint8_t nan : {0x7f, 0xff}) {
    for (const int64_t k : {0, 7, 62, 64, 66}) {
      at::Tensor values = fp8.values.clone();
      static_cast<uint8_t*>(values.data_ptr())[3 * 67 + k] = nan;
      expect_refused({values, fp8.scales, 0}, "row 3 has a value that is a NaN");
    }
  }
  at::Tensor scales = fp8.scales.clone();
  scales[1].fill_(-1);
  expect_refused({fp8.values, scales, 0}, "row 1 has");
  expect_refused({fp8.values, fp8.scales, 32}, "group size is 32");
  expect_refused({fp8.values.narrow(0, 0, 3), fp8.scales, 0}, "scales are 4 x 1");
}

TEST_F(QuantizedTest, SaysItsBytes) {
  const at::Tensor weight = random_tensor({70, 256}, 13, at::kBFloat16);
  // The CPU's panels have 32 rows, and sums; a GPU's tiles 16, and padded multipliers.
  const int64_t cpu_bytes[] = {96 * (256 + 8), 96 * (128 + 8 + 8), 96 * (128 + 2 + 8)};
  const int64_t gpu_bytes[] = {80 * 256 + 70 * 4, 80 * (128 + 8) + 70 * 4, 80 * (128 + 2) + 70 * 4,
                               80 * 256 + 70 * 4};
  for (size_t i = 0; i < kinds().size(); ++i) {
    const auto quantized = quantize(weight, kKinds[i].format, kKinds[i].group_size).value();
    const at::Tensor packed = pack(quantized, at::kBFloat16).value();
    EXPECT_TRUE(is_packed(packed));
    EXPECT_EQ(packed.sizes(), weight.sizes());
    EXPECT_EQ(packed.scalar_type(), at::kBFloat16);
    EXPECT_EQ(packed_bytes(packed), device().is_cpu() ? cpu_bytes[i] : gpu_bytes[i])
        << kKinds[i].name;
  }
}

}  // namespace
}  // namespace sluice::kernels::testing
