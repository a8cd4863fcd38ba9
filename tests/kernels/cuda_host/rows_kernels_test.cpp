#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "host_memory.h"
#include "kernels/cuda/device/kernels.h"
#include "kernels/cuda/layout.h"
#include "numbers.h"
#include "with_schedule.h"

// rows.cu and norm.cu against double arithmetic, and their row law bit by bit. Device memory ends
// before a page that cannot be touched and holds NaN at first.
namespace sluice::kernels::cuda {
namespace {

class DeviceBytes {
 public:
  explicit DeviceBytes(size_t bytes, size_t offset = 0) : offset_(offset) {
    EXPECT_EQ(api().allocate(&data_, bytes + offset), kSuccess);
  }
  DeviceBytes(const DeviceBytes&) = delete;
  DeviceBytes& operator=(const DeviceBytes&) = delete;
  ~DeviceBytes() { EXPECT_EQ(api().release(data_), kSuccess); }

  template <typename T = void>
  T* as() const {
    return reinterpret_cast<T*>(static_cast<unsigned char*>(data_) + offset_);
  }

 private:
  static const DeviceApi& api() {
    static const DeviceApi table = host::memory_api();
    return table;
  }
  void* data_ = nullptr;
  size_t offset_;
};

template <typename T>
constexpr DType kType = sizeof(T) == 4            ? DType::kF32
                        : std::is_same_v<T, Half> ? DType::kF16
                                                  : DType::kBF16;

// Half a unit in the last place of a result, and float32's rounding of a sum.
template <typename T>
constexpr double kRelative = sizeof(T) == 4            ? 1e-5
                             : std::is_same_v<T, Half> ? 0x1p-10
                                                       : 0x1p-7;

template <typename T>
std::vector<T> random_numbers(size_t count, unsigned seed, float mean = 0) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(mean);
  std::vector<T> numbers(count);
  for (T& number : numbers) number = from_float<T>(normal(random));
  return numbers;
}

// On the device, `offset` numbers after an address that is a multiple of 16.
template <typename T>
struct DeviceNumbers : DeviceBytes {
  explicit DeviceNumbers(size_t count, size_t offset = 0)
      : DeviceBytes((count * sizeof(T) + 15) / 16 * 16, offset * sizeof(T)), size(count) {}
  explicit DeviceNumbers(const std::vector<T>& numbers, size_t offset = 0)
      : DeviceNumbers(numbers.size(), offset) {
    std::memcpy(get(), numbers.data(), size * sizeof(T));
  }
  T* get() const { return this->template as<T>(); }
  std::vector<T> read() const { return {get(), get() + size}; }
  size_t size;
};

template <typename T>
bool same_bits(const T* a, const T* b, size_t count) {
  return std::memcmp(a, b, count * sizeof(T)) == 0;
}

class Rows : public host::WithSchedule {};
INSTANTIATE_TEST_SUITE_P(Schedules, Rows, host::schedules(), host::schedule_name);

template <typename T>
struct NormCase {
  int64_t rows;
  int64_t size;
  int64_t heads = 1;
  int64_t stride = 0;  // 0: heads * size
  bool is_layer_norm = false;
  size_t offset = 0;  // of x and of the output

