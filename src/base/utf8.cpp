#include "base/utf8.h"

#include <cassert>
#include <cstring>

namespace sluice {
namespace {

constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";  // U+FFFD

uint8_t byte_at(std::string_view text, size_t idx) {
  return static_cast<uint8_t>(text[idx]);
}

// Bytes of the character that starts with `lead`; 0 if none can.
int character_length(uint8_t lead) {
  if (lead < 0x80) return 1;
  if (lead < 0xC2) return 0;  // continuation bytes, and overlong C0 and C1
  if (lead < 0xE0) return 2;
  if (lead < 0xF0) return 3;
  return lead < 0xF5 ? 4 : 0;
}

// The second byte alone rules out overlong forms, surrogates and what is above U+10FFFF.
bool can_be_second(uint8_t lead, uint8_t second) {
  switch (lead) {
    case 0xE0:
      return second >= 0xA0 && second <= 0xBF;
    case 0xED:
      return second >= 0x80 && second <= 0x9F;
    case 0xF0:
      return second >= 0x90 && second <= 0xBF;
    case 0xF4:
      return second >= 0x80 && second <= 0x8F;
    default:
      return second >= 0x80 && second <= 0xBF;
  }
}

// Number of leading bytes that are certainly ASCII, eight at a time.
size_t skip_ascii(std::string_view text, size_t idx) {
  while (idx + 8 <= text.size()) {
    uint64_t eight;
    std::memcpy(&eight, text.data() + idx, sizeof(eight));
    if ((eight & 0x8080808080808080ULL) != 0) break;
    idx += 8;
  }
  return idx;
}

}  // namespace

Utf8Head read_utf8_head(std::string_view bytes) {
  assert(!bytes.empty());
  const uint8_t lead = byte_at(bytes, 0);
  const int length = character_length(lead);
  if (length == 1) return {Utf8Head::Kind::kCharacter, 1};
  if (length == 0) return {Utf8Head::Kind::kIllFormed, 1};
  for (int i = 1; i < length; ++i) {
    const auto seen = static_cast<uint8_t>(i);
    if (static_cast<size_t>(i) == bytes.size()) return {Utf8Head::Kind::kIncomplete, seen};
    const uint8_t next = byte_at(bytes, static_cast<size_t>(i));
    const bool fits = i == 1 ? can_be_second(lead, next) : (next & 0xC0) == 0x80;
    if (!fits) return {Utf8Head::Kind::kIllFormed, seen};
  }
  return {Utf8Head::Kind::kCharacter, static_cast<uint8_t>(length)};
}

size_t find_ill_formed_utf8(std::string_view text) {
  size_t idx = skip_ascii(text, 0);
  while (idx < text.size()) {
    const Utf8Head head = read_utf8_head(text.substr(idx));
    if (head.kind != Utf8Head::Kind::kCharacter) return idx;
    idx += head.length;
    if (head.length == 1) idx = skip_ascii(text, idx);
  }
  return std::string_view::npos;
}

char32_t decode_utf8_character(std::string_view text, size_t* length_bytes) {
  const uint8_t lead = byte_at(text, 0);
  const int length = character_length(lead);
  *length_bytes = static_cast<size_t>(length);
  if (length == 1) return lead;
  char32_t character = lead & (0xFF >> (length + 1));
  for (int i = 1; i < length; ++i) {
    character = (character << 6) | (byte_at(text, static_cast<size_t>(i)) & 0x3F);
  }
  return character;
}

void append_utf8(char32_t character, std::string* text) {
  const auto tail = [&](int shift) {
    return static_cast<char>(0x80 | ((character >> shift) & 0x3F));
  };
  if (character < 0x80) {
    *text += static_cast<char>(character);
  } else if (character < 0x800) {
    *text += {static_cast<char>(0xC0 | (character >> 6)), tail(0)};
  } else if (character < 0x10000) {
    *text += {static_cast<char>(0xE0 | (character >> 12)), tail(6), tail(0)};
  } else {
    *text += {static_cast<char>(0xF0 | (character >> 18)), tail(12), tail(6), tail(0)};
  }
}

size_t append_repaired_utf8(std::string_view bytes, bool is_end, Utf8Repair repair,
                            std::string* text) {
  size_t idx = 0;
  while (idx < bytes.size()) {
    const Utf8Head head = read_utf8_head(bytes.substr(idx));
    if (head.kind == Utf8Head::Kind::kCharacter) {
      text->append(bytes.substr(idx, head.length));
      idx += head.length;
      continue;
    }
    if (head.kind == Utf8Head::Kind::kIncomplete && !is_end) return idx;
    text->append(kReplacementCharacter);
    idx += repair == Utf8Repair::kEachByte ? 1 : head.length;
  }
  return idx;
}

}  // namespace sluice
