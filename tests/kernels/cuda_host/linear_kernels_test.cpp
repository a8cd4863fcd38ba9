#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "host_memory.h"
#include "kernels/cuda/device/kernels.h"
#include "kernels/cuda/layout.h"
#include "numbers.h"
#include "with_schedule.h"

// The row law of `linear` over all of its kernels and shapes of blocks, bit by bit.
// tests/kernels/linear_test.cpp and quantized_test.cpp compare its numbers with a reference.
// Device memory ends before a page that cannot be touched and holds NaN at first.
namespace sluice::kernels::cuda {
namespace {

const DeviceApi& api() {
  static const DeviceApi table = host::memory_api();
  return table;
}

class DeviceBytes {
 public:
  explicit DeviceBytes(size_t bytes) : bytes_(bytes) {
    EXPECT_EQ(api().allocate(&data_, bytes), kSuccess);
  }
  template <typename T>
  explicit DeviceBytes(const std::vector<T>& numbers) : DeviceBytes(numbers.size() * sizeof(T)) {
    std::memcpy(data_, numbers.data(), bytes_);
  }
  DeviceBytes(const DeviceBytes&) = delete;
  DeviceBytes& operator=(const DeviceBytes&) = delete;
  ~DeviceBytes() { EXPECT_EQ(api().release(data_), kSuccess); }

  template <typename T = void>
  T* as() const {
    return static_cast<T*>(data_);
  }

 private:
  void* data_ = nullptr;
  size_t bytes_;
};

enum class Format { kPlain, kInt8, kWide, kInt4, kFloat8, kWideFloat8 };

bool is_float8(Format format) {
  return format == Format::kFloat8 || format == Format::kWideFloat8;
}

struct LinearCase {
  DType type = DType::kBF16;
  Format format = Format::kPlain;
  int64_t columns = 0;  // K
  int64_t rows = 72;    // N: no multiple of a block's
  bool float_output = false;

  std::string name() const {
    return "type " + std::to_string(static_cast<int>(type)) + " format " +
           std::to_string(static_cast<int>(format)) + " K " + std::to_string(columns) + " N " +
           std::to_string(rows);
  }
};

std::vector<unsigned char> random_bytes(size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<unsigned char> bytes(count);
  for (unsigned char& byte : bytes) byte = static_cast<unsigned char>(random());
  return bytes;
}

std::vector<unsigned char> random_numbers(DType type, int64_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<unsigned char> bytes(static_cast<size_t>(count * size_of(type)));
  for (int64_t i = 0; i < count; ++i) {
    const float x = normal(random);
    const uint16_t bits = type == DType::kF16 ? to_half(x).bits : to_bfloat16(x).bits;
    unsigned char* at = bytes.data() + i * size_of(type);
    type == DType::kF32 ? std::memcpy(at, &x, 4) : std::memcpy(at, &bits, 2);
  }
  return bytes;
}

// A weight, the most rows of x that a test asks for, and what is added to the product.
class Linear {
 public:
  static constexpr int64_t kMostRows = 140;

  explicit Linear(const LinearCase& of)
      : case_(of),
        weight_(describe(of)),
        tiles_(static_cast<size_t>(weight_bytes(weight_))),
        scales_(std::vector<float>(static_cast<size_t>(of.rows), 0.01f)),
        multipliers_(multipliers(weight_)),
        x_(random_numbers(of.type, kMostRows * of.columns, 1)),
        bias_(random_numbers(of.type, of.rows, 2)),
        residual_(random_numbers(of.type, kMostRows * of.rows, 3)) {
    const int64_t count = of.rows * of.columns;
    std::vector<unsigned char> numbers =
        of.format == Format::kPlain
            ? random_numbers(of.type, count, 4)
            : random_bytes(static_cast<size_t>(count * file_bits(weight_) / 8), 5);
    if (is_float8(of.format)) {
      for (unsigned char& byte : numbers) byte ^= static_cast<unsigned char>((byte & 0x7f) == 0x7f);
    }
    const DeviceBytes source(numbers);
    EXPECT_EQ(pack({.weight = weight_, .source = source.as(), .tiles = tiles_.as()}, nullptr),
              kSuccess);
    weight_.tiles = tiles_.as();
    if (of.format != Format::kPlain) weight_.scales = scales_.as<float>();
    if (of.format == Format::kInt4) weight_.multipliers = multipliers_.as<uint8_t>();
  }

