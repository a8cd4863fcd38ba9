#include "cli/address.h"

#include <arpa/inet.h>

#include <array>
#include <charconv>

#include "cli/parse.h"

namespace sluice::cli {

Result<HostPort> parse_host_port(std::string_view text) {
  const size_t colon = text.rfind(':');
  const bool is_bracketed = text.starts_with('[');
  const bool has_port = colon != std::string_view::npos && colon > 0 &&
                        (is_bracketed ? text[colon - 1] == ']' : text.find(':') == colon);
  if (!has_port) {
    return invalid_argument(quote(text) + " is not HOST:PORT, such as 127.0.0.1:50051");
  }
  HostPort address{std::string(text.substr(0, colon)), 0};
  const std::string_view port = text.substr(colon + 1);
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), address.port);
  if (error != std::errc{} || end != port.data() + port.size()) {
    return invalid_argument(quote(text) + " has no port from 0 to 65535");
  }
  return address;
}

bool is_loopback(std::string_view host) {
  if (host == "localhost" || host == "[::1]") return true;
  std::array<unsigned char, 4> bytes{};
  return ::inet_pton(AF_INET, std::string(host).c_str(), bytes.data()) == 1 && bytes[0] == 127;
}

}  // namespace sluice::cli
