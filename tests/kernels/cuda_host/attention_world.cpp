#include "attention_world.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>

#include "host_memory.h"
#include "kernels/cuda/device/kernels.h"
#include "kernels/kv_float8.h"
#include "kernels/kv_int8.h"
#include "numbers.h"

namespace sluice::kernels::cuda::host {
namespace {

const DeviceApi& api() {
  static const DeviceApi table = memory_api();
  return table;
}

// Memory of the device, and what it holds at first: NaN, or a copy.
class DeviceBytes {
 public:
  explicit DeviceBytes(size_t bytes) { EXPECT_EQ(api().allocate(&data_, bytes), kSuccess); }
  template <typename T>
  explicit DeviceBytes(const std::vector<T>& from) : DeviceBytes(from.size() * sizeof(T)) {
    std::memcpy(data_, from.data(), from.size() * sizeof(T));
  }
  DeviceBytes(const DeviceBytes&) = delete;
  DeviceBytes& operator=(const DeviceBytes&) = delete;
  ~DeviceBytes() { EXPECT_EQ(api().release(data_), kSuccess) << "written before its start"; }

  template <typename T = unsigned char>
  T* data() const {
    return static_cast<T*>(data_);
  }

 private:
  void* data_ = nullptr;
};

float rounded(float x, DType type) {
  switch (type) {
    case DType::kF32:
      return x;
    case DType::kF16:
      return to_float(to_half(x));
    case DType::kBF16:
      return to_float(to_bfloat16(x));
  }
  return x;
}

void append(float x, DType type, std::vector<unsigned char>& bytes) {
  const auto put = [&](auto value) {
    const auto* from = reinterpret_cast<const unsigned char*>(&value);
    bytes.insert(bytes.end(), from, from + sizeof(value));
  };
  switch (type) {
    case DType::kF32:
      return put(x);
    case DType::kF16:
      return put(to_half(x));
    case DType::kBF16:
      return put(to_bfloat16(x));
  }
}

double unit_roundoff(DType type) {
  return type == DType::kF32 ? 0x1p-24 : type == DType::kF16 ? 0x1p-11 : 0x1p-8;
}

}  // namespace

std::ostream& operator<<(std::ostream& out, const AttentionShape& s) {
  const char* types[] = {"float32", "float16", "bfloat16"};
  const char* caches[] = {"", " with int8 cache", " with fp8 cache"};
  return out << types[static_cast<int>(s.type)] << caches[static_cast<int>(s.cache)]
             << " H=" << s.heads << " Hkv=" << s.kv_heads << " D=" << s.head_size
             << " S=" << s.block_size << " rotary=" << s.rotary_size << " window=" << s.window
             << " alibi=" << s.alibi;
}

// The layer's pool, which outlives a step.
struct AttentionWorld::Device {
  explicit Device(const AttentionWorld& world)
      : slot_bytes(2 * world.shape_.head_size *
                       (world.shape_.cache == KvFormat::kModel ? size_of(world.shape_.type) : 1) +
                   kv_scale_bytes(world.shape_.cache)),
        head_bytes(world.shape_.block_size * slot_bytes),
        cache(static_cast<size_t>(world.num_blocks_ * world.shape_.kv_heads * head_bytes)) {}

