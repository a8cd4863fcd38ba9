#include "server/http/router.h"

#include <string_view>
#include <utility>

#include "server/http/http_error.h"

namespace sluice::server {
namespace {

bool matches(std::string_view pattern, std::string_view path) {
  if (!pattern.ends_with("/*")) return pattern == path;
  pattern.remove_suffix(1);
  return path.starts_with(pattern) && path.size() > pattern.size();
}

}  // namespace

void Router::add(std::string method, std::string path, Handler handler) {
  routes_.push_back({std::move(method), std::move(path), std::move(handler)});
}

void Router::handle(std::shared_ptr<HttpExchange> exchange) {
  const HttpRequest& request = exchange->request();
  const std::string method = request.method == "HEAD" ? "GET" : request.method;
  std::string allowed;
  for (const Route& route : routes_) {
    if (!matches(route.path, request.path)) continue;
    if (route.method == method || route.method == "*") {
      return route.handler(std::move(exchange));
    }
    allowed += (allowed.empty() ? "" : ", ") + route.method;
  }
  if (allowed.empty()) return exchange->respond(error_response(404, "no such path"));
  HttpResponse response = error_response(405, "this path allows " + allowed);
  response.headers.push_back({"Allow", allowed});
  exchange->respond(std::move(response));
}

}  // namespace sluice::server
