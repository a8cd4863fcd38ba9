#pragma once

#include "server/access/api_keys.h"
#include "server/http/http_server.h"
#include "sluice/error.h"

namespace sluice::server {

// Who makes this request, by its `authorization` header. kUnauthenticated as ApiKeys::authenticate.
// Without keys (null) everybody is a client without a name.
Result<Client> client_of(const HttpRequest& request, const ApiKeys* keys);

}  // namespace sluice::server
