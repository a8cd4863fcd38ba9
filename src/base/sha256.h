#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace sluice {

// SHA-256 of bytes that arrive in pieces. Uses the processor's SHA instructions where it has them.
// Source: FIPS 180-4.
class Sha256 final {
 public:
  Sha256();
  void update(std::span<const std::byte> bytes);
  void update(std::string_view text) { update(std::as_bytes(std::span(text))); }
  // a.update(x) and b.update(y), at once: the processor's SHA instructions wait for each other's
  // results most of the time, so that two independent texts take little longer than one.
  // Requires: x and y of one size, a multiple of 64; so was all that came before.
  static void update_pair(Sha256& a, Sha256& b, std::span<const std::byte> x,
                          std::span<const std::byte> y);
  // 64 lower-case hexadecimal digits. The object must not be used afterwards.
  std::string finish();

 private:
  std::array<uint32_t, 8> state_;
  std::array<std::byte, 64> tail_{};
  size_t tail_size_ = 0;
  uint64_t num_bytes_ = 0;
};

std::string sha256_hex(std::span<const std::byte> bytes);
std::string sha256_hex(std::string_view text);
// Of both, in less time than one after the other.
std::pair<std::string, std::string> sha256_hex_pair(std::span<const std::byte> x,
                                                    std::span<const std::byte> y);

namespace detail {
// The same compression function twice, so that the tests can compare them. `blocks` is a number of
// whole 64-byte blocks.
using Sha256Compress = void (*)(uint32_t* state, const std::byte* data, size_t blocks);
void sha256_compress_portable(uint32_t* state, const std::byte* data, size_t blocks);
// nullptr where the processor has no SHA instructions.
Sha256Compress sha256_compress_native();
}  // namespace detail

}  // namespace sluice
