#include "server/field_names.h"

#include <cstddef>
#include <cstdint>

namespace sluice::server {

std::string_view leading_name(std::string_view message) {
  size_t size = 0;
  while (size < message.size() &&
         (message[size] == '_' || (message[size] >= 'a' && message[size] <= 'z'))) {
    ++size;
  }
  return message.substr(0, size);
}

std::string echoed_name(std::string_view name) {
  constexpr size_t kMaxBytes = 64;
  if (name.size() > kMaxBytes) {
    size_t end = kMaxBytes;
    while (end > 0 && (static_cast<uint8_t>(name[end]) & 0xC0) == 0x80) --end;
    name = name.substr(0, end);
  }
  std::string echo(name);
  for (char& c : echo) {
    if (static_cast<uint8_t>(c) < 0x20 || c == 0x7F) c = '?';
  }
  return echo;
}

}  // namespace sluice::server
