#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>

#include "kernels/backends.h"
#include "kernels/kv_layout.h"
#include "kernels/operators.h"
#include "support.h"
#include "tests/device/test_device.h"

namespace sluice::kernels::testing {
namespace {

// The models' dtypes with a cache of their own, of int8 and, on GPUs, of fp8.
struct Format {
  at::ScalarType type;
  KvFormat cache;
};

std::vector<Format> formats() {
  std::vector<Format> all;
  if (test_device::is_slow()) {
    return {{at::kFloat, KvFormat::kModel},
            {at::kBFloat16, KvFormat::kModel},
            {at::kHalf, KvFormat::kInt8},
            {at::kBFloat16, KvFormat::kFloat8}};
  }
  for (const at::ScalarType type : kDtypes) {
    for (const KvFormat cache : {KvFormat::kModel, KvFormat::kInt8}) all.push_back({type, cache});
    if (!device().is_cpu()) all.push_back({type, KvFormat::kFloat8});
  }
  return all;
}

std::ostream& operator<<(std::ostream& out, const Format& format) {
  const char* caches[] = {"", " with int8 cache", " with fp8 cache"};
  return out << format.type << caches[static_cast<int>(format.cache)];
}

struct Shape {
  int64_t heads = 4;
  int64_t kv_heads = 4;
  int64_t head_size = 64;
  int64_t block_size = 16;
  int64_t rotary_size = 0;
  int64_t window = 0;
  bool alibi = false;
};

std::ostream& operator<<(std::ostream& out, const Shape& s) {
  return out << "H=" << s.heads << " Hkv=" << s.kv_heads << " D=" << s.head_size
             << " S=" << s.block_size << " rotary=" << s.rotary_size << " window=" << s.window
             << " alibi=" << s.alibi;
}

int64_t columns_of(const Shape& shape) {
  return (shape.heads + 2 * shape.kv_heads) * shape.head_size;
}

// Sequences with their queries, keys and values for all positions, and how to attend to them in
// any order of steps.
class World {
 public:
  World(const Shape& shape, std::vector<int64_t> lengths, const Format& format)
      : shape_(shape),
        lengths_(std::move(lengths)),
        type_(format.type),
        format_(format.cache),
        scale_(1 / std::sqrt(static_cast<double>(shape.head_size))) {
    const int64_t columns = columns_of(shape);
    int64_t num_blocks = 3;
    for (size_t b = 0; b < lengths_.size(); ++b) {
      qkv_.push_back(random_tensor({lengths_[b], columns}, 100 + lengths_[b], type_));
      max_blocks_ = std::max(max_blocks_, blocks_of(lengths_[b]) + 1);
      num_blocks += blocks_of(lengths_[b]);
    }
    std::vector<int32_t> order(num_blocks);
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), std::mt19937(7));
    size_t next = 0;
    for (const int64_t length : lengths_) {
      // An entry past the context would be far outside the pool.
      std::vector<int32_t> table(max_blocks_, std::numeric_limits<int32_t>::max());
      for (int64_t m = 0; m < blocks_of(length); ++m) table[m] = order[next++];
      tables_.push_back(std::move(table));
    }
    num_blocks_ = num_blocks;
    if (shape.rotary_size > 0) {
      rope_ = random_tensor(
          {*std::max_element(lengths_.begin(), lengths_.end()), shape.rotary_size / 2, 2}, 8,
          at::kFloat);
    }
    if (shape.alibi) slopes_ = random_tensor({shape.heads}, 9, at::kFloat).abs() * 0.2;
  }

  // Every position's output when each step gives each sequence up to `chunk` rows, and the last
  // `decodes` of them one by one. All memory that a step may not read holds NaN.
  std::vector<at::Tensor> run(int64_t chunk, int64_t decodes = 0) const {
    at::Tensor cache = new_cache(type_);
    // The pattern is a NaN in each dtype, and in the scales of a cache of bytes.
    std::memset(cache.data_ptr(), 0xff, cache.nbytes());
    std::vector<std::vector<at::Tensor>> outputs(lengths_.size());
    std::vector<int64_t> done(lengths_.size(), 0);
    for (bool more = true; more;) {
      std::vector<int64_t> rows;
      for (size_t b = 0; b < lengths_.size(); ++b) {
        const int64_t left = lengths_[b] - done[b];
        rows.push_back(std::min(left > decodes ? std::min(chunk, left - decodes) : 1, left));
        done[b] += rows.back();
      }
      const at::Tensor output = step(&attention, qkv_, rows, done, cache);
      int64_t first = 0;
      more = false;
      for (size_t b = 0; b < lengths_.size(); ++b) {
        outputs[b].push_back(output.narrow(0, first, rows[b]));
        first += rows[b];
        more = more || done[b] < lengths_[b];
      }
    }
    std::vector<at::Tensor> joined;
    for (const auto& parts : outputs) joined.push_back(at::cat(parts, 0));
    return joined;
  }

