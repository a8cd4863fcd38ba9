#include "server/log/trace_context.h"

#include <algorithm>
#include <cstddef>

namespace sluice::server {
namespace {

// "VV-" trace id "-" parent id "-FF"
constexpr size_t kVersionDigits = 2;
constexpr size_t kTraceDigits = 32;
constexpr size_t kParentDigits = 16;
constexpr size_t kFlagDigits = 2;
constexpr size_t kLength = kVersionDigits + 1 + kTraceDigits + 1 + kParentDigits + 1 + kFlagDigits;

bool is_hexadecimal(std::string_view text) {
  return std::ranges::all_of(
      text, [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

bool is_zero(std::string_view text) {
  return std::ranges::all_of(text, [](char c) { return c == '0'; });
}

}  // namespace

TraceContext read_traceparent(std::string_view traceparent) {
  if (traceparent.size() < kLength) return {};
  const std::string_view version = traceparent.substr(0, kVersionDigits);
  const std::string_view trace = traceparent.substr(kVersionDigits + 1, kTraceDigits);
  const std::string_view parent =
      traceparent.substr(kVersionDigits + 1 + kTraceDigits + 1, kParentDigits);
  const std::string_view flags = traceparent.substr(kLength - kFlagDigits, kFlagDigits);
  for (const std::string_view part : {version, trace, parent, flags}) {
    if (!is_hexadecimal(part)) return {};
  }
  for (const size_t dash :
       {kVersionDigits, kVersionDigits + 1 + kTraceDigits, kLength - kFlagDigits - 1}) {
    if (traceparent[dash] != '-') return {};
  }
  if (version == "ff" || is_zero(trace) || is_zero(parent)) return {};
  // A later version may say more, after another dash.
  const std::string_view rest = traceparent.substr(kLength);
  if (version == "00" ? !rest.empty() : !rest.empty() && rest.front() != '-') return {};
  return {trace, parent};
}

}  // namespace sluice::server
