#include "server/listen_address.h"

#include <errno.h>

#include <charconv>
#include <string_view>

namespace sluice::server {
Result<ListenAddress> parse_listen_address(std::string_view address) {
  const auto malformed = [] {
    return invalid_argument(
        "listen address is not host:port, for example 127.0.0.1:50051 or [::1]:50051");
  };
  const size_t colon = address.rfind(':');
  if (colon == std::string_view::npos || colon == 0) return malformed();
  std::string_view host = address.substr(0, colon);
  const std::string_view port = address.substr(colon + 1);
  if (host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  } else if (host.find(':') != std::string_view::npos) {
    return malformed();
  }
  if (host.empty() || host.find_first_of("/%[] \t") != std::string_view::npos) return malformed();
  int number = -1;
  const auto [end, status] = std::from_chars(port.data(), port.data() + port.size(), number);
  if (status != std::errc() || end != port.data() + port.size()) return malformed();
  if (number < 0 || number > 65535) {
    return invalid_argument("listen port is " + std::to_string(number) +
                            ", it must lie in [0, 65535]");
  }
  return ListenAddress{std::string(host), std::to_string(number)};
}

Error cannot_listen(const std::string& address, int error) {
  const char* why = "the system refuses it";
  if (error == EADDRINUSE) why = "the port is in use by another process";
  if (error == EACCES) why = "no permission for this port";
  if (error == EADDRNOTAVAIL || error == EAFNOSUPPORT) why = "not an address of this machine";
  return {ErrorCode::kUnavailable, "cannot listen on " + address + ": " + why};
}

}  // namespace sluice::server
