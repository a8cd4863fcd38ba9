#pragma once

#include <chrono>
#include <memory>

#include "server/http/http_server.h"
#include "server/http/openai_routes.h"
#include "server/http/router.h"
#include "sluice/service.h"

namespace sluice::server {

// The HTTP side of a service: its routes and the server that listens for them.
class HttpFrontEnd final {
 public:
  // Listens and serves. `service` must outlive this. Errors: as HttpServer::start.
  static Result<std::unique_ptr<HttpFrontEnd>> start(const HttpServerOptions& options,
                                                     Service& service);
  ~HttpFrontEnd();

  int port() const { return server_->port(); }
  // From now on every answer ends its connection, so that clients go elsewhere.
  void begin_drain() { server_->begin_drain(); }
  void shutdown(std::chrono::nanoseconds limit) { server_->shutdown(limit); }

 private:
  explicit HttpFrontEnd(Service& service) : routes_(service, router_) {}

  Router router_;
  OpenAiRoutes routes_;
  std::unique_ptr<HttpServer> server_;
};

}  // namespace sluice::server
