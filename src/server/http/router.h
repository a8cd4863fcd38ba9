#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "server/http/http_server.h"

namespace sluice::server {

// Hands each request to the handler of its method and path; 404 and 405 for what has none. HEAD
// goes where GET goes: the server leaves the body out.
//
// Threads: add() before the server starts; handle() any.
class Router final : public HttpHandler {
 public:
  using Handler = std::function<void(std::shared_ptr<HttpExchange>)>;

  // A path that ends with "/*" takes everything that begins like it, with at least one more byte;
  // the method "*" is every one.
  void add(std::string method, std::string path, Handler handler);
  void handle(std::shared_ptr<HttpExchange> exchange) override;

 private:
  struct Route {
    std::string method;
    std::string path;
    Handler handler;
  };
  std::vector<Route> routes_;
};

}  // namespace sluice::server
