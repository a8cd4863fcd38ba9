#include "server/http/json_writer.h"

#include <array>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <limits>

#include "base/utf8.h"

namespace sluice::server {
namespace {

void append_escaped(char c, std::string& out) {
  constexpr const char* kHexDigits = "0123456789abcdef";
  switch (c) {
    case '"':
      out += "\\\"";
      return;
    case '\\':
      out += "\\\\";
      return;
    case '\n':
      out += "\\n";
      return;
    case '\r':
      out += "\\r";
      return;
    case '\t':
      out += "\\t";
      return;
    default:
      break;
  }
  const auto byte = static_cast<uint8_t>(c);
  out += "\\u00";
  out += kHexDigits[byte >> 4];
  out += kHexDigits[byte & 15];
}

void append_well_formed(std::string_view text, std::string& out) {
  size_t begin = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<uint8_t>(text[i]);
    if (byte >= 0x20 && byte != '"' && byte != '\\' && byte != 0x7F) continue;
    out.append(text, begin, i - begin);
    append_escaped(text[i], out);
    begin = i + 1;
  }
  out.append(text, begin);
}

template <typename Float>
void append_number(Float value, std::string& out) {
  if (std::isnan(value)) {
    out += "null";
    return;
  }
  if (std::isinf(value)) value = std::copysign(std::numeric_limits<Float>::max(), value);
  std::array<char, 32> digits;
  const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), value).ptr;
  out.append(digits.data(), end);
}

}  // namespace

void append_json_string(std::string_view text, std::string& out) {
  out += '"';
  if (find_ill_formed_utf8(text) == std::string_view::npos) {
    append_well_formed(text, out);
  } else {
    std::string repaired;
    append_repaired_utf8(text, true, Utf8Repair::kMaximalSubpart, &repaired);
    append_well_formed(repaired, out);
  }
  out += '"';
}

void append_json_number(double value, std::string& out) {
  append_number(value, out);
}

void append_json_number(float value, std::string& out) {
  append_number(value, out);
}

}  // namespace sluice::server
