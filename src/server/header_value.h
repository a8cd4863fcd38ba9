#pragma once

#include <string>
#include <string_view>

namespace sluice::server {

// `text` as a header or metadata value may be: printable ASCII without spaces and "%", everything
// else percent-encoded, as gRPC encodes grpc-message. A client's own request id may hold anything,
// and a line break in it would begin another header.
std::string header_value(std::string_view text);

}  // namespace sluice::server
