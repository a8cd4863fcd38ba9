#include "server/listen_address.h"

#include <errno.h>
#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <charconv>
#include <memory>
#include <string_view>

namespace sluice::server {
namespace {

// 0 or an errno. SO_REUSEADDR as gRPC sets it: connections in TIME_WAIT do not hold the port.
int try_bind(const addrinfo& at) {
  const int fd = socket(at.ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return errno;
  const int on = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  int error = bind(fd, at.ai_addr, at.ai_addrlen) == 0 ? 0 : errno;
  if (error == 0 && listen(fd, 1) != 0) error = errno;
  close(fd);
  return error;
}

}  // namespace

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

Result<void> check_listen_address(const std::string& address) {
  const Result<ListenAddress> parsed = parse_listen_address(address);
  if (!parsed) return std::unexpected(parsed.error());
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  addrinfo* list = nullptr;
  if (getaddrinfo(parsed->host.c_str(), parsed->port.c_str(), &hints, &list) != 0) {
    return fail(ErrorCode::kUnavailable, "cannot listen on " + address + ": unknown host");
  }
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owner(list, &freeaddrinfo);
  // A name such as localhost may have an IPv6 address that this machine lacks; one is enough.
  bool is_one_free = false;
  int last_error = 0;
  for (const addrinfo* at = list; at != nullptr; at = at->ai_next) {
    const int error = try_bind(*at);
    if (error == EADDRINUSE || error == EACCES)
      return std::unexpected(cannot_listen(address, error));
    if (error == 0) is_one_free = true;
    last_error = error;
  }
  if (!is_one_free) return std::unexpected(cannot_listen(address, last_error));
  return {};
}

}  // namespace sluice::server
