#include "server/admin/admin_server.h"

#include <chrono>
#include <utility>

#include "observability/gpu_metrics.h"
#include "observability/process_metrics.h"
#include "server/admin/exposition.h"
#include "server/http/http_error.h"

namespace sluice::server {
namespace {

// A page of metrics and a few probes at a time; who asks more often is turned away.
constexpr int32_t kMaxConnections = 64;
constexpr int64_t kMaxBodyBytes = 1024;

constexpr int kOk = 200;
constexpr int kUnavailable = 503;

HttpResponse text(int status, std::string line) {
  HttpResponse response;
  response.status = status;
  response.content_type = "text/plain; charset=utf-8";
  response.body = std::move(line) + "\n";
  return response;
}

}  // namespace

Result<std::unique_ptr<AdminServer>> AdminServer::start(const std::string& address,
                                                        observability::Registry& registry) {
  std::unique_ptr<AdminServer> admin(new AdminServer(registry));
  HttpServerOptions options;
  options.address = address;
  options.max_connections = kMaxConnections;
  options.max_body_bytes = kMaxBodyBytes;
  auto server = HttpServer::start(options, admin->router_);
  if (!server) return std::unexpected(std::move(server.error()));
  admin->server_ = *std::move(server);
  return admin;
}

AdminServer::AdminServer(observability::Registry& registry) : registry_(registry) {
  collections_.push_back(observability::add_process_metrics(registry));
  collections_.push_back(observability::add_gpu_metrics(registry));
  const auto add = [this](const char* path, HttpResponse (AdminServer::*answer)() const) {
    router_.add("GET", path, [this, answer](const std::shared_ptr<HttpExchange>& exchange) {
      exchange->respond((this->*answer)());
    });
  };
  // A driver may take its time over the GPUs' figures, and no probe may wait for that.
  router_.add("GET", "/metrics", [this](const std::shared_ptr<HttpExchange>& exchange) {
    workers_.post([this, exchange] { exchange->respond(metrics()); });
  });
  add("/health/startup", &AdminServer::startup);
  add("/health/ready", &AdminServer::ready);
  add("/health/live", &AdminServer::live);
  for (const char* path : {"/v1/*", "/tokenize", "/detokenize", "/status"}) {
    router_.add("*", path, [](const std::shared_ptr<HttpExchange>& exchange) {
      exchange->respond(
          error_response(403, "this listener has metrics and health only (see --http-address)"));
    });
  }
}

AdminServer::~AdminServer() {
  if (server_) server_->shutdown(std::chrono::nanoseconds(0));
}

void AdminServer::set_service(Service* service) {
  const std::lock_guard lock(mutex_);
  service_ = service;
}

HttpResponse AdminServer::metrics() const {
  HttpResponse response;
  response.content_type = kExpositionType;
  response.body = expose(registry_);
  return response;
}

HttpResponse AdminServer::startup() const {
  const std::lock_guard lock(mutex_);
  return service_ != nullptr ? text(kOk, "started") : text(kUnavailable, "models are loading");
}

HttpResponse AdminServer::ready() const {
  const std::lock_guard lock(mutex_);
  if (service_ == nullptr) return text(kUnavailable, "models are loading");
  const Health health = service_->health();
  if (!health.live) return text(kUnavailable, "the engine is stuck");
  return health.ready ? text(kOk, "ready") : text(kUnavailable, "draining");
}

HttpResponse AdminServer::live() const {
  const std::lock_guard lock(mutex_);
  // Whoever restarts what is not live would otherwise never let a large model load.
  if (service_ == nullptr) return text(kOk, "models are loading");
  return service_->health().live ? text(kOk, "live") : text(kUnavailable, "the engine is stuck");
}

}  // namespace sluice::server
