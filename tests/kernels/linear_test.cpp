#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/zeros.h>

#include <cmath>
#include <cstdlib>
#include <limits>
#include <map>
#include <string>

#include "kernels/backends.h"
#include "kernels/cpu/machine.h"
#include "kernels/operators.h"
#include "kernels/packed_weight.h"
#include "support.h"

namespace sluice::kernels::testing {
namespace {

struct Operands {
  at::Tensor x, weight, packed, bias, residual;
};

Operands make_operands(int64_t m, int64_t n, int64_t k, at::ScalarType type) {
  Operands o;
  o.x = random_tensor({m, k}, 1, type);
  o.weight = random_tensor({n, k}, 2, type, 1.0 / std::sqrt(k));
  o.packed = pack(o.weight).value();
  o.bias = random_tensor({n}, 3, type);
  o.residual = random_tensor({m, n}, 4, type);
  return o;
}

// Rounding errors of a sum of K products grow like sqrt(K) times the sum of their magnitudes; 4
// leaves room. No activation has a slope above 1.13. At last the result is rounded to `type`.
at::Tensor tolerance(const Operands& o, const at::Tensor& expected, at::ScalarType type) {
  const auto k = static_cast<double>(o.x.size(1));
  const at::Tensor magnitude =
      at::matmul(o.x.to(at::kDouble).abs(), o.weight.to(at::kDouble).abs().t());
  const double growth = 4 * std::sqrt(k) * 0x1p-24;
  return (magnitude + 4) * growth * 1.13 + expected.abs() * (unit_roundoff(type) * 1.01) + 2e-6;
}

at::Tensor oracle(const Operands& o, std::string_view activation) {
  return reference::linear(o.x.to(at::kDouble), o.weight.to(at::kDouble), o.bias.to(at::kDouble),
                           activation, o.residual.to(at::kDouble));
}

class LinearTest : public KernelTest {};

TEST_F(LinearTest, EqualsTheReference) {
  const int64_t shapes[][3] = {{1, 32, 32},    {1, 1, 1},      {3, 70, 100},
                               {16, 64, 1024}, {17, 33, 31},   {33, 96, 2080},
                               {70, 100, 97},  {200, 65, 544}, {390, 40, 700}};
  for (const at::ScalarType type : kDtypes) {
    for (const auto& [m, n, k] : shapes) {
      const Operands o = make_operands(m, n, k, type);
      const at::Tensor expected = oracle(o, "gelu_tanh");
      EXPECT_TRUE(close(linear(o.x, o.packed, o.bias, "gelu_tanh", o.residual), expected,
                        tolerance(o, expected, type)))
          << type << " M=" << m << " N=" << n << " K=" << k;
    }
  }
}

TEST_F(LinearTest, AppliesEachActivation) {
  for (const at::ScalarType type : kDtypes) {
    Operands o = make_operands(5, 70, 64, type);
    o.bias = o.bias * 4;  // far enough for the activations' flat ends
    for (const char* activation : {"", "gelu_tanh", "gelu", "silu", "relu"}) {
      const at::Tensor expected = oracle(o, activation);
      EXPECT_TRUE(close(linear(o.x, o.packed, o.bias, activation, o.residual), expected,
                        tolerance(o, expected, type)))
          << type << " " << activation;
    }
  }
}

// The activation alone, by a product with the identity: its own error over its whole range.
TEST_F(LinearTest, ActivationsAreExactToAFewUnits) {
  const int64_t count = 4001;
  at::Tensor x = at::zeros({count, 1});
  for (int64_t i = 0; i < count; ++i) x.data_ptr<float>()[i] = (static_cast<float>(i) - 2000) / 20;
  at::Tensor one = at::zeros({1, 1}) + 1;
  for (const char* activation : {"gelu_tanh", "gelu", "silu", "relu"}) {
    const at::Tensor expected = reference::linear(x.to(at::kDouble), one.to(at::kDouble),
                                                  std::nullopt, activation, std::nullopt);
    EXPECT_TRUE(close(linear(x, one, std::nullopt, activation, std::nullopt), expected,
                      expected.abs() * 4e-7 + x.abs() * 3e-7 + 1e-30))
        << activation;
  }
}

TEST_F(LinearTest, LogitsAreFloat32) {
  for (const at::ScalarType type : kDtypes) {
    const Operands o = make_operands(7, 1000, 96, type);
    const at::Tensor y = logits(o.x, o.packed);
    EXPECT_EQ(y.scalar_type(), at::kFloat);
    const at::Tensor expected = reference::logits(o.x.to(at::kDouble), o.weight.to(at::kDouble));
    EXPECT_TRUE(close(y, expected, tolerance(o, expected, at::kFloat))) << type;
  }
}

// A row's bits are the same for every M up to more than any tile, and for many rows.
TEST_F(LinearTest, RowLawOverM) {
  const int64_t sizes[][2] = {{70, 100}, {64, 1056}};
  for (const at::ScalarType type : kDtypes) {
    for (const auto& [n, k] : sizes) {
      const Operands o = make_operands(512, n, k, type);
      const at::Tensor whole = linear(o.x, o.packed, o.bias, "silu", o.residual);
      const at::Tensor whole_logits = logits(o.x, o.packed);
      for (int64_t m = 1; m <= 70; ++m) {
        const at::Tensor some =
            linear(o.x.narrow(0, 0, m), o.packed, o.bias, "silu", o.residual.narrow(0, 0, m));
        ASSERT_TRUE(same_bits(some, whole.narrow(0, 0, m))) << type << " M=" << m << " K=" << k;
      }
      for (int64_t row : {0, 1, 15, 16, 33, 191, 192, 211, 511}) {
        const at::Tensor alone =
            linear(o.x.narrow(0, row, 1), o.packed, o.bias, "silu", o.residual.narrow(0, row, 1));
        ASSERT_TRUE(same_bits(alone, whole.narrow(0, row, 1))) << type << " row " << row;
        ASSERT_TRUE(
            same_bits(logits(o.x.narrow(0, row, 1), o.packed), whole_logits.narrow(0, row, 1)))
            << type << " row " << row;
      }
    }
  }
}

// So deep that the rows are cut into blocks, the last one smaller than any tile.
TEST_F(LinearTest, RowLawOverBlocks) {
  for (const at::ScalarType type : kDtypes) {
    const Operands o = make_operands(196, 33, 8320, type);
    const at::Tensor whole = linear(o.x, o.packed, o.bias, "", o.residual);
    for (int64_t row : {0, 95, 96, 191, 192, 195}) {
      const at::Tensor alone =
          linear(o.x.narrow(0, row, 1), o.packed, o.bias, "", o.residual.narrow(0, row, 1));
      ASSERT_TRUE(same_bits(alone, whole.narrow(0, row, 1))) << type << " row " << row;
    }
  }
}

TEST_F(LinearTest, RowLawOverThreads) {
  for (const at::ScalarType type : kDtypes) {
    const Operands o = make_operands(211, 1000, 300, type);
    const at::Tensor alone = linear(o.x, o.packed, o.bias, "gelu", o.residual);
    for (int num_threads : {1, 2, 3}) {
      ThreadPool pool(num_threads);
      const ComputeScope scope(pool);
      ASSERT_TRUE(same_bits(linear(o.x, o.packed, o.bias, "gelu", o.residual), alone))
          << type << " " << num_threads << " threads";
    }
  }
}

// NaN in one row stays there.
TEST_F(LinearTest, ARowDoesNotTouchItsNeighbours) {
  for (const at::ScalarType type : kDtypes) {
    const Operands o = make_operands(40, 64, 64, type);
    const at::Tensor clean = linear(o.x, o.packed, o.bias, "", std::nullopt);
    at::Tensor poisoned = o.x.clone();
    poisoned[17].fill_(std::numeric_limits<double>::quiet_NaN());
    const at::Tensor y = linear(poisoned, o.packed, o.bias, "", std::nullopt);
    ASSERT_TRUE(y[17].isnan().all().item<bool>());
    ASSERT_TRUE(same_bits(y.narrow(0, 0, 17), clean.narrow(0, 0, 17)));
    ASSERT_TRUE(same_bits(y.narrow(0, 18, 22), clean.narrow(0, 18, 22)));
  }
}

TEST_F(LinearTest, PlainWeightsGiveTheBitsOfPackedOnes) {
  for (const at::ScalarType type : kDtypes) {
    const Operands o = make_operands(5, 50, 77, type);
    EXPECT_TRUE(same_bits(linear(o.x, o.weight, o.bias, "relu", std::nullopt),
                          linear(o.x, o.packed, o.bias, "relu", std::nullopt)));
  }
}

TEST_F(LinearTest, EmbedReadsPackedRows) {
  const at::Tensor tokens = int_tensor({0, 69, 16, 31, 32, 5, 5});
  for (const at::ScalarType type : kDtypes) {
    const at::Tensor weight = random_tensor({70, 99}, 5, type);
    const at::Tensor expected = weight.index_select(0, tokens);
    EXPECT_TRUE(same_bits(embed(tokens, pack(weight).value()), expected)) << type;
    EXPECT_TRUE(same_bits(embed(tokens, weight), expected)) << type;
    const at::Tensor residual = random_tensor({7, 99}, 8, type);
    const at::Tensor sum = reference::embed(tokens, weight, residual);
    EXPECT_TRUE(same_bits(embed(tokens, weight, residual), sum)) << type;
    EXPECT_TRUE(same_bits(embed(tokens, pack(weight).value(), residual), sum)) << type;
    EXPECT_THROW(embed(tokens, weight, residual.narrow(0, 0, 6)), c10::Error);
  }
}

// The host does not look at what a GPU's step holds; its kernels give no numbers then, and read
// nothing.
TEST_F(LinearTest, EmbedKnowsNoOtherTokens) {
  for (const at::ScalarType type : kDtypes) {
    const at::Tensor weight = random_tensor({70, 99}, 5, type);
    for (const int32_t token : {70, -1, std::numeric_limits<int32_t>::max()}) {
      const at::Tensor tokens = int_tensor({3, token, 69});
      if (device().is_cpu()) {
        EXPECT_THROW(embed(tokens, weight), c10::Error);
        continue;
      }
      const at::Tensor rows = embed(tokens, weight);
      EXPECT_TRUE(rows[1].isnan().all().item<bool>());
      EXPECT_TRUE(same_bits(rows[0], weight[3]) && same_bits(rows[2], weight[69]));
    }
  }
}

TEST_F(LinearTest, APackedWeightIsOpaque) {
  const at::Tensor weight = random_tensor({70, 99}, 6, at::kBFloat16);
  const at::Tensor packed = pack(weight).value();
  EXPECT_TRUE(is_packed(packed));
  EXPECT_FALSE(is_packed(weight));
  EXPECT_FALSE(is_packed(at::Tensor()));
  EXPECT_EQ(packed.sizes(), weight.sizes());
  EXPECT_EQ(packed_bytes(packed), (device().is_cpu() ? 96 : 80) * 128 * 2);
  EXPECT_ANY_THROW(packed + 1);
  EXPECT_ANY_THROW(packed.clone());
  EXPECT_FALSE(pack(packed).has_value());
  EXPECT_FALSE(pack(weight.to(at::kDouble)).has_value());
  EXPECT_FALSE(pack(weight[0]).has_value());
  EXPECT_FALSE(pack(weight.narrow(1, 0, 0).contiguous()).has_value());
}

TEST_F(LinearTest, RefusesShapesThatDoNotFit) {
  const Operands o = make_operands(4, 40, 64, at::kFloat);
  EXPECT_THROW(linear(o.x.narrow(1, 0, 32).contiguous(), o.packed, o.bias, "", std::nullopt),
               c10::Error);
  EXPECT_THROW(linear(o.x, o.packed, o.bias.narrow(0, 0, 39), "", std::nullopt), c10::Error);
  EXPECT_THROW(linear(o.x, o.packed, o.bias, "tanh", std::nullopt), c10::Error);
  EXPECT_THROW(linear(o.x.to(at::kHalf), o.packed, std::nullopt, "", std::nullopt), c10::Error);
  EXPECT_THROW(linear(o.x, o.packed, o.bias, "", o.residual.narrow(0, 0, 3)), c10::Error);
}

// Without this, another instruction set's kernels might be what these programs test.
TEST_F(LinearTest, RunsTheInstructionSetThatItIsToldTo) {
  const char* forced = std::getenv("SLUICE_CPU_ISA");
  if (forced == nullptr) GTEST_SKIP() << "SLUICE_CPU_ISA names none";
  using Kernels = const cpu::KernelTable& (*)();
  const std::map<std::string, Kernels> kernels = {{"amx", cpu::amx_kernels},
                                                  {"avx512", cpu::avx512_kernels},
                                                  {"avx512vnni", cpu::avx512vnni_kernels},
                                                  {"avx512bw", cpu::avx512bw_kernels},
                                                  {"avx2", cpu::avx2_kernels}};
  EXPECT_EQ(&cpu::machine_kernels(), &kernels.at(forced)());
  EXPECT_TRUE(cpu_profile()->starts_with("cpu-" + std::string(forced) + "/"));
}

TEST_F(LinearTest, NoRowsGiveNoRows) {
  const Operands o = make_operands(1, 40, 64, at::kBFloat16);
  EXPECT_EQ(logits(o.x.narrow(0, 0, 0), o.packed).size(0), 0);
}

}  // namespace
}  // namespace sluice::kernels::testing