  // All positions in one step of the reference, in float64 where nothing is rounded in between.
  std::vector<at::Tensor> oracle() const {
    const at::ScalarType wide = rope_ ? type_ : at::kDouble;
    std::vector<at::Tensor> qkv;
    for (const at::Tensor& x : qkv_) qkv.push_back(x.to(wide));
    at::Tensor cache = new_cache(wide);
    const at::Tensor output = step(&reference::attention, qkv, lengths_, lengths_, cache);
    return output.split_with_sizes(lengths_);
  }

  // One sequence with these numbers, and another scale of its scores.
  World with(const at::Tensor& qkv, double scale) const {
    World other(*this);
    other.qkv_ = {qkv};
    other.scale_ = scale;
    return other;
  }

  World only(size_t sequence) const {
    World alone(*this);
    alone.lengths_ = {lengths_[sequence]};
    alone.qkv_ = {qkv_[sequence]};
    alone.tables_ = {tables_[sequence]};
    return alone;
  }

  // Errors of the scores move the weights by as much, and the output by at most that times twice
  // the largest value. With RoPE a key's rounding may fall to the other side.
  double tolerance() const {
    double largest = 0;
    for (const at::Tensor& x : qkv_) {
      largest = std::max(largest, x.to(at::kDouble).abs().max().item<double>());
    }
    const auto size = static_cast<double>(shape_.head_size);
    double score = 4 * std::sqrt(size) * 0x1p-24 * std::sqrt(size) * 2 + 100 * 0x1p-23;
    if (shape_.rotary_size > 0 && type_ != at::kFloat) {
      score += 2 * unit_roundoff(type_) * largest * largest / std::sqrt(size);
    }
    if (format_ == KvFormat::kInt8) {
      // A query in 15 bits, and a rotated number that rounds to the other side.
      score += 2 * largest * largest / (2 * 127 * 128);
      if (shape_.rotary_size > 0) score += largest * largest / 127 / std::sqrt(size);
    }
    // A backend may round the softmax's weights to bfloat16 for its matrix unit (a GPU's also to
    // float16), or to 16 bits of the largest of 256.
    const bool is_rounded = type_ == at::kBFloat16 || (type_ == at::kHalf && !device().is_cpu());
    const double weights = is_rounded ? unit_roundoff(type_) / 2 * largest : 0;
    return 2 * score * largest + weights;
  }

 private:
  at::Tensor new_cache(at::ScalarType type) const {
    return at::zeros(kv_cache_shape({num_blocks_, shape_.kv_heads, shape_.block_size,
                                     shape_.head_size, format_}),
                     at::TensorOptions().dtype(cache_type(format_, type)));
  }

  int64_t blocks_of(int64_t length) const {
    return (length + shape_.block_size - 1) / shape_.block_size;
  }

  template <typename Attention>
  at::Tensor step(Attention attention, const std::vector<at::Tensor>& qkv,
                  const std::vector<int64_t>& rows, const std::vector<int64_t>& contexts,
                  at::Tensor& cache) const {
    std::vector<int32_t> starts = {0}, context, positions, table;
    std::vector<at::Tensor> parts;
    for (size_t b = 0; b < rows.size(); ++b) {
      const int64_t before = contexts[b] - rows[b];
      parts.push_back(qkv[b].narrow(0, before, rows[b]));
      for (int64_t i = 0; i < rows[b]; ++i) positions.push_back(static_cast<int32_t>(before + i));
      starts.push_back(static_cast<int32_t>(positions.size()));
      context.push_back(static_cast<int32_t>(contexts[b]));
      table.insert(table.end(), tables_[b].begin(), tables_[b].end());
    }
    const std::vector<at::Tensor> plan = {
        int_tensor(starts), int_tensor(context),
        int_tensor(table).view({static_cast<int64_t>(rows.size()), max_blocks_}), int_tensor({})};
    return attention(at::cat(parts, 0), int_tensor(positions), cache, plan, shape_.heads,
                     shape_.kv_heads, scale_, rope_, slopes_, shape_.window);
  }

  Shape shape_;
  std::vector<int64_t> lengths_;
  at::ScalarType type_;
  KvFormat format_;
  double scale_;
  int64_t num_blocks_ = 0;
  int64_t max_blocks_ = 0;
  std::vector<at::Tensor> qkv_;
  std::vector<std::vector<int32_t>> tables_;
  std::optional<at::Tensor> rope_;
  std::optional<at::Tensor> slopes_;
};

