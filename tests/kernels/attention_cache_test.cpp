// What attention reads of the cache, and what a cache of 8 bits costs.
#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/zeros.h>

#include <cmath>
#include <cstring>

#include "kernels/backends.h"
#include "kernels/kv_layout.h"
#include "kernels/operators.h"
#include "support.h"

namespace sluice::kernels::testing {
namespace {

constexpr int64_t kBlock = 16;

// One sequence whose blocks lie in order.
struct Sequence {
  int64_t heads = 4;
  int64_t kv_heads = 2;
  int64_t head_size = 64;
  int64_t length = 300;
  int64_t window = 0;
  at::ScalarType type = at::kBFloat16;
  KvFormat format = KvFormat::kModel;
  double channel = 0;     // number 3 of every key, where not 0, and a query's is small
  double value_size = 1;  // standard deviation

  int64_t num_blocks() const { return (length + kBlock - 1) / kBlock; }
  at::Tensor qkv() const {
    at::Tensor x =
        random_tensor({length, heads + 2 * kv_heads, head_size}, 5, at::kFloat).contiguous();
    x.narrow(1, heads + kv_heads, kv_heads).mul_(value_size);
    if (channel != 0) {
      x.narrow(1, 0, heads).select(2, 3).mul_(0.02);
      x.narrow(1, heads, kv_heads).select(2, 3).mul_(channel / 10).add_(channel);
    }
    return x.to(type).view({length, -1});
  }
  at::Tensor new_cache() const {
    return at::zeros(kv_cache_shape({num_blocks(), kv_heads, kBlock, head_size, format}),
                     at::TensorOptions().dtype(cache_type(format, type)));
  }
  // The output of rows [first, last), with the rows before them in the cache.
  template <typename Attention>
  at::Tensor step(Attention attend, int64_t first, int64_t last, at::Tensor& cache) const {
    const auto integers = at::TensorOptions().dtype(at::kInt);
    const auto end = static_cast<int32_t>(last);
    const std::vector<at::Tensor> plan = {
        int_tensor({0, end - static_cast<int32_t>(first)}), int_tensor({end}),
        at::arange(num_blocks(), integers).view({1, -1}), int_tensor({})};
    return attend(qkv().narrow(0, first, last - first).contiguous(),
                  at::arange(first, last, integers), cache, plan, heads, kv_heads,
                  1 / std::sqrt(static_cast<double>(head_size)), std::nullopt, std::nullopt,
                  window);
  }
};

// Root mean square of what the device's output with the sequence's format is off float32's, over
// that of float32's; the largest difference is at most `bound`.
double relative_error(const Sequence& sequence, double bound) {
  at::Tensor plain = at::zeros(
      kv_cache_shape({sequence.num_blocks(), sequence.kv_heads, kBlock, sequence.head_size}));
  const at::Tensor qkv = sequence.qkv().to(at::kFloat);
  const auto attend = [&](const at::Tensor&, auto&&... rest) {
    return reference::attention(qkv, std::forward<decltype(rest)>(rest)...);
  };
  const at::Tensor expected = sequence.step(attend, 0, sequence.length, plain).to(at::kDouble);
  at::Tensor cache = sequence.new_cache();
  const at::Tensor actual = sequence.step(&attention, 0, sequence.length, cache).to(at::kDouble);
  EXPECT_LT((actual - expected).abs().max().item<double>(), bound) << sequence.type;
  const double error = (actual - expected).square().mean().sqrt().item<double>();
  return error / expected.square().mean().sqrt().item<double>();
}

class KvCacheTest : public KernelTest {};

// The cost of a decode is linear in its window: blocks before it are not read, whatever they hold.
TEST_F(KvCacheTest, ReadsNothingBeforeTheWindow) {
  for (const KvFormat format : {KvFormat::kModel, KvFormat::kInt8, KvFormat::kFloat8}) {
    if (format == KvFormat::kFloat8 && device().is_cpu()) continue;
    for (const at::ScalarType type : kDtypes) {
      const Sequence sequence{.length = 600, .window = 40, .type = type, .format = format};
      at::Tensor cache = sequence.new_cache();
      sequence.step(&attention, 0, 599, cache);
      const at::Tensor expected = sequence.step(&attention, 599, 600, cache);
      const int64_t first_read = (600 - 40) / kBlock;
      at::Tensor unread = cache.narrow(0, 0, first_read);
      std::memset(unread.data_ptr(), 0xff, unread.nbytes());
      const at::Tensor actual = sequence.step(&attention, 599, 600, cache);
      EXPECT_TRUE(same_bits(actual, expected)) << type << " format " << static_cast<int>(format);
      // The first block that is read does count.
      at::Tensor read = cache.narrow(0, first_read, 1);
      std::memset(read.data_ptr(), 0xff, read.nbytes());
      const at::Tensor poisoned = sequence.step(&attention, 599, 600, cache);
      EXPECT_FALSE(same_bits(poisoned, expected)) << type;
    }
  }
}

// Rounding to int8 moves a key's score by up to |q|_1 max|k| / 254 (each number by half a step),
// hence the weights by that power of e, and a value by max|v| / 254.
TEST_F(KvCacheTest, Int8IsWithinItsBound) {
  for (const at::ScalarType type : kDtypes) {
    for (const int64_t head_size : {64, 80, 128}) {
      const Sequence sequence{.head_size = head_size, .type = type, .format = KvFormat::kInt8};
      const at::Tensor heads = sequence.qkv().to(at::kFloat).view({sequence.length, -1, head_size});
      const double query = heads.narrow(1, 0, sequence.heads).abs().sum(-1).max().item<double>();
      const double largest = heads.narrow(1, sequence.heads, 4).abs().max().item<double>();
      const double score = query * largest / 254 / std::sqrt(static_cast<double>(head_size));
      const double bound = largest * (std::expm1(2 * score) + 1.0 / 254 + 2 * unit_roundoff(type));
      // In the mean it is far below the bound: a percent of what it rounds.
      const double error = relative_error(sequence, bound);
      EXPECT_LT(error, 0.015) << type << " D " << head_size;
      RecordProperty("relative_error_D" + std::to_string(head_size), std::to_string(error));
    }
  }
}

// fp8 rounds each number by up to a 16th of its own, whatever the size of the others and of all:
// int8's steps go by a head's largest.
TEST_F(KvCacheTest, Float8RoundsEachNumberByItsOwnSize) {
  if (device().is_cpu()) GTEST_SKIP() << "an fp8 KV cache needs a GPU";
  for (const at::ScalarType type : kDtypes) {
    Sequence sequence{.head_size = 128, .type = type};
    const auto error = [&](KvFormat format) {
      sequence.format = format;
      return relative_error(sequence, 1000);
    };
    const double usual = error(KvFormat::kFloat8);
    RecordProperty("relative_error", std::to_string(usual));
    EXPECT_LT(usual, 0.05) << type;
    sequence.value_size = 0.001;
    EXPECT_LT(error(KvFormat::kFloat8), 1.1 * usual) << type;
    sequence.value_size = 1;
    sequence.channel = 600;
    const double large = error(KvFormat::kFloat8);
    RecordProperty("relative_error_beside_600", std::to_string(large));
    EXPECT_LT(large, 1.5 * usual) << type;
    EXPECT_GT(error(KvFormat::kInt8), 5 * large) << type;
  }
}

TEST_F(KvCacheTest, TheCpuRefusesFloat8) {
  if (!device().is_cpu()) return;
  const Sequence sequence{.format = KvFormat::kFloat8};
  at::Tensor cache = sequence.new_cache();
  EXPECT_THROW(sequence.step(&attention, 0, 1, cache), c10::Error);
}

}  // namespace
}  // namespace sluice::kernels::testing
