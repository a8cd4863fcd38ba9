#pragma once

#include <string>
#include <string_view>

#include "base/json.h"
#include "base/utf8.h"
#include "sluice/error.h"

namespace sluice::tokenizer {

// What tokens of a tokenizer.json stand for: its "decoder".
//
// Either ByteLevel, or a Sequence of Replace, ByteFallback, Fuse and Strip as in LLaMA 2's file.
struct TextDecoder {
  bool is_byte_level = false;
  bool has_byte_fallback = false;  // <0xE4> is a byte
  bool drops_first_space = false;  // one space at the very start of the text
  std::string pattern;             // replaced by `content`; empty: nothing is
  std::string content;

  // kUnimplemented names what is not supported.
  static Result<TextDecoder> create(const Json& json);

  // The bytes of a token, but for what is done at the start of a text.
  std::string bytes_of(std::string_view token) const;

  // The reference writes U+FFFD for every byte of a run of byte tokens as soon as one of them is
  // wrong; here only for the wrong ones, so that a stream need not wait for the run's end.
  Utf8Repair utf8_repair() const {
    return is_byte_level ? Utf8Repair::kMaximalSubpart : Utf8Repair::kEachByte;
  }
};

}  // namespace sluice::tokenizer
