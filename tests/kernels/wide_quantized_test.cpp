#include <ATen/TensorOperators.h>
#include <ATen/ops/matmul.h>

#include <cmath>

#include "kernels/quantize.h"
#include "support.h"

// Weights of bytes whose products keep float16 and bfloat16 activations (decision 26).
namespace sluice::kernels::testing {
namespace {

constexpr WeightFormat kFormats[] = {WeightFormat::kInt8, WeightFormat::kFloat8};

const char* name_of(WeightFormat format) {
  return format == WeightFormat::kInt8 ? "int8 " : "fp8 ";
}

class WideQuantizedTest : public KernelTest {
 protected:
  void SetUp() override {
    KernelTest::SetUp();
    if (!IsSkipped() && device().is_cpu()) GTEST_SKIP() << "a wide product needs a GPU";
  }
  static constexpr at::ScalarType kTypes[] = {at::kHalf, at::kBFloat16};

  static QuantizedWeight make_weight(WeightFormat format, int64_t n, int64_t k) {
    QuantizedWeight weight =
        quantize(random_tensor({n, k}, 2, at::kFloat, 1.0 / std::sqrt(k)), format, 0).value();
    weight.keeps_activations = true;
    return weight;
  }
};

// Bytes of both formats are exact in either type, and the order of the sum is the plain product's:
// the bits are too.
TEST_F(WideQuantizedTest, HasThePlainProductsBits) {
  const int64_t shapes[][3] = {{1, 32, 64},  {1, 1, 2},      {3, 70, 100},   {5, 64, 1024},
                               {17, 33, 30}, {33, 96, 2080}, {70, 100, 98},  {64, 40, 4096},
                               {65, 65, 72}, {200, 65, 544}, {390, 140, 712}};
  for (const WeightFormat format : kFormats) {
    for (const at::ScalarType type : kTypes) {
      for (const auto& [m, n, k] : shapes) {
        QuantizedWeight weight = make_weight(format, n, k);
        weight.scales.fill_(1);
        const at::Tensor x = random_tensor({m, k}, 1, type);
        const at::Tensor bias = random_tensor({n}, 3, type);
        const at::Tensor residual = random_tensor({m, n}, 4, type);
        const at::Tensor wide = pack(weight, type).value();
        const at::Tensor plain = pack(weight.values.to(at::kFloat).to(type)).value();
        ASSERT_TRUE(same_bits(linear(x, wide, bias, "gelu_tanh", residual),
                              linear(x, plain, bias, "gelu_tanh", residual)))
            << name_of(format) << type << " M=" << m << " N=" << n << " K=" << k;
        ASSERT_TRUE(same_bits(logits(x, wide), logits(x, plain)))
            << name_of(format) << type << " M=" << m << " N=" << n << " K=" << k;
      }
    }
  }
}

// Float32's sums in a fixed order, and no rounding of x.
TEST_F(WideQuantizedTest, EqualsTheProductOfTheCodes) {
  for (const WeightFormat format : kFormats) {
    for (const at::ScalarType type : kTypes) {
      for (const int64_t m : {3, 90}) {
        const QuantizedWeight weight = make_weight(format, 70, 1000);
        const at::Tensor x = random_tensor({m, 1000}, 1, type);
        const at::Tensor exact = dequantize(weight, at::kFloat).to(at::kDouble).t();
        const at::Tensor expected = at::matmul(x.to(at::kDouble), exact);
        const at::Tensor size = at::matmul(x.to(at::kDouble).abs(), exact.abs());
        const at::Tensor packed = pack(weight, type).value();
        EXPECT_TRUE(close(logits(x, packed), expected, size * (1000 * 0x1p-24)))
            << name_of(format) << type;
      }
    }
  }
}

TEST_F(WideQuantizedTest, RowLaw) {
  for (const WeightFormat format : kFormats) {
    for (const at::ScalarType type : kTypes) {
      for (const int64_t k : {100, 1056}) {
        const at::Tensor packed = pack(make_weight(format, 70, k), type).value();
        const at::Tensor x = random_tensor({300, k}, 1, type);
        const at::Tensor whole = linear(x, packed, std::nullopt, "silu", std::nullopt);
        const auto expect_same = [&](int64_t first, int64_t count) {
          const at::Tensor some =
              linear(x.narrow(0, first, count), packed, std::nullopt, "silu", std::nullopt);
          ASSERT_TRUE(same_bits(some, whole.narrow(0, first, count)))
              << name_of(format) << type << " rows " << first << " + " << count << " K=" << k;
        };
        for (const int64_t m : {1, 7, 9, 16, 33, 64, 65, 70}) expect_same(0, m);
        for (const int64_t row : {1, 63, 64, 192, 299}) expect_same(row, 1);
      }
    }
  }
}

TEST_F(WideQuantizedTest, EmbedReadsItsRows) {
  const at::Tensor tokens = int_tensor({0, 69, 16, 31, 32, 5, 5, 8});
  for (const WeightFormat format : kFormats) {
    for (const at::ScalarType type : kTypes) {
      for (const int64_t k : {98, 640}) {
        const QuantizedWeight weight = make_weight(format, 70, k);
        EXPECT_TRUE(same_bits(embed(tokens, pack(weight, type).value()),
                              dequantize(weight, type).index_select(0, tokens)))
            << name_of(format) << type << " K=" << k;
      }
    }
  }
}

class KeptActivationsTest : public KernelTest {};

// On every device: what keeps its activations where nothing can multiply it so.
TEST_F(KeptActivationsTest, AreRefusedWhereNothingMultipliesThem) {
  const at::Tensor weight = random_tensor({4, 64}, 12, at::kFloat);
  QuantizedWeight int4 = quantize(weight, WeightFormat::kInt4, 32).value();
  int4.keeps_activations = true;
  EXPECT_FALSE(pack(int4, at::kBFloat16).has_value());
  for (const WeightFormat format : kFormats) {
    QuantizedWeight bytes = quantize(weight, format, 0).value();
    bytes.keeps_activations = true;
    EXPECT_FALSE(pack(bytes, at::kFloat).has_value()) << name_of(format);
    EXPECT_EQ(pack(bytes, at::kBFloat16).has_value(), !device().is_cpu()) << name_of(format);
  }
}

}  // namespace
}  // namespace sluice::kernels::testing
