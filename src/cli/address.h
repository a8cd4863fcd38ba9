#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "sluice/error.h"

namespace sluice::cli {

struct HostPort {
  std::string host;  // with brackets if it is an IPv6 address
  uint16_t port = 0;
};

// "127.0.0.1:50051", "[::1]:50051", "localhost:0". kInvalidArgument says what is wrong.
Result<HostPort> parse_host_port(std::string_view text);

// True if only this machine reaches it: localhost, 127.0.0.0/8, [::1].
bool is_loopback(std::string_view host);

}  // namespace sluice::cli
