#pragma once

#include <grpcpp/support/status.h>

#include "sluice/error.h"

namespace sluice::server {

// The code one to one. The message is cut to kMaxStatusMessageBytes: it travels in the trailing
// metadata, of which clients take 8 KiB by default.
inline constexpr size_t kMaxStatusMessageBytes = 1024;
grpc::Status to_status(const Error& error);

// Codes that Sluice never sends (UNKNOWN, ABORTED, OUT_OF_RANGE) become kInternal.
// Requires: !status.ok().
Error from_status(const grpc::Status& status);

}  // namespace sluice::server
