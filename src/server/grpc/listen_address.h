#pragma once

#include <expected>
#include <string>

#include "sluice/error.h"

namespace sluice::server {

// Tells in one line why a server cannot listen on `address`, which gRPC itself only logs: binds
// its host and port once and lets go. Another process may still take the port in between.
// kInvalidArgument: not host:port (an IPv6 host stands in brackets, port 0 takes a free one).
// kUnavailable: busy, unknown host, not an address of this machine, or no permission.
std::expected<void, Error> check_listen_address(const std::string& address);

}  // namespace sluice::server
