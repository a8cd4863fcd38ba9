#include "linear_world.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "kernels/cuda/device/kernels.h"
#include "kernels/cuda/layout.h"
#include "numbers.h"

namespace sluice::kernels::cuda::host {
namespace {

const DeviceApi& api() {
  static const DeviceApi table = memory_api();
  return table;
}

bool is_float8(LinearFormat format) {
  return format == LinearFormat::kFloat8 || format == LinearFormat::kWideFloat8;
}

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

Weight describe(const LinearShape& shape) {
  Weight weight;
  weight.type = shape.type;
  weight.format = shape.format == LinearFormat::kPlain  ? WeightFormat::kPlain
                  : shape.format == LinearFormat::kInt4 ? WeightFormat::kInt4
                  : is_float8(shape.format)             ? WeightFormat::kFloat8
                                                        : WeightFormat::kInt8;
  weight.is_wide = shape.format == LinearFormat::kWide || shape.format == LinearFormat::kWideFloat8;
  weight.rows = shape.rows;
  weight.columns = shape.columns;
  weight.group_size = shape.format == LinearFormat::kInt4 ? 32 : 0;
  return weight;
}

std::vector<unsigned char> multipliers(const Weight& weight) {
  if (weight.group_size == 0) return std::vector<unsigned char>(1);
  const int64_t tiles = divide_up(weight.rows, kTileRows);
  std::vector<unsigned char> bytes = random_bytes(
      static_cast<size_t>(tiles * num_groups(weight.columns, weight.group_size) * kTileRows), 6);
  for (unsigned char& byte : bytes) byte %= 16;
  return bytes;
}

}  // namespace

DeviceBytes::DeviceBytes(size_t bytes) {
  EXPECT_EQ(api().allocate(&data_, bytes), kSuccess);
}

DeviceBytes::DeviceBytes(const void* bytes, size_t size) : DeviceBytes(size) {
  std::memcpy(data_, bytes, size);
}

DeviceBytes::~DeviceBytes() {
  EXPECT_EQ(api().release(data_), kSuccess);
}

std::string LinearShape::name() const {
  return "type " + std::to_string(static_cast<int>(type)) + " format " +
         std::to_string(static_cast<int>(format)) + " K " + std::to_string(columns) + " N " +
         std::to_string(rows);
}

LinearWorld::LinearWorld(const LinearShape& shape)
    : shape_(shape),
      weight_(describe(shape)),
      tiles_(static_cast<size_t>(weight_bytes(weight_))),
      scales_(std::vector<float>(static_cast<size_t>(shape.rows), 0.01f)),
      multipliers_(multipliers(weight_)),
      x_(random_numbers(shape.type, kMostRows * shape.columns, 1)),
      bias_(random_numbers(shape.type, shape.rows, 2)),
      residual_(random_numbers(shape.type, kMostRows * shape.rows, 3)) {
  const int64_t count = shape.rows * shape.columns;
  std::vector<unsigned char> numbers =
      shape.format == LinearFormat::kPlain
          ? random_numbers(shape.type, count, 4)
          : random_bytes(static_cast<size_t>(count * file_bits(weight_) / 8), 5);
  if (is_float8(shape.format)) {
    for (unsigned char& byte : numbers) byte ^= static_cast<unsigned char>((byte & 0x7f) == 0x7f);
  }
  const DeviceBytes source(numbers);
  EXPECT_EQ(pack({.weight = weight_, .source = source.as(), .tiles = tiles_.as()}, nullptr),
            kSuccess);
  weight_.tiles = tiles_.as();
  if (shape.format != LinearFormat::kPlain) weight_.scales = scales_.as<float>();
  if (shape.format == LinearFormat::kInt4) weight_.multipliers = multipliers_.as<uint8_t>();
}

std::vector<unsigned char> LinearWorld::run(int64_t first, int64_t count, Activation activation,
                                            int32_t num_multiprocessors) const {
  const int64_t size = size_of(shape_.type);
  LinearArgs args;
  args.weight = weight_;
  args.num_rows = count;
  args.activation = activation;
  args.float_output = shape_.float_output;
  args.num_multiprocessors = num_multiprocessors;
  // Memory of its own, which ends where the rows do.
  const auto rows_of = [&](const DeviceBytes& all, int64_t row_bytes) {
    const auto* begin = all.as<unsigned char>() + first * row_bytes;
    return std::vector<unsigned char>(begin, begin + count * row_bytes);
  };
  const DeviceBytes x(rows_of(x_, shape_.columns * size));
  const DeviceBytes residual(rows_of(residual_, shape_.rows * size));
  args.x = x.as();
  args.bias = bias_.as();
  args.residual = residual.as();
  std::vector<unsigned char> output(
      static_cast<size_t>(count * shape_.rows * (shape_.float_output ? 4 : size)));
  const DeviceBytes to(output.size());
  const DeviceBytes workspace(static_cast<size_t>(linear_workspace(args)) + 16);
  args.output = to.as();
  args.workspace = workspace.as();
  EXPECT_EQ(linear(args, nullptr), kSuccess);
  std::memcpy(output.data(), to.as(), output.size());
  return output;
}

}  // namespace sluice::kernels::cuda::host
