#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace sluice {

namespace detail {
// A way to compress blocks of 64 bytes of several texts at once. A processor's SHA instructions
// wait for each other's results most of the time, so that two texts take little longer than one;
// without them, vectors have a text in each lane.
struct Sha256Way {
  const char* name;
  size_t lanes;
  // states[i] and data[i] of lane i < lanes; two lanes may share a state that nobody reads.
  void (*compress)(uint32_t* const* states, const std::byte* const* data, size_t blocks);
};
// Those that this processor can run, the best first; the last one is portable.
std::span<const Sha256Way> sha256_ways();
std::vector<std::string> sha256_hex_each(const Sha256Way& way,
                                         std::span<const std::span<const std::byte>> texts);
}  // namespace detail

// SHA-256 of bytes that arrive in pieces. Uses the processor's SHA instructions where it has them.
// Source: FIPS 180-4.
class Sha256 final {
 public:
  Sha256();
  void update(std::span<const std::byte> bytes);
  void update(std::string_view text) { update(std::as_bytes(std::span(text))); }
  // 64 lower-case hexadecimal digits. The object must not be used afterwards.
  std::string finish();

 private:
  friend std::vector<std::string> detail::sha256_hex_each(
      const detail::Sha256Way& way, std::span<const std::span<const std::byte>> texts);

  std::array<uint32_t, 8> state_;
  std::array<std::byte, 64> tail_{};
  size_t tail_size_ = 0;
  uint64_t num_bytes_ = 0;
};

std::string sha256_hex(std::span<const std::byte> bytes);
std::string sha256_hex(std::string_view text);
// Of each text, in less time than one after the other; sha256_lanes() texts are compressed at once.
std::vector<std::string> sha256_hex_each(std::span<const std::span<const std::byte>> texts);
size_t sha256_lanes();

}  // namespace sluice
