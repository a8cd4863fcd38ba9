#pragma once

#include <chrono>
#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <utility>

namespace sluice {

// What went wrong, in gRPC's canonical terms, so that every front end maps it the same way.
enum class ErrorCode : uint8_t {
  kCancelled,
  kInvalidArgument,
  kDeadlineExceeded,
  kNotFound,
  kAlreadyExists,
  kPermissionDenied,
  kResourceExhausted,
  kFailedPrecondition,
  kUnimplemented,
  kInternal,
  kUnavailable,
  kDataLoss,
  kUnauthenticated,
};

// The code's name as gRPC spells it, for example "INVALID_ARGUMENT".
const char* to_string(ErrorCode code);

// A failure that a client, a file, a model or a lack of memory can cause.
//
// `message` says what, value, limit and remedy, and may be shown to a client: it never holds
// prompt text, token ids beyond the offending one, host paths or a library's own message.
struct Error {
  ErrorCode code = ErrorCode::kInternal;
  std::string message;
  // With kResourceExhausted and kUnavailable: how long a client should wait before it tries again.
  std::optional<std::chrono::nanoseconds> retry_after = std::nullopt;
};

template <typename T>
using Result = std::expected<T, Error>;

inline std::unexpected<Error> fail(ErrorCode code, std::string message) {
  return std::unexpected(Error{code, std::move(message)});
}
inline std::unexpected<Error> invalid_argument(std::string message) {
  return fail(ErrorCode::kInvalidArgument, std::move(message));
}

}  // namespace sluice
