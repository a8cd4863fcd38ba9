#pragma once

#include <string_view>

namespace sluice::server {

// The trace id (32 lower-case hexadecimal digits) in a `traceparent` header; empty if the header is
// absent or malformed, which the standard says to ignore.
//
// Source: W3C Trace Context, section 3.2 (www.w3.org/TR/trace-context).
std::string_view trace_id_of(std::string_view traceparent);

}  // namespace sluice::server
