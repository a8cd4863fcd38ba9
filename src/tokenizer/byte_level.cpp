#include "tokenizer/byte_level.h"

#include <array>
#include <cstdint>

#include "base/utf8.h"

namespace sluice::tokenizer {
namespace {

constexpr int16_t kNoByte = -1;
constexpr size_t kNumCharacters = 256 + 68;  // 68 bytes are not printable

constexpr bool is_printable(int byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

constexpr std::array<int16_t, kNumCharacters> make_bytes() {
  std::array<int16_t, kNumCharacters> bytes{};
  bytes.fill(kNoByte);
  size_t next = 256;
  for (int byte = 0; byte < 256; ++byte) {
    const size_t character = is_printable(byte) ? static_cast<size_t>(byte) : next++;
    bytes[character] = static_cast<int16_t>(byte);
  }
  return bytes;
}

constexpr std::array<int16_t, kNumCharacters> kBytes = make_bytes();

}  // namespace

std::optional<std::string> bytes_of_byte_level(std::string_view token) {
  std::string bytes;
  while (!token.empty()) {
    size_t length = 0;
    const char32_t character = decode_utf8_character(token, &length);
    if (character >= kNumCharacters || kBytes[character] == kNoByte) return std::nullopt;
    bytes += static_cast<char>(kBytes[character]);
    token.remove_prefix(length);
  }
  return bytes;
}

}  // namespace sluice::tokenizer
