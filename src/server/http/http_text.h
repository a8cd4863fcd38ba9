#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "server/http/http_server.h"

namespace sluice::server {

// How an answer's head begins and ends.
struct HeadInfo {
  int version = 11;  // of HTTP, of the request: 10 or 11
  bool keep_alive = true;
  bool is_chunked = false;
  std::optional<size_t> content_length;
};

// Status line and headers with the empty line behind them.
std::string http_head(const HttpResponse& response, const HeadInfo& info);

// Path and query of a request's target ("/v1/models?x=1", "http://host/path", "*"). Nothing if it
// is not one, or its percent-encoding is broken.
std::optional<HttpRequest> make_request(std::string_view target);

// `value` in `num_digits` hexadecimal digits.
void write_hex(size_t value, char* digits, size_t num_digits);

// Equal but for the case of ASCII letters.
bool equal_ignoring_case(std::string_view a, std::string_view b);

}  // namespace sluice::server
