#pragma once

#include <string_view>

namespace sluice::server {

// Parts of a `traceparent` header, lower-case hexadecimal digits.
struct TraceContext {
  std::string_view trace_id;   // 32 digits
  std::string_view parent_id;  // 16: the caller's span
};

// Both are empty if the header is absent or malformed, which the standard says to ignore. What is
// returned points into `traceparent`.
//
// Source: W3C Trace Context, section 3.2 (www.w3.org/TR/trace-context).
TraceContext read_traceparent(std::string_view traceparent);

}  // namespace sluice::server
