#pragma once

#include <string>
#include <string_view>

#include "sluice/error.h"

namespace sluice::server {

struct ListenAddress {
  std::string host;  // without brackets
  std::string port;  // a number in [0, 65535]; 0 takes a free one
};

// "127.0.0.1:50051", "[::1]:0", "localhost:8080". kInvalidArgument: not host:port (an IPv6 host
// stands in brackets).
Result<ListenAddress> parse_listen_address(std::string_view address);

// The error for an address that the system refused with `error`, an errno.
Error cannot_listen(const std::string& address, int error);

}  // namespace sluice::server
