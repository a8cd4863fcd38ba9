#pragma once

#include <spdlog/formatter.h>

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace sluice::server {

// One member of a structured line: its name, and its value as JSON text.
struct LogField {
  const char* name;
  std::string json;
};
LogField text_field(const char* name, std::string_view value);
LogField number_field(const char* name, double value);
LogField number_field(const char* name, int64_t value);

// The logger whose messages are structured: their payload is what join_fields() made.
inline constexpr const char* kStructuredLogger = "request";

// `"a":1,"b":"x"`, the inside of a JSON object; or `a=1 b="x"`.
std::string join_fields(const std::vector<LogField>& fields, bool is_json);

// One line for a message, without its end. Control characters are escaped in both, so that nothing
// that a client sent begins a line of its own or commands a terminal.
//
// text: 2026-01-31T12:00:00.000+00:00 info: message; structured: ... info: request a=1 b="x"
// json: {"time":"...","level":"info","message":"message"}; structured: the members follow "message"
std::unique_ptr<spdlog::formatter> make_log_formatter(bool is_json);

}  // namespace sluice::server
