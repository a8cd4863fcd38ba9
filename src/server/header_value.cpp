#include "server/header_value.h"

#include <cstdint>

namespace sluice::server {

std::string header_value(std::string_view text) {
  constexpr const char* kHexDigits = "0123456789ABCDEF";
  std::string value;
  for (const char c : text) {
    const auto byte = static_cast<uint8_t>(c);
    if (byte > 0x20 && byte < 0x7F && c != '%') {
      value += c;
    } else {
      value += {'%', kHexDigits[byte >> 4], kHexDigits[byte & 15]};
    }
  }
  return value;
}

}  // namespace sluice::server
