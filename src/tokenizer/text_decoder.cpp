#include "tokenizer/text_decoder.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <optional>

#include "tokenizer/byte_level.h"
#include "tokenizer/json_fields.h"

namespace sluice::tokenizer {
namespace {

// The value of "<0xE4>".
std::optional<char> byte_of_token(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token.back() != '>') return std::nullopt;
  uint8_t byte = 0;
  const char* end = token.data() + 5;
  const auto parsed = std::from_chars(token.data() + 3, end, byte, 16);
  if (parsed.ec != std::errc() || parsed.ptr != end) return std::nullopt;
  return static_cast<char>(byte);
}

Result<void> read_replace(const JsonFields& fields, const Json& json, TextDecoder* decoder) {
  if (!decoder->pattern.empty()) {
    return fail(ErrorCode::kUnimplemented, fields.name_of("type") + ": a second Replace");
  }
  const auto pattern = json.find("pattern");
  if (pattern == json.end() || !pattern->is_object()) {
    return std::unexpected(fields.wrong_type("pattern", "an object"));
  }
  const JsonFields pattern_fields(*pattern, fields.name_of("pattern."));
  if (auto only = pattern_fields.only({"String"}); !only) return only;
  auto text = pattern_fields.text("String", "");
  auto content = fields.text("content", "");
  if (!text || !content) return std::unexpected(text ? content.error() : text.error());
  if (text->empty()) return std::unexpected(pattern_fields.wrong_type("String", "not empty"));
  decoder->pattern = std::move(*text);
  decoder->content = std::move(*content);
  return fields.only({"type", "pattern", "content"});
}

Result<void> read_strip(const JsonFields& fields, TextDecoder* decoder) {
  const auto content = fields.text("content", "");
  const auto start = fields.integer("start");
  const auto stop = fields.integer("stop");
  if (!content) return std::unexpected(content.error());
  if (!start || !stop) return std::unexpected(start ? stop.error() : start.error());
  if (*content != " ") return std::unexpected(fields.unsupported("content", *content));
  if (*stop != 0) return std::unexpected(fields.unsupported("stop", std::to_string(*stop)));
  if (*start != 0 && *start != 1) {
    return std::unexpected(fields.unsupported("start", std::to_string(*start)));
  }
  decoder->drops_first_space = *start == 1;
  return fields.only({"type", "content", "start", "stop"});
}

Result<void> read_part(const Json& json, const std::string& path, TextDecoder* decoder) {
  if (!json.is_object()) return invalid_argument(path + " must be an object");
  const JsonFields fields(json, path + ".");
  const std::string type = fields.type();
  if (type == "Replace") return read_replace(fields, json, decoder);
  if (type == "Strip") return read_strip(fields, decoder);
  if (type == "ByteFallback") {
    decoder->has_byte_fallback = true;
    return fields.only({"type"});
  }
  if (type == "Fuse") return fields.only({"type"});
  return std::unexpected(fields.unsupported("type", type));
}

}  // namespace

Result<TextDecoder> TextDecoder::create(const Json& json) {
  TextDecoder decoder;
  if (!json.is_object()) {
    return fail(ErrorCode::kUnimplemented, "a file without decoder is not supported");
  }
  const JsonFields fields(json, "decoder.");
  const std::string type = fields.type();
  if (type == "ByteLevel") {
    decoder.is_byte_level = true;
    auto only = fields.only({"type", "add_prefix_space", "trim_offsets", "use_regex"});
    if (!only) return std::unexpected(only.error());
    return decoder;
  }
  const Json* parts = fields.find("decoders");
  if (type != "Sequence") return std::unexpected(fields.unsupported("type", type));
  if (parts == nullptr || !parts->is_array()) {
    return std::unexpected(fields.wrong_type("decoders", "an array"));
  }
  for (size_t i = 0; i < parts->size(); ++i) {
    const std::string path = "decoder.decoders[" + std::to_string(i) + "]";
    if (auto done = read_part((*parts)[i], path, &decoder); !done) {
      return std::unexpected(done.error());
    }
  }
  if (!decoder.has_byte_fallback) {
    return fail(ErrorCode::kUnimplemented,
                "decoder.decoders without ByteFallback is not supported");
  }
  if (auto only = fields.only({"type", "decoders"}); !only) return std::unexpected(only.error());
  return decoder;
}

std::string TextDecoder::bytes_of(std::string_view token) const {
  if (is_byte_level) return bytes_of_byte_level(token).value_or(std::string(token));
  if (const auto byte = byte_of_token(token); byte && has_byte_fallback) {
    return std::string(1, *byte);
  }
  if (pattern.empty()) return std::string(token);
  std::string bytes;
  while (!token.empty()) {
    const size_t at = std::min(token.find(pattern), token.size());
    bytes += token.substr(0, at);
    if (at < token.size()) bytes += content;
    token.remove_prefix(std::min(at + pattern.size(), token.size()));
  }
  return bytes;
}

}  // namespace sluice::tokenizer
