#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace sluice {

// Strict UTF-8: no overlong forms, no surrogates, nothing above U+10FFFF.
// NUL, BOM, non-characters and bidi controls are well-formed.
// Source: The Unicode Standard, table 3-7; RFC 3629.

// What stands at the start of some bytes.
struct Utf8Head {
  enum class Kind : uint8_t {
    kCharacter,   // a whole character of `length` bytes
    kIllFormed,   // `length` bytes (1..3) that can never become one: a maximal subpart
    kIncomplete,  // the bytes end inside a character that is well-formed so far
  };
  Kind kind;
  uint8_t length;  // for kIncomplete: all the bytes that are there
};

// Requires: bytes is not empty.
Utf8Head read_utf8_head(std::string_view bytes);

// Offset of the first byte that is not part of well-formed UTF-8; std::string_view::npos if none.
size_t find_ill_formed_utf8(std::string_view text);

// The character at the start of `text`, which must be well-formed and not empty.
char32_t decode_utf8_character(std::string_view text, size_t* length_bytes);
void append_utf8(char32_t character, std::string* text);

// How many U+FFFD stand for ill-formed bytes.
enum class Utf8Repair : uint8_t {
  kMaximalSubpart,  // one for each maximal subpart (WHATWG, Rust's from_utf8_lossy)
  kEachByte,        // one for each byte (sentencepiece)
};

// Appends `bytes` to `text` with ill-formed parts replaced, and returns how many bytes it took: all
// of them if `is_end`, else all but an unfinished character at the end (at most 3 bytes).
// Taking the rest together with what follows later gives the same text as one call on the whole.
size_t append_repaired_utf8(std::string_view bytes, bool is_end, Utf8Repair repair,
                            std::string* text);

}  // namespace sluice