  int64_t slot_bytes;
  int64_t head_bytes;
  DeviceBytes cache;
};

AttentionWorld::AttentionWorld(const AttentionShape& shape, std::vector<int64_t> lengths)
    : shape_(shape), lengths_(std::move(lengths)), num_blocks_(3) {
  for (const int64_t length : lengths_) {
    std::mt19937 random(static_cast<uint32_t>(100 + length));
    std::normal_distribution<float> normal;
    std::vector<float>& numbers = qkv_.emplace_back();
    for (int64_t i = 0; i < length * columns(); ++i) {
      numbers.push_back(rounded(normal(random), shape.type));
      largest_ = std::max(largest_, std::abs(static_cast<double>(numbers.back())));
    }
    max_blocks_ = std::max(max_blocks_, blocks_of(length) + 1);
    num_blocks_ += blocks_of(length);
  }
  std::vector<int32_t> order(static_cast<size_t>(num_blocks_));
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), std::mt19937(7));
  auto next = order.begin();
  for (const int64_t length : lengths_) {
    // An entry past the context would be far outside the pool.
    std::vector<int32_t> table(static_cast<size_t>(max_blocks_),
                               std::numeric_limits<int32_t>::max());
    std::copy_n(next, blocks_of(length), table.begin());
    next += blocks_of(length);
    tables_.push_back(std::move(table));
  }
  std::mt19937 random(8);
  std::normal_distribution<float> normal;
  rotary_positions_ = *std::max_element(lengths_.begin(), lengths_.end());
  for (int64_t i = 0; i < rotary_positions_ * shape.rotary_size; ++i) {
    rope_.push_back(normal(random));
  }
  for (int64_t h = 0; shape.alibi && h < shape.heads; ++h) {
    slopes_.push_back(std::abs(normal(random)) * 0.2f);
  }
}

AttentionWorld AttentionWorld::only(size_t sequence) const {
  AttentionWorld alone(*this);
  alone.lengths_ = {lengths_[sequence]};
  alone.qkv_ = {qkv_[sequence]};
  alone.tables_ = {tables_[sequence]};
  return alone;
}

void AttentionWorld::shorten_rope(int64_t num_positions) {
  rotary_positions_ = num_positions;
  rope_.resize(static_cast<size_t>(num_positions * shape_.rotary_size));
}

void AttentionWorld::make_infinite(size_t sequence, int64_t position) {
  for (int64_t h = 0; h < shape_.kv_heads; ++h) {
    const int64_t column = (shape_.heads + shape_.kv_heads + h) * shape_.head_size;
    qkv_[sequence][static_cast<size_t>(position * columns() + column)] =
        std::numeric_limits<float>::infinity();
  }
}

std::vector<unsigned char> AttentionWorld::step(Device& device,
                                                const std::vector<StepRows>& rows) const {
  std::vector<int32_t> starts = {0}, contexts, positions, table;
  std::vector<unsigned char> qkv;
  for (const StepRows& part : rows) {
    for (int64_t i = 0; i < part.count; ++i) {
      const int64_t position = part.first + i;
      positions.push_back(static_cast<int32_t>(position));
      for (int64_t c = 0; c < columns(); ++c) {
        append(number(part.sequence, position, c), shape_.type, qkv);
      }
    }
    starts.push_back(static_cast<int32_t>(positions.size()));
    contexts.push_back(static_cast<int32_t>(part.first + part.count));
    const std::vector<int32_t>& own = tables_[part.sequence];
    table.insert(table.end(), own.begin(), own.end());
    // What follows the context may be read by nobody.
    for (int64_t m = blocks_of(contexts.back()); m < max_blocks_; ++m) {
      table[table.size() - static_cast<size_t>(max_blocks_ - m)] =
          std::numeric_limits<int32_t>::max();
    }
  }
  const DeviceBytes qkv_bytes(qkv), starts_bytes(starts), contexts_bytes(contexts);
  const DeviceBytes positions_bytes(positions), table_bytes(table), rope_bytes(rope_);
  const DeviceBytes slopes_bytes(slopes_);
  const auto output_bytes = positions.size() * static_cast<size_t>(shape_.heads) *
                            static_cast<size_t>(shape_.head_size * size_of(shape_.type));
  const DeviceBytes output(output_bytes);
  AttentionArgs args;
  args.type = shape_.type;
  args.cache_format = shape_.cache;
  args.qkv = qkv_bytes.data();
  args.positions = positions_bytes.data<int32_t>();
  args.cache = device.cache.data();
  args.starts = starts_bytes.data<int32_t>();
  args.contexts = contexts_bytes.data<int32_t>();
  args.tables = table_bytes.data<int32_t>();
  args.rope = rope_.empty() ? nullptr : rope_bytes.data<float>();
  args.alibi_slopes = slopes_.empty() ? nullptr : slopes_bytes.data<float>();
  args.output = output.data();
  args.num_tokens = static_cast<int64_t>(positions.size());
  args.num_sequences = static_cast<int64_t>(rows.size());
  args.num_heads = shape_.heads;
  args.num_kv_heads = shape_.kv_heads;
  args.head_size = shape_.head_size;
  args.block_size = shape_.block_size;
  args.max_blocks = max_blocks_;
  args.rotary_size = shape_.rotary_size;
  args.rotary_positions = rotary_positions_;
  args.num_blocks = num_blocks_;
  args.window = shape_.window;
  args.scale = static_cast<float>(1 / std::sqrt(static_cast<double>(shape_.head_size)));
  const DeviceBytes workspace(static_cast<size_t>(attention_workspace(args)));
  args.workspace = workspace.data();
  EXPECT_EQ(attention(args, nullptr), kSuccess);
  return {output.data(), output.data() + output_bytes};
}