const std::vector<Shape>& shapes() {
  static const std::vector<Shape> few = {
      // where everything takes long
      {.heads = 8, .kv_heads = 1, .head_size = 80, .rotary_size = 32},
      {.heads = 4, .kv_heads = 2, .head_size = 128, .rotary_size = 128, .window = 270},
      {.heads = 2, .kv_heads = 1, .head_size = 20, .block_size = 8, .rotary_size = 12},
      {.heads = 2, .kv_heads = 2, .head_size = 64, .block_size = 24, .window = 5, .alibi = true},
  };
  static const std::vector<Shape> all = {
      {.heads = 2, .kv_heads = 2, .head_size = 32},
      {.heads = 4, .kv_heads = 4, .head_size = 64, .alibi = true},
      {.heads = 4, .kv_heads = 2, .head_size = 64, .rotary_size = 64},
      {.heads = 8, .kv_heads = 1, .head_size = 80, .rotary_size = 32},
      {.heads = 3, .kv_heads = 1, .head_size = 96, .window = 20},
      {.heads = 4, .kv_heads = 2, .head_size = 128, .rotary_size = 128, .window = 270},
      {.heads = 2, .kv_heads = 1, .head_size = 20, .block_size = 8, .rotary_size = 12},
      {.heads = 2, .kv_heads = 2, .head_size = 64, .block_size = 24, .window = 5, .alibi = true},
      {.heads = 2, .kv_heads = 1, .head_size = 64, .block_size = 64},
      {.heads = 2, .kv_heads = 1, .head_size = 32, .block_size = 1},
  };
  return test_device::is_slow() ? few : all;
}

class AttentionTest : public KernelTest {};

TEST_F(AttentionTest, EqualsTheReference) {
  const std::vector<std::vector<int64_t>> batches = {{1, 15, 16, 17, 47}, {1, 270, 47}, {530}};
  for (const Format& format : formats()) {
    const at::ScalarType type = format.type;
    for (const Shape& shape : shapes()) {
      for (const std::vector<int64_t>& lengths : batches) {
        const World world(shape, lengths, format);
        const std::vector<at::Tensor> expected = world.oracle();
        const std::vector<at::Tensor> actual = world.run(1000);
        for (size_t b = 0; b < lengths.size(); ++b) {
          // Two roundings to `type` may differ where the reference rounds as well.
          const at::Tensor tolerance =
              expected[b].to(at::kDouble).abs() * 2.02 * unit_roundoff(type) + world.tolerance();
          ASSERT_TRUE(close(actual[b], expected[b], tolerance))
              << format << " " << shape << " length " << lengths[b];
        }
      }
    }
  }
}

TEST_F(AttentionTest, RowLaw) {
  const std::vector<int64_t> lengths = {33, 1, 290};
  for (const Format& type : formats()) {
    for (const Shape& shape : shapes()) {
      const World world(shape, lengths, type);
      const std::vector<at::Tensor> whole = world.run(1000);
      // One row of some sequences beside several of others at the end.
      const bool is_slow = test_device::is_slow();
      for (int64_t chunk : is_slow ? std::vector<int64_t>{16} : std::vector<int64_t>{1, 16, 50}) {
        const std::vector<at::Tensor> chunked = world.run(chunk, is_slow ? 3 : 0);
        for (size_t b = 0; b < lengths.size(); ++b) {
          ASSERT_TRUE(same_bits(chunked[b], whole[b]))
              << type << " " << shape << " length " << lengths[b] << " chunk " << chunk;
        }
      }
      for (size_t b = 0; b < lengths.size(); ++b) {
        ASSERT_TRUE(same_bits(world.only(b).run(64)[0], whole[b]))
            << type << " " << shape << " length " << lengths[b] << " alone";
      }
      ThreadPool pool(2);
      const ComputeScope scope(pool);
      const std::vector<at::Tensor> shared = world.run(100);
      for (size_t b = 0; b < lengths.size(); ++b) {
        ASSERT_TRUE(same_bits(shared[b], whole[b])) << type << " " << shape << " two threads";
      }
    }
  }
}

// Scales scores of products near the smallest normal number, 2^-126, to about one.
constexpr double kTinyScale = 1e37;

