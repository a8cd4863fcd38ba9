#include "server/http/http_front_end.h"

#include <utility>

namespace sluice::server {

Result<std::unique_ptr<HttpFrontEnd>> HttpFrontEnd::start(const HttpFrontEndOptions& options,
                                                          Service& service) {
  std::unique_ptr<HttpFrontEnd> front_end(new HttpFrontEnd(service, options.api_keys));
  auto server = HttpServer::start(options.server, front_end->router_);
  if (!server) return std::unexpected(std::move(server.error()));
  front_end->server_ = *std::move(server);
  return front_end;
}

HttpFrontEnd::~HttpFrontEnd() {
  if (server_) server_->shutdown(std::chrono::nanoseconds(0));
}

}  // namespace sluice::server
