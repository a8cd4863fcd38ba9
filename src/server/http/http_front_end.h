#pragma once

#include <chrono>
#include <memory>
#include <utility>

#include "server/access/api_keys.h"
#include "server/http/http_server.h"
#include "server/http/openai_routes.h"
#include "server/http/router.h"
#include "sluice/service.h"

namespace sluice::server {

struct HttpFrontEndOptions {
  HttpServerOptions server;
  std::shared_ptr<const ApiKeys> api_keys = nullptr;  // null: everybody may call
};

// The HTTP side of a service: its routes and the server that listens for them.
class HttpFrontEnd final {
 public:
  // Listens and serves. `service` must outlive this. Errors: as HttpServer::start.
  static Result<std::unique_ptr<HttpFrontEnd>> start(const HttpFrontEndOptions& options,
                                                     Service& service);
  ~HttpFrontEnd();

  int port() const { return server_->port(); }
  // From now on every answer ends its connection, so that clients go elsewhere.
  void begin_drain() { server_->begin_drain(); }
  void shutdown(std::chrono::nanoseconds limit) { server_->shutdown(limit); }

 private:
  HttpFrontEnd(Service& service, std::shared_ptr<const ApiKeys> keys)
      : routes_(service, std::move(keys), router_) {}

  Router router_;
  OpenAiRoutes routes_;
  std::unique_ptr<HttpServer> server_;
};

}  // namespace sluice::server
