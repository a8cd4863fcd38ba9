#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/cuda/device/byte_numbers.cuh"

// The numbers of fp8 weights, activations and KV caches: all codes, and the rounding of all
// bfloat16 numbers. What is compared with a device's instructions is from their description (PTX
// ISA, cvt; OCP's 8-bit floating point, E4M3).
namespace sluice::kernels::cuda {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

bool is_nan(int code) {
  return code % 128 == 127;
}

float value_of(int code) {
  if (is_nan(code)) return kNan;
  const int exponent = code / 8 % 16;
  const int mantissa = code % 8;
  const float size = exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -9)
                                   : std::ldexp(static_cast<float>(8 + mantissa), exponent - 10);
  return code < 128 ? size : -size;
}

uint8_t code_of(float x) {
  return to_float8(x).bits;
}

// By search: the nearest of all numbers, of two the even one; the largest beyond them.
int nearest(float x) {
  if (std::isnan(x)) return 0x7f;
  const int sign = std::signbit(x) ? 128 : 0;
  int best = 0;
  for (int code = 1; code < 127; ++code) {
    const double distance = std::abs(static_cast<double>(std::abs(x)) - value_of(code));
    const double least = std::abs(static_cast<double>(std::abs(x)) - value_of(best));
    if (distance < least || (distance == least && code % 2 == 0)) best = code;
  }
  return sign + (std::isinf(x) ? 126 : best);
}

TEST(Float8Numbers, AllCodes) {
  EXPECT_EQ(value_of(1), 0x1p-9f);
  EXPECT_EQ(value_of(8), 0x1p-6f);
  EXPECT_EQ(value_of(126), 448);
  for (int code = 0; code < 256; ++code) {
    const float value = from_float8({static_cast<uint8_t>(code)});
    EXPECT_EQ(is_float8_nan(static_cast<uint8_t>(code)), is_nan(code)) << code;
    if (is_nan(code)) {
      EXPECT_TRUE(std::isnan(value)) << code;
      continue;
    }
    EXPECT_EQ(std::bit_cast<uint32_t>(value), std::bit_cast<uint32_t>(value_of(code))) << code;
    EXPECT_EQ(code_of(value), code);
  }
}

TEST(Float8Numbers, RoundAllBfloat16Numbers) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float x = to_float(BFloat16{static_cast<uint16_t>(bits)});
    ASSERT_EQ(code_of(x), nearest(x)) << x;
  }
}

TEST(Float8Numbers, RoundWhatIsHalfwayToTheNext) {
  for (int code = 0; code < 126; ++code) {
    const float halfway = (value_of(code) + value_of(code + 1)) / 2;
    for (const float sign : {1.0f, -1.0f}) {
      const int first = sign < 0 ? 128 : 0;
      ASSERT_EQ(code_of(sign * halfway), first + code + code % 2) << code;
      ASSERT_EQ(code_of(sign * std::nextafter(halfway, 0.0f)), first + code);
      ASSERT_EQ(code_of(sign * std::nextafter(halfway, 1e9f)), first + code + 1);
    }
  }
  for (const float large : {449.0f, 464.0f, 465.0f, 1e30f, kInfinity}) {
    EXPECT_EQ(code_of(large), 126) << large;
    EXPECT_EQ(code_of(-large), 254) << large;
  }
  for (const uint32_t bits : {0x7f800001u, 0x7fffffffu, 0xff800001u, 0xffffffffu}) {
    EXPECT_EQ(code_of(std::bit_cast<float>(bits)), 127) << bits;
  }
}

