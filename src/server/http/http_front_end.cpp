#include "server/http/http_front_end.h"

#include <map>
#include <string>
#include <utility>

#include "server/admin/admin_server.h"
#include "server/http/http_caller.h"
#include "server/http/http_error.h"
#include "server/http/page_routes.h"
#include "server/http/status_route.h"

namespace sluice::server {
namespace {

// Metrics tell of all clients together; they are not for any of them.
void add_denied_routes(const std::shared_ptr<const ApiKeys>& keys, Router& router) {
  for (const char* path : AdminServer::kPaths) {
    router.add("*", path, [keys](const std::shared_ptr<HttpExchange>& exchange) {
      const Result<Client> client = client_of(exchange->request(), keys.get());
      exchange->respond(
          client ? error_response(403, "this is for the admin listener (see --admin-address)")
                 : error_response(client.error()));
    });
  }
}

// Counts answers by their status.
class AnswerCounter final {
 public:
  explicit AnswerCounter(observability::Registry& registry) {
    for (const int status : kStatuses) {
      by_status_.emplace(status, &registry.counter({"sluice_http_answers_total",
                                                    "Answers over HTTP, by status.",
                                                    {{"status", std::to_string(status)}}}));
    }
  }
  void count(int status) const {
    if (const auto found = by_status_.find(status); found != by_status_.end()) {
      found->second->add();
    }
  }

 private:
  // All that the server gives.
  static constexpr int kStatuses[] = {200, 400, 401, 403, 404, 405, 409, 413, 415,
                                      417, 429, 431, 499, 500, 501, 503, 504};
  std::map<int, observability::Counter*> by_status_;
};

}  // namespace

Result<std::unique_ptr<HttpFrontEnd>> HttpFrontEnd::start(const HttpFrontEndOptions& options,
                                                          Service& service) {
  std::unique_ptr<HttpFrontEnd> front_end(new HttpFrontEnd(service, options.api_keys));
  add_page_routes(front_end->router_);
  add_status_route(service, options.api_keys, front_end->router_);
  add_denied_routes(options.api_keys, front_end->router_);
  HttpServerOptions counted = options.server;
  counted.on_answer = [counter = AnswerCounter(service.metrics())](int status) {
    counter.count(status);
  };
  auto server = HttpServer::start(counted, front_end->router_);
  if (!server) return std::unexpected(std::move(server.error()));
  front_end->server_ = *std::move(server);
  return front_end;
}

HttpFrontEnd::~HttpFrontEnd() {
  if (server_) server_->shutdown(std::chrono::nanoseconds(0));
}

}  // namespace sluice::server
