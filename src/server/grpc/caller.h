#pragma once

#include <grpcpp/server_context.h>

#include "server/access/api_keys.h"
#include "sluice/error.h"

namespace sluice::server {

// Who makes this call, by its `authorization` metadata; a call that has it more than once has none.
// kUnauthenticated as ApiKeys::authenticate. Without keys (null) everybody is a client without a
// name.
Result<Client> client_of(const grpc::CallbackServerContext& context, const ApiKeys* keys);

}  // namespace sluice::server
