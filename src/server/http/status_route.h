#pragma once

#include <memory>

#include "server/access/api_keys.h"
#include "server/http/router.h"
#include "sluice/service.h"

namespace sluice::server {

// GET /status: what the service holds now, and what it has counted and timed since it started, as
// one JSON object. docs/http.md lists its members. Asks for a key, unless `keys` is null.
//
// `service` must outlive the server of `router`. A call reads atomics: it waits for no step.
void add_status_route(Service& service, std::shared_ptr<const ApiKeys> keys, Router& router);

}  // namespace sluice::server