// What is subnormal, and whether it counts as zero, may not depend on the rows of a product.
TEST_F(AttentionTest, TinyNumbersKeepTheRowLaw) {
  const std::vector<int64_t> all_heads =
      test_device::is_slow() ? std::vector<int64_t>{2} : std::vector<int64_t>{1, 2, 3, 4};
  for (const at::ScalarType type : {at::kBFloat16, at::kFloat}) {
    for (const int64_t heads : all_heads) {
      const Shape shape = {.heads = heads, .kv_heads = 1, .head_size = 80};
      at::Tensor qkv = random_tensor({20, columns_of(shape)}, 5, type, 1e-19);
      const auto values = qkv.narrow(1, (heads + 1) * shape.head_size, shape.head_size);
      values.mul_(1e-18);
      const World world = World(shape, {20}, {type, KvFormat::kModel}).with(qkv, kTinyScale);
      const at::Tensor whole = world.run(1000)[0];
      EXPECT_TRUE(whole.isfinite().all().item<bool>());
      EXPECT_GT(whole.count_nonzero().item<int64_t>(), whole.numel() / 4);
      EXPECT_TRUE(same_bits(world.run(1000, 3)[0], whole)) << type << " " << heads;
    }
  }
}

// 2^-126 - 2^-151 is subnormal before it is rounded, and normal after.
TEST_F(AttentionTest, ASumThatRoundsToANormalNumberKeepsTheRowLaw) {
  const Shape shape = {.heads = 1, .kv_heads = 1, .head_size = 32};
  at::Tensor qkv = random_tensor({8, columns_of(shape)}, 6, at::kBFloat16);
  qkv.narrow(1, 0, 2 * shape.head_size).zero_();
  for (int64_t row = 0; row < qkv.size(0); ++row) {
    qkv[row][0] = 0x1p-63;
    qkv[row][2] = 0x1p-75;
  }
  qkv[0][shape.head_size] = 0x1p-63;
  qkv[0][shape.head_size + 2] = -0x1p-76;
  const World world =
      World(shape, {8}, {at::kBFloat16, KvFormat::kModel}).with(qkv, 10 * kTinyScale);
  EXPECT_TRUE(same_bits(world.run(1000, 3)[0], world.run(1000)[0]));
}

// A decode's context is shared out to several tasks where there are more threads than heads.
TEST_F(AttentionTest, SharedContextsHaveTheSameBits) {
  ThreadPool pool(3);
  for (const Format& format : formats()) {
    for (const Shape& shape : shapes()) {
      const World world(shape, {700, 20}, format);
      const std::vector<at::Tensor> whole = world.run(1000);
      const ComputeScope scope(pool);
      const std::vector<at::Tensor> shared = world.run(1000, 3);
      for (size_t b = 0; b < whole.size(); ++b) {
        ASSERT_TRUE(same_bits(shared[b], whole[b])) << format << " " << shape << " sequence " << b;
      }
    }
  }
}

// The host does not look at what a GPU's step holds, which the engine made: a program's short table
// alone can be at fault, and then the row has no numbers.
TEST_F(AttentionTest, RefusesPlansThatPointOutside) {
  const at::Tensor qkv = random_tensor({2, 3 * 32}, 1, at::kFloat);
  at::Tensor cache = at::zeros(kv_cache_shape({4, 1, 16, 32}));
  const at::Tensor positions = int_tensor({0, 1});
  const auto call = [&](std::vector<int32_t> starts, std::vector<int32_t> contexts,
                        std::vector<int32_t> table) {
    return attention(
        qkv, positions, cache,
        {int_tensor(starts), int_tensor(contexts), int_tensor(table).view({1, -1}), int_tensor({})},
        1, 1, 0.1, std::nullopt, std::nullopt, 0);
  };
  EXPECT_NO_THROW(call({0, 2}, {2}, {3}));
  const at::Tensor short_rope = at::zeros({1, 16, 2});
  const auto rotate = [&] {
    return attention(
        qkv, positions, cache,
        {int_tensor({0, 2}), int_tensor({2}), int_tensor({0}).view({1, 1}), int_tensor({})}, 1, 1,
        0.1, short_rope, std::nullopt, 0);
  };
  if (!device().is_cpu()) {
    const at::Tensor output = rotate();
    EXPECT_TRUE(output[1].isnan().all().item<bool>());
    EXPECT_FALSE(output[0].isnan().any().item<bool>());
    return;
  }
  EXPECT_THROW(call({0, 2}, {2}, {4}), c10::Error);
  EXPECT_THROW(call({0, 2}, {2}, {-1}), c10::Error);
  EXPECT_THROW(call({0, 2}, {1}, {0}), c10::Error);
  EXPECT_THROW(call({0, 1}, {2}, {0}), c10::Error);
  EXPECT_THROW(call({0, 2}, {17}, {0}), c10::Error);
  EXPECT_THROW(rotate(), c10::Error);
}

}  // namespace
}  // namespace sluice::kernels::testing