std::vector<std::vector<unsigned char>> AttentionWorld::run(int64_t chunk, int64_t decodes) const {
  Device device(*this);
  std::vector<std::vector<unsigned char>> outputs(lengths_.size());
  std::vector<int64_t> done(lengths_.size(), 0);
  for (bool more = true; more;) {
    more = false;
    std::vector<StepRows> rows;
    for (size_t b = 0; b < lengths_.size(); ++b) {
      const int64_t left = lengths_[b] - done[b];
      const int64_t count = std::min(left > decodes ? std::min(chunk, left - decodes) : 1, left);
      rows.push_back({b, done[b], count});
      done[b] += count;
      more = more || done[b] < lengths_[b];
    }
    const std::vector<unsigned char> output = step(device, rows);
    auto from = output.begin();
    for (const StepRows& part : rows) {
      const int64_t bytes = part.count * shape_.heads * shape_.head_size * size_of(shape_.type);
      outputs[part.sequence].insert(outputs[part.sequence].end(), from, from + bytes);
      from += bytes;
    }
  }
  return outputs;
}

std::vector<unsigned char> AttentionWorld::step_alone(const std::vector<StepRows>& rows) const {
  Device device(*this);
  EXPECT_EQ(shape_.cache, KvFormat::kModel) << "written here as the model's numbers";
  for (const StepRows& part : rows) {
    for (int64_t position = 0; position < part.first; ++position) {
      const int64_t block =
          tables_[part.sequence][static_cast<size_t>(position / shape_.block_size)];
      for (int64_t h = 0; h < shape_.kv_heads; ++h) {
        std::vector<unsigned char> slot;
        for (const int64_t index : {shape_.heads + h, shape_.heads + shape_.kv_heads + h}) {
          for (const float x : head(part.sequence, position, index)) append(x, shape_.type, slot);
        }
        std::memcpy(device.cache.data() + (block * shape_.kv_heads + h) * device.head_bytes +
                        position % shape_.block_size * device.slot_bytes,
                    slot.data(), slot.size());
      }
    }
  }
  return step(device, rows);
}

std::vector<float> AttentionWorld::head(size_t sequence, int64_t position, int64_t index) const {
  const bool is_value = index >= shape_.heads + shape_.kv_heads;
  const int64_t half = is_value ? 0 : shape_.rotary_size / 2;
  std::vector<float> x;
  for (int64_t i = 0; i < shape_.head_size; ++i) {
    x.push_back(number(sequence, position, index * shape_.head_size + i));
  }
  for (int64_t i = 0; i < half; ++i) {
    const auto angle = static_cast<size_t>((position * half + i) * 2);
    float& low = x[static_cast<size_t>(i)];
    float& high = x[static_cast<size_t>(i + half)];
    const float first = low * rope_[angle] - high * rope_[angle + 1];
    high = high * rope_[angle] + low * rope_[angle + 1];
    low = first;
  }
  return x;
}

