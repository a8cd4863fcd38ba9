#pragma once

#include <array>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "observability/metrics.h"
#include "server/http/http_server.h"
#include "server/http/router.h"
#include "server/worker_pool.h"
#include "sluice/error.h"
#include "sluice/service.h"

namespace sluice::server {

// What an operator's machinery asks, on a listener of its own and without keys:
//
// | route           | 200                                       | 503                        |
// |-----------------|-------------------------------------------|----------------------------|
// | /metrics        | always: Prometheus' text                  |                            |
// | /health/startup | models are loaded and warmed up           | still loading              |
// | /health/ready   | new work is accepted                      | loading, draining or stuck |
// | /health/live    | loading, or the engine's loop ticks        | a step hangs               |
//
// What the service's own listener serves is 403 here.
//
// It listens while models load. The process's and the GPUs' figures are added to the registry here.
// Threads: any.
class AdminServer final {
 public:
  // What only this listener has.
  static constexpr std::array kPaths = {"/metrics", "/health/startup", "/health/ready",
                                        "/health/live"};

  // `registry` must outlive this. Errors: as HttpServer::start.
  static Result<std::unique_ptr<AdminServer>> start(const std::string& address,
                                                    observability::Registry& registry);
  ~AdminServer();

  int port() const { return server_->port(); }
  // The service has started; it must outlive this, or be taken back with null.
  void set_service(Service* service);

 private:
  explicit AdminServer(observability::Registry& registry);

  HttpResponse metrics() const;
  HttpResponse startup() const;
  HttpResponse ready() const;
  HttpResponse live() const;

  observability::Registry& registry_;
  std::vector<std::unique_ptr<observability::Registry::Collection>> collections_;
  mutable std::mutex mutex_;  // held while the service is asked, which never blocks
  Service* service_ = nullptr;
  Router router_;
  WorkerPool workers_{1};  // before the registry's readers go
  std::unique_ptr<HttpServer> server_;
};

}  // namespace sluice::server
