#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace sluice::tokenizer {

// GPT-2's spelling of bytes as characters: each byte is one visible character, printable ones of
// Latin-1 themselves, the others from U+0100 on.
// Source: bytes_to_unicode in OpenAI's GPT-2 encoder.py.

// The bytes that `token` spells; nothing if it has a character that stands for no byte.
std::optional<std::string> bytes_of_byte_level(std::string_view token);

}  // namespace sluice::tokenizer