std::vector<double> AttentionWorld::cached(const std::vector<float>& head) const {
  std::vector<double> result;
  if (shape_.cache == KvFormat::kModel) {
    for (const float x : head) result.push_back(rounded(x, shape_.type));
    return result;
  }
  float largest = 0;
  for (const float x : head) largest = std::max(largest, std::abs(x));
  if (shape_.cache == KvFormat::kFloat8) {
    const uint8_t scale = float8_scale(largest);
    for (const float x : head) {
      result.push_back(static_cast<double>(from_float8(to_float8(unscaled_float8(x, scale)))) *
                       static_cast<double>(float8_scale_value(scale)));
    }
    return result;
  }
  const float inverse = largest >= kSmallestQuantized ? 127.0f / largest : 0.0f;
  for (const float x : head) result.push_back(std::nearbyint(x * inverse) * (largest * kInt8Step));
  return result;
}

std::vector<std::vector<double>> AttentionWorld::oracle() const {
  std::vector<std::vector<double>> outputs;
  const auto size = static_cast<size_t>(shape_.head_size);
  for (size_t b = 0; b < lengths_.size(); ++b) {
    std::vector<double>& output = outputs.emplace_back();
    std::vector<std::vector<double>> keys, values;  // by position and KV head
    for (int64_t p = 0; p < lengths_[b]; ++p) {
      for (int64_t h = 0; h < shape_.kv_heads; ++h) {
        keys.push_back(cached(head(b, p, shape_.heads + h)));
        values.push_back(cached(head(b, p, shape_.heads + shape_.kv_heads + h)));
      }
      for (int64_t h = 0; h < shape_.heads; ++h) {
        const std::vector<float> query = head(b, p, h);
        const int64_t first = shape_.window > 0 ? std::max<int64_t>(p + 1 - shape_.window, 0) : 0;
        std::vector<double> sums(size, 0);
        std::vector<double> scores;
        const auto at = [&](int64_t key) {
          return static_cast<size_t>(key * shape_.kv_heads + h / (shape_.heads / shape_.kv_heads));
        };
        for (int64_t key = first; key <= p; ++key) {
          double score = 0;
          for (size_t d = 0; d < size; ++d) {
            score += static_cast<double>(rounded(query[d], shape_.type)) * keys[at(key)][d];
          }
          score /= std::sqrt(static_cast<double>(size));
          if (shape_.alibi) {
            score +=
                static_cast<double>(slopes_[static_cast<size_t>(h)]) * static_cast<double>(key - p);
          }
          scores.push_back(score);
        }
        const double largest = *std::max_element(scores.begin(), scores.end());
        double total = 0;
        for (int64_t key = first; key <= p; ++key) {
          const double weight = std::exp(scores[static_cast<size_t>(key - first)] - largest);
          total += weight;
          for (size_t d = 0; d < size; ++d) sums[d] += weight * values[at(key)][d];
        }
        for (const double sum : sums) output.push_back(sum / total);
      }
    }
  }
  return outputs;
}

double AttentionWorld::tolerance(double expected) const {
  // A score's error moves the weights by as much, and the output by that times twice the largest
  // value. Products are of numbers up to `largest_`, but few are: 3 sqrt(D) is above their sums. A
  // backend may round weights to the model's type; with float32 they are exp2's.
  const double roundoff = unit_roundoff(shape_.type);
  const auto size = static_cast<double>(shape_.head_size);
  double score = 100 * 0x1p-24 * std::sqrt(size) + 40 * 0x1p-23;
  // A rotated number that rounds to the other side: the compiler's order of products differs.
  if (shape_.rotary_size > 0) score += 2 * 0x1p-24 * largest_ * largest_ * std::sqrt(size);
  return std::abs(expected) * roundoff * 1.01 + 2 * score * largest_ +
         largest_ * (shape_.type == DType::kF32 ? 0x1p-22 : roundoff);
}

std::vector<double> AttentionWorld::numbers(const std::vector<unsigned char>& bytes) const {
  std::vector<double> result;
  const auto read = [&](auto value) {
    for (size_t i = 0; i < bytes.size(); i += sizeof(value)) {
      std::memcpy(&value, bytes.data() + i, sizeof(value));
      result.push_back(to_float(value));
    }
  };
  switch (shape_.type) {
    case DType::kF32:
      read(float{});
      break;
    case DType::kF16:
      read(Half{});
      break;
    case DType::kBF16:
      read(BFloat16{});
      break;
  }
  return result;
}

}  // namespace sluice::kernels::cuda::host
