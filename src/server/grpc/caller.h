#pragma once

#include <grpcpp/server_context.h>

#include <chrono>
#include <optional>
#include <string>

#include "server/access/api_keys.h"
#include "sluice/error.h"

namespace sluice::server {

// Who makes this call, by its `authorization` metadata; a call that has it more than once has none.
// kUnauthenticated as ApiKeys::authenticate. Without keys (null) everybody is a client without a
// name.
Result<Client> client_of(const grpc::ServerContextBase& context, const ApiKeys* keys);

// The first value of a metadata key; empty if there is none.
std::string metadata_value(const grpc::ServerContextBase& context, const char* key);

// The call's deadline, which may lie in the past; none if it is absent or beyond ten years.
std::optional<std::chrono::steady_clock::time_point> deadline_of(
    const grpc::ServerContextBase& context);

// Why a call was cancelled: its deadline, or else its client.
Error cancel_error(const grpc::ServerContextBase& context);

// When a client that was refused for want of room should come back; none if it need not wait.
std::optional<std::chrono::milliseconds> retry_time(const Error& error);

// Tells it so. Before Finish.
void add_retry_time(const Error& error, grpc::ServerContextBase& context);

}  // namespace sluice::server