// Every code in every place of a word, beside others.
template <typename T>
void expect_widened() {
  const auto expect = [](uint32_t pair, uint8_t low, uint8_t high, const char* what) {
    if (is_nan(low) || is_nan(high)) return;  // never in a cache
    ASSERT_EQ(pair, pair_of<T>(value_of(low), value_of(high)))
        << what << " of " << int{low} << ", " << int{high};
  };
  for (uint32_t code = 0; code < 256; ++code) {
    std::array<uint8_t, 8> bytes;
    for (uint32_t i = 0; i < 8; ++i) bytes[i] = static_cast<uint8_t>(code + i * 37);
    const auto [low, high] = std::bit_cast<std::array<uint32_t, 2>>(bytes);
    const uint2 pairs = widen_bytes<T, Float8>(low);
    expect(pairs.x, bytes[0], bytes[1], "numbers 0, 1");
    expect(pairs.y, bytes[2], bytes[3], "numbers 2, 3");
    const uint4 both = widen_both<T, Float8>(low, high);
    expect(both.x, bytes[0], bytes[4], "numbers 0");
    expect(both.y, bytes[1], bytes[5], "numbers 1");
    expect(both.z, bytes[2], bytes[6], "numbers 2");
    expect(both.w, bytes[3], bytes[7], "numbers 3");
  }
}

TEST(Float8Numbers, WidenToBfloat16) {
  expect_widened<BFloat16>();
}
TEST(Float8Numbers, WidenToFloat16) {
  expect_widened<Half>();
}

// What kernels call where there are such instructions.
TEST(Float8Numbers, TheUnitsFormsAreThese) {
  for (uint32_t code = 0; code < 256; ++code) {
    const uint2 pairs = float8_to_half(code | (code ^ 1) << 8 | (code ^ 2) << 16 | code << 24);
    if (is_nan(static_cast<int>(code)) || is_nan(static_cast<int>(code ^ 1))) continue;
    const auto half = [](uint32_t c) { return value_of(static_cast<int>(c)); };
    EXPECT_EQ(pairs.x, pair_of<Half>(half(code), half(code ^ 1)));
    if (is_nan(static_cast<int>(code ^ 2))) continue;
    EXPECT_EQ(pairs.y, pair_of<Half>(half(code ^ 2), half(code)));
  }
  EXPECT_EQ(round_to_float8(-0.3f).bits, code_of(-0.3f));
  EXPECT_EQ(nearest_float8(-0.3f).bits, code_of(-0.3f));
}

TEST(Float8Scales, BringTheLargestToTheirRange) {
  for (int exponent = -149; exponent < 128; ++exponent) {
    for (const float mantissa : {1.0f, 1.5f, 1.99999988f}) {
      const float largest = std::ldexp(mantissa, exponent);
      const uint8_t scale = float8_scale(largest);
      const float value = float8_scale_value(scale);
      const float number = unscaled_float8(largest, scale);
      EXPECT_EQ(static_cast<double>(number) * static_cast<double>(value), largest);
      EXPECT_LT(number, 256.0f) << largest;
      EXPECT_TRUE(number >= 128.0f || value == 0x1p-126f) << largest;
      EXPECT_EQ(unscaled_float8(-largest, scale), -number);
      EXPECT_EQ(CacheNumbers<Float8>::values(static_cast<uint16_t>(scale * 257)).x, value);
    }
  }
  EXPECT_EQ(unscaled_float8(0.0f, float8_scale(0.0f)), 0.0f);
}

// A head with a NaN or an infinity has finite numbers and no scale, as an int8 head.
TEST(Float8Scales, NoNumberIsNoScale) {
  for (const float largest : {kNan, -kNan, kInfinity}) {
    const uint8_t scale = float8_scale(largest);
    EXPECT_EQ(scale, kFloat8NoScale);
    EXPECT_TRUE(std::isnan(float8_scale_value(scale)));
    for (const float x : {kNan, kInfinity, 3.0f}) {
      EXPECT_EQ(to_float8(unscaled_float8(x, scale)).bits, 0);
    }
  }
  const float2 values =
      CacheNumbers<Float8>::values(static_cast<uint16_t>(kFloat8NoScale << 8 | 127));
  EXPECT_EQ(values.x, 1.0f);
  EXPECT_TRUE(std::isnan(values.y));
  EXPECT_EQ(CacheNumbers<Float8>::values(CacheNumbers<Float8>::Scales{}).x, 0.0f);
}

}  // namespace
}  // namespace sluice::kernels::cuda
