#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "linear_world.h"
#include "with_schedule.h"

// The row law of `linear` over all of its kernels and shapes of blocks, bit by bit.
// tests/kernels/linear_test.cpp and quantized_test.cpp compare its numbers with a reference.
// Device memory ends before a page that cannot be touched and holds NaN at first.
namespace sluice::kernels::cuda {
namespace {

using host::LinearFormat;
using host::LinearShape;
using host::LinearWorld;

// K: a pair and less, segments of 4 pairs of which the last is not whole, more than eight segments.
std::vector<LinearShape> linear_shapes() {
  std::vector<LinearShape> shapes;
  for (const int64_t columns : {32, 840, 4128}) {
    for (const DType type : {DType::kBF16, DType::kF16}) {
      if (columns > 1000 && type == DType::kF16) continue;
      shapes.push_back({.type = type, .columns = columns});
      shapes.push_back({.type = type, .format = LinearFormat::kWide, .columns = columns});
    }
    const int64_t whole = (columns + 31) / 32 * 32;
    shapes.push_back({.format = LinearFormat::kInt8, .columns = columns});
    shapes.push_back({.format = LinearFormat::kInt4, .columns = whole});
    if (columns == 840) {
      shapes.push_back({.format = LinearFormat::kFloat8, .columns = columns});
      shapes.push_back({.format = LinearFormat::kWideFloat8, .columns = columns});
    }
  }
  shapes.push_back({.columns = 97});              // rows that are not aligned
  shapes.push_back({.columns = 64, .rows = 39});  // nor are the output's
  shapes.push_back({.columns = 64, .rows = 39, .float_output = true});
  shapes.push_back({.columns = 416, .float_output = true});
  shapes.push_back({.type = DType::kF32, .columns = 40});
  return shapes;
}

class LinearKernels : public host::WithSchedule {};

INSTANTIATE_TEST_SUITE_P(Schedules, LinearKernels, host::schedules(), host::schedule_name);

// A device of many multiprocessors has the smallest blocks, and one of few the largest.
TEST_P(LinearKernels, RowLaw) {
  for (const LinearShape& of : linear_shapes()) {
    const LinearWorld linear(of);
    for (const Activation activation : {Activation::kNone, Activation::kSilu}) {
      const auto whole = linear.run(0, LinearWorld::kMostRows, activation, 1000);
      const auto row_bytes = static_cast<std::ptrdiff_t>(whole.size()) / LinearWorld::kMostRows;
      for (const int32_t multiprocessors : {1, 4, 1000}) {
        for (const int64_t count : {1, 8, 13, 32, 59, 65, 130}) {
          const int64_t first = LinearWorld::kMostRows - count;
          const auto some = linear.run(first, count, activation, multiprocessors);
          ASSERT_TRUE(std::equal(some.begin(), some.end(), whole.begin() + first * row_bytes))
              << of.name() << ", " << count << " rows, " << multiprocessors << " multiprocessors";
        }
      }
    }
  }
}

}  // namespace
}  // namespace sluice::kernels::cuda
