#pragma once

#include <cstdint>
#include <functional>
#include <ostream>
#include <vector>

#include "kernels/cuda/device_api.h"

// Sequences with their queries, keys and values of all positions, and the device's attention over
// them in any order of steps; for tests without LibTorch.
namespace sluice::kernels::cuda::host {

struct AttentionShape {
  DType type = DType::kBF16;
  KvFormat cache = KvFormat::kModel;
  int64_t heads = 4;
  int64_t kv_heads = 4;
  int64_t head_size = 64;
  int64_t block_size = 16;
  int64_t rotary_size = 0;
  int64_t window = 0;
  bool alibi = false;
};
std::ostream& operator<<(std::ostream& out, const AttentionShape& shape);

// One sequence's rows of a step.
struct StepRows {
  size_t sequence = 0;
  int64_t first = 0;
  int64_t count = 0;
};

class AttentionWorld {
 public:
  // Sequence i has lengths[i] positions. Numbers are random, and a sequence's the same in whatever
  // company it is.
  AttentionWorld(const AttentionShape& shape, std::vector<int64_t> lengths);

  // Every position's output [length, H D], bytes, by sequence, when each step gives each sequence
  // up to `chunk` rows, and the last `decodes` of them one by one. A step whose calls fail, or
  // write where they should not, fails the test. What a step may not read holds NaN.
  std::vector<std::vector<unsigned char>> run(int64_t chunk, int64_t decodes = 0) const;

  // A single step's outputs, one row after the other, where the cache holds what all positions
  // before the rows have given; only its keys and values, no attention, were computed for them.
  std::vector<unsigned char> step_alone(const std::vector<StepRows>& rows) const;

  // The same sequence alone.
  AttentionWorld only(size_t sequence) const;

  // Leaves the rope's table this many positions.
  void shorten_rope(int64_t num_positions);

  // Makes value number 0 of a position infinite, in every KV head.
  void make_infinite(size_t sequence, int64_t position);

  // The outputs of `run` in float64, from numbers rounded as the cache and the queries have them.
  std::vector<std::vector<double>> oracle() const;
  // By how much an output may differ from the oracle's `expected`.
  double tolerance(double expected) const;

  // `run`'s result as numbers.
  std::vector<double> numbers(const std::vector<unsigned char>& bytes) const;

 private:
  struct Device;

  int64_t columns() const { return (shape_.heads + 2 * shape_.kv_heads) * shape_.head_size; }
  float number(size_t sequence, int64_t position, int64_t column) const {
    return qkv_[sequence][static_cast<size_t>(position * columns() + column)];
  }
  // A head of a row, rotated where it is no value's.
  std::vector<float> head(size_t sequence, int64_t position, int64_t index) const;
  // Rounded as the cache has it.
  std::vector<double> cached(const std::vector<float>& head) const;
  int64_t blocks_of(int64_t length) const {
    return (length + shape_.block_size - 1) / shape_.block_size;
  }
  std::vector<unsigned char> step(Device& device, const std::vector<StepRows>& rows) const;

  AttentionShape shape_;
  std::vector<int64_t> lengths_;
  std::vector<std::vector<float>> qkv_;  // of shape_.type's numbers
  std::vector<std::vector<int32_t>> tables_;
  std::vector<float> rope_;
  int64_t rotary_positions_ = 0;
  std::vector<float> slopes_;
  int64_t num_blocks_ = 0;
  int64_t max_blocks_ = 0;
  double largest_ = 0;
};

}  // namespace sluice::kernels::cuda::host