  // Output rows [first, first + count) of a device of so many multiprocessors.
  std::vector<unsigned char> run(int64_t first, int64_t count, Activation activation,
                                 int32_t num_multiprocessors) const {
    const int64_t size = size_of(case_.type);
    LinearArgs args;
    args.weight = weight_;
    args.num_rows = count;
    args.activation = activation;
    args.float_output = case_.float_output;
    args.num_multiprocessors = num_multiprocessors;
    // Memory of its own, which ends where the rows do.
    const auto rows_of = [&](const DeviceBytes& all, int64_t row_bytes) {
      const auto* begin = all.as<unsigned char>() + first * row_bytes;
      return std::vector<unsigned char>(begin, begin + count * row_bytes);
    };
    const DeviceBytes x(rows_of(x_, case_.columns * size));
    const DeviceBytes residual(rows_of(residual_, case_.rows * size));
    args.x = x.as();
    args.bias = bias_.as();
    args.residual = residual.as();
    std::vector<unsigned char> output(
        static_cast<size_t>(count * case_.rows * (case_.float_output ? 4 : size)));
    const DeviceBytes to(output.size());
    const DeviceBytes workspace(static_cast<size_t>(linear_workspace(args)) + 16);
    args.output = to.as();
    args.workspace = workspace.as();
    EXPECT_EQ(linear(args, nullptr), kSuccess);
    std::memcpy(output.data(), to.as(), output.size());
    return output;
  }

 private:
  static Weight describe(const LinearCase& of) {
    Weight weight;
    weight.type = of.type;
    weight.format = of.format == Format::kPlain  ? WeightFormat::kPlain
                    : of.format == Format::kInt4 ? WeightFormat::kInt4
                    : is_float8(of.format)       ? WeightFormat::kFloat8
                                                 : WeightFormat::kInt8;
    weight.is_wide = of.format == Format::kWide || of.format == Format::kWideFloat8;
    weight.rows = of.rows;
    weight.columns = of.columns;
    weight.group_size = of.format == Format::kInt4 ? 32 : 0;
    return weight;
  }
  static std::vector<unsigned char> multipliers(const Weight& weight) {
    if (weight.group_size == 0) return std::vector<unsigned char>(1);
    const int64_t tiles = divide_up(weight.rows, kTileRows);
    std::vector<unsigned char> bytes = random_bytes(
        static_cast<size_t>(tiles * num_groups(weight.columns, weight.group_size) * kTileRows), 6);
    for (unsigned char& byte : bytes) byte %= 16;
    return bytes;
  }

  LinearCase case_;
  Weight weight_;
  DeviceBytes tiles_;
  DeviceBytes scales_;
  DeviceBytes multipliers_;
  DeviceBytes x_;
  DeviceBytes bias_;
  DeviceBytes residual_;
};

// K: a pair and less, segments of 4 pairs of which the last is not whole, more than eight segments.
std::vector<LinearCase> linear_cases() {
  std::vector<LinearCase> cases;
  for (const int64_t columns : {32, 840, 4128}) {
    for (const DType type : {DType::kBF16, DType::kF16}) {
      if (columns > 1000 && type == DType::kF16) continue;
      cases.push_back({.type = type, .columns = columns});
      cases.push_back({.type = type, .format = Format::kWide, .columns = columns});
    }
    const int64_t whole = (columns + 31) / 32 * 32;
    cases.push_back({.format = Format::kInt8, .columns = columns});
    cases.push_back({.format = Format::kInt4, .columns = whole});
    if (columns == 840) {
      cases.push_back({.format = Format::kFloat8, .columns = columns});
      cases.push_back({.format = Format::kWideFloat8, .columns = columns});
    }
  }
  cases.push_back({.columns = 97});              // rows that are not aligned
  cases.push_back({.columns = 64, .rows = 39});  // nor are the output's
  cases.push_back({.columns = 64, .rows = 39, .float_output = true});
  cases.push_back({.columns = 416, .float_output = true});
  cases.push_back({.type = DType::kF32, .columns = 40});
  return cases;
}

class LinearKernels : public host::WithSchedule {};

INSTANTIATE_TEST_SUITE_P(Schedules, LinearKernels, host::schedules(), host::schedule_name);

// A device of many multiprocessors has the smallest blocks, and one of few the largest.
TEST_P(LinearKernels, RowLaw) {
  for (const LinearCase& of : linear_cases()) {
    const Linear linear(of);
    for (const Activation activation : {Activation::kNone, Activation::kSilu}) {
      const auto whole = linear.run(0, Linear::kMostRows, activation, 1000);
      const auto row_bytes = static_cast<std::ptrdiff_t>(whole.size()) / Linear::kMostRows;
      for (const int32_t multiprocessors : {1, 4, 1000}) {
        for (const int64_t count : {1, 8, 13, 32, 59, 65, 130}) {
          const int64_t first = Linear::kMostRows - count;
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
