#include "server/grpc/caller.h"

#include <grpc/support/time.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace sluice::server {
namespace {

using std::chrono::steady_clock;

// Longer deadlines count as none; the service has a limit of its own. Keeps sums in range.
constexpr int64_t kMaxDeadlineSeconds = int64_t{10} * 365 * 24 * 3600;
// What a refused client should wait, in gRPC's own key for it.
constexpr const char* kRetryKey = "grpc-retry-pushback-ms";
constexpr std::chrono::nanoseconds kDefaultRetryTime = std::chrono::seconds(1);

}  // namespace

Result<Client> client_of(const grpc::ServerContextBase& context, const ApiKeys* keys) {
  const auto& metadata = context.client_metadata();
  const auto [first, last] = metadata.equal_range("authorization");
  std::optional<std::string_view> authorization;
  if (first != last && std::next(first) == last) {
    authorization.emplace(first->second.data(), first->second.size());
  }
  return authenticate(keys, authorization);
}

std::string metadata_value(const grpc::ServerContextBase& context, const char* key) {
  const auto place = context.client_metadata().find(key);
  if (place == context.client_metadata().end()) return "";
  return {place->second.data(), place->second.size()};
}

std::optional<steady_clock::time_point> deadline_of(const grpc::ServerContextBase& context) {
  const gpr_timespec deadline = context.raw_deadline();
  const gpr_timespec left = gpr_time_sub(deadline, gpr_now(deadline.clock_type));
  if (left.tv_sec > kMaxDeadlineSeconds) return std::nullopt;
  if (left.tv_sec < 0) return steady_clock::now();
  return steady_clock::now() + std::chrono::seconds(left.tv_sec) +
         std::chrono::nanoseconds(left.tv_nsec);
}

Error cancel_error(const grpc::ServerContextBase& context) {
  const auto deadline = deadline_of(context);
  if (deadline && *deadline <= steady_clock::now()) {
    return {ErrorCode::kDeadlineExceeded, "the deadline passed"};
  }
  return {ErrorCode::kCancelled, "the client cancelled the call"};
}

std::optional<std::chrono::milliseconds> retry_time(const Error& error) {
  if (!error.retry_after && error.code != ErrorCode::kResourceExhausted) return std::nullopt;
  return std::chrono::ceil<std::chrono::milliseconds>(
      error.retry_after.value_or(kDefaultRetryTime));
}

void add_retry_time(const Error& error, grpc::ServerContextBase& context) {
  if (const auto time = retry_time(error)) {
    context.AddTrailingMetadata(kRetryKey, std::to_string(time->count()));
  }
}

}  // namespace sluice::server