  int64_t row_stride() const { return stride == 0 ? heads * size : stride; }
  int64_t num_numbers() const { return (rows - 1) * row_stride() + heads * size; }
};

constexpr float kEpsilon = 1e-5f;

template <typename T>
std::vector<T> run_norm(const NormCase<T>& c, const std::vector<T>& x, const std::vector<T>& weight,
                        const std::vector<T>& bias) {
  const DeviceNumbers<T> input(x, c.offset);
  const DeviceNumbers<T> weights(weight);
  const DeviceNumbers<T> biases(bias);
  const DeviceNumbers<T> output(x.size(), c.offset);
  const NormArgs args{.type = kType<T>,
                      .x = input.get(),
                      .weight = weights.get(),
                      .bias = c.is_layer_norm ? biases.get() : nullptr,
                      .output = output.get(),
                      .num_rows = c.rows,
                      .size = c.size,
                      .stride = c.row_stride(),
                      .heads = c.heads,
                      .epsilon = kEpsilon};
  EXPECT_EQ(c.is_layer_norm ? layer_norm(args, nullptr) : rms_norm(args, nullptr), kSuccess);
  return output.read();
}

template <typename T>
std::vector<double> expected_norm(const NormCase<T>& c, const T* x, const std::vector<T>& weight,
                                  const std::vector<T>& bias) {
  double mean = 0;
  for (int64_t i = 0; i < c.size; ++i) mean += to_float(x[i]);
  mean = c.is_layer_norm ? mean / static_cast<double>(c.size) : 0;
  double squares = 0;
  for (int64_t i = 0; i < c.size; ++i) squares += std::pow(to_float(x[i]) - mean, 2);
  const double scale = 1 / std::sqrt(squares / static_cast<double>(c.size) + kEpsilon);
  std::vector<double> result;
  for (int64_t i = 0; i < c.size; ++i) {
    const double y = (to_float(x[i]) - mean) * scale * to_float(weight[i]);
    result.push_back(y + (c.is_layer_norm ? to_float(bias[i]) : 0));
  }
  return result;
}

template <typename T>
void expect_norm(const NormCase<T>& c) {
  SCOPED_TRACE("rows " + std::to_string(c.rows) + ", size " + std::to_string(c.size) + ", heads " +
               std::to_string(c.heads) + ", type " + std::to_string(static_cast<int>(kType<T>)) +
               (c.is_layer_norm ? ", layer_norm" : ", rms_norm"));
  const auto x = random_numbers<T>(c.num_numbers(), 1, 0.5f);
  const auto weight = random_numbers<T>(c.size, 2);
  const auto bias = random_numbers<T>(c.size, 3);
  const std::vector<T> output = run_norm(c, x, weight, bias);
  double worst = 0;
  for (int64_t i = 0; i < c.rows * c.heads; ++i) {
    const int64_t begin = i / c.heads * c.row_stride() + i % c.heads * c.size;
    const auto expected = expected_norm(c, &x[begin], weight, bias);
    for (int64_t n = 0; n < c.size; ++n) {
      const double error = std::abs(to_float(output[begin + n]) - expected[n]);
      // A sum with the bias may cancel: relative to what was summed.
      worst = std::max(worst, error / (std::abs(expected[n]) + 0.1));
      ASSERT_FALSE(std::isnan(error)) << i << ", " << n;
    }
  }
  EXPECT_LT(worst, kRelative<T>);
  // Row law: alone as in the crowd, and at any address.
  for (const int64_t row : {int64_t{0}, c.rows - 1}) {
    for (const size_t offset : {0, 1}) {
      NormCase<T> alone = c;
      alone.rows = 1;
      alone.offset = offset;
      const auto first = x.begin() + row * c.row_stride();
      const std::vector<T> own(first, first + c.heads * c.size);
      const std::vector<T> result = run_norm(alone, own, weight, bias);
      EXPECT_TRUE(same_bits(result.data(), &output[row * c.row_stride()], own.size()))
          << "row " << row << " at offset " << offset;
    }
  }
}

template <typename T>
void expect_norms() {
  for (const bool is_layer_norm : {false, true}) {
    for (const int64_t size : {1, 7, 64, 80, 250, 1000, 1024, 1025, 1032, 4096, 4104, 17000}) {
      expect_norm<T>({.rows = 3, .size = size, .is_layer_norm = is_layer_norm});
    }
    expect_norm<T>({.rows = 9, .size = 128, .is_layer_norm = is_layer_norm});
  }
  expect_norm<T>({.rows = 3, .size = 64, .heads = 5, .stride = 448});
  expect_norm<T>({.rows = 3, .size = 80, .heads = 1, .stride = 83});
  expect_norm<T>({.rows = 2, .size = 2048, .heads = 2, .stride = 5000});
}

TEST_P(Rows, NormsAreRightAndKeepTheRowLaw) {
  expect_norms<float>();
  expect_norms<Half>();
  expect_norms<BFloat16>();
}

TEST_P(Rows, NormOfHeadsLeavesOtherColumnsAlone) {
  const NormCase<float> c{.rows = 2, .size = 8, .heads = 2, .stride = 20};
  const auto x = random_numbers<float>(c.num_numbers(), 4);
  const std::vector<float> one(8, 1.0f);
  const auto output = run_norm(c, x, one, one);
  for (int i = 16; i < 20; ++i) EXPECT_TRUE(std::isnan(output[i]));
}

template <typename T>
void expect_swiglu(int64_t rows, int64_t size, size_t offset) {
  const auto x = random_numbers<T>(rows * 2 * size, 5);
  const auto run = [&](const T* numbers, int64_t count, size_t shift) {
    const DeviceNumbers<T> input(std::vector<T>(numbers, numbers + count * 2 * size), shift);
    const DeviceNumbers<T> output(count * size, shift);
    EXPECT_EQ(swiglu({.type = kType<T>,
                      .x = input.get(),
                      .output = output.get(),
                      .num_rows = count,
                      .size = size},
                     nullptr),
              kSuccess);
    return output.read();
  };
  const std::vector<T> output = run(x.data(), rows, 0);
  for (int64_t i = 0; i < rows * size; ++i) {
    const double gate = to_float(x[i / size * 2 * size + i % size]);
    const double up = to_float(x[i / size * 2 * size + size + i % size]);
    const double expected = gate / (1 + std::exp(-gate)) * up;
    ASSERT_NEAR(to_float(output[i]), expected, std::abs(expected) * kRelative<T> + 1e-7) << i;
  }
  const std::vector<T> last = run(&x[(rows - 1) * 2 * size], 1, offset);
  EXPECT_TRUE(same_bits(last.data(), &output[(rows - 1) * size], size));
}

TEST_P(Rows, Swiglu) {
  for (const int64_t size : {1, 8, 12, 1000, 1024}) {
    for (const size_t offset : {0, 1}) {
      expect_swiglu<float>(3, size, offset);
      expect_swiglu<Half>(3, size, offset);
      expect_swiglu<BFloat16>(3, size, offset);
    }
  }
}

template <typename T>
void expect_embed(int64_t rows, int64_t columns) {
  const auto weight = random_numbers<T>(rows * columns, 6);
  const Weight shape{.type = kType<T>, .rows = rows, .columns = columns};
  const DeviceNumbers<T> tiles(weight_bytes(shape) / static_cast<int64_t>(sizeof(T)));
  for (int64_t i = 0; i < rows * columns; ++i) {
    const int64_t place = sizeof(T) == 4 ? i : number_offset(i / columns, i % columns, columns, 16);
    tiles.get()[place] = weight[i];
  }
  const std::vector<int32_t> tokens = {static_cast<int32_t>(rows - 1), 0, 3, 3, 9};
  const DeviceNumbers<int32_t> ids(tokens);
  for (const size_t offset : {0, 1}) {
    const DeviceNumbers<T> output(tokens.size() * columns, offset);
    const EmbedArgs args{
        .weight = {.type = kType<T>, .rows = rows, .columns = columns, .tiles = tiles.get()},
        .tokens = ids.get(),
        .num_tokens = static_cast<int64_t>(tokens.size()),
        .output = output.get()};
    ASSERT_EQ(embed(args, nullptr), kSuccess);
    for (size_t t = 0; t < tokens.size(); ++t) {
      EXPECT_TRUE(same_bits(output.get() + t * columns, &weight[tokens[t] * columns], columns))
          << "token " << t << ", columns " << columns;
    }
  }
}

TEST_P(Rows, EmbedTakesRowsOutOfTiles) {
  for (const int64_t columns : {1, 8, 32, 50, 64, 1025, 2048}) {
    expect_embed<float>(19, columns);
    expect_embed<Half>(19, columns);
    expect_embed<BFloat16>(19, columns);
  }
}

TEST_P(Rows, CopiesRowsAndColumnsOfAnySize) {
  for (const int64_t row_bytes : {1, 6, 12, 16, 4096, 5000}) {
    const DeviceBytes x(5 * row_bytes);
    for (int64_t i = 0; i < 5 * row_bytes; ++i) {
      x.as<unsigned char>()[i] = static_cast<unsigned char>(i * 7 % 251);
    }
    const std::vector<int32_t> rows = {4, 0, 4};
    const DeviceNumbers<int32_t> indices(rows);
    const DeviceBytes output(3 * row_bytes);
    ASSERT_EQ(select_rows({.x = x.as(),
                           .num_source_rows = 5,
                           .indices = indices.get(),
                           .num_rows = 3,
                           .row_bytes = row_bytes,
                           .output = output.as()},
                          nullptr),
              kSuccess);
    for (int64_t r = 0; r < 3; ++r) {
      EXPECT_TRUE(same_bits(output.as<char>() + r * row_bytes, x.as<char>() + rows[r] * row_bytes,
                            row_bytes));
    }
    const int64_t first = row_bytes / 4;
    const int64_t count = (row_bytes + 1) / 2;
    const DeviceBytes part(5 * row_bytes);
    ASSERT_EQ(copy_columns({.x = x.as(),
                            .output = part.as(),
                            .num_rows = 5,
                            .row_bytes = row_bytes,
                            .first_byte = first,
                            .num_bytes = count},
                           nullptr),
              kSuccess);
    for (int64_t r = 0; r < 5; ++r) {
      EXPECT_TRUE(same_bits(part.as<char>() + r * row_bytes + first,
                            x.as<char>() + r * row_bytes + first, count));
    }
  }
}

TEST_P(Rows, NoRowsAreNothingToDo) {
  EXPECT_EQ(rms_norm({.size = 64, .stride = 64}, nullptr), kSuccess);
  EXPECT_EQ(layer_norm({.size = 4096, .stride = 4096}, nullptr), kSuccess);
  EXPECT_EQ(swiglu({.size = 64}, nullptr), kSuccess);
  EXPECT_EQ(select_rows({.row_bytes = 64}, nullptr), kSuccess);
  EXPECT_EQ(embed({.weight = {.rows = 3, .columns = 64}}, nullptr), kSuccess);
}

}  // namespace
}  // namespace sluice::kernels::cuda
