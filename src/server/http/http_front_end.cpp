#include "server/http/http_front_end.h"

#include <utility>

#include "server/http/page_routes.h"
#include "server/http/status_route.h"

namespace sluice::server {

Result<std::unique_ptr<HttpFrontEnd>> HttpFrontEnd::start(const HttpFrontEndOptions& options,
                                                          Service& service) {
  std::unique_ptr<HttpFrontEnd> front_end(new HttpFrontEnd(service, options.api_keys));
  add_page_routes(front_end->router_);
  add_status_route(service, options.api_keys, front_end->router_);
  auto server = HttpServer::start(options.server, front_end->router_);
  if (!server) return std::unexpected(std::move(server.error()));
  front_end->server_ = *std::move(server);
  return front_end;
}

HttpFrontEnd::~HttpFrontEnd() {
  if (server_) server_->shutdown(std::chrono::nanoseconds(0));
}

}  // namespace sluice::server
