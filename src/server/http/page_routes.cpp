#include "server/http/page_routes.h"

#include <memory>
#include <string>
#include <string_view>

#include "server/http/page_files.h"

namespace sluice::server {
namespace {

constexpr std::string_view kIndex = "index.html";

// Nothing is allowed but what is named; Trusted Types refuse text that becomes markup.
constexpr const char* kPolicy =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'";

std::string content_type(std::string_view name) {
  if (name.ends_with(".html")) return "text/html; charset=utf-8";
  if (name.ends_with(".css")) return "text/css; charset=utf-8";
  if (name.ends_with(".js")) return "text/javascript; charset=utf-8";
  return "image/svg+xml";
}

HttpResponse page_response(const PageFile& file) {
  HttpResponse response;
  response.content_type = content_type(file.name);
  response.body = file.content;
  response.headers = {{"Content-Security-Policy", kPolicy},
                      {"X-Content-Type-Options", "nosniff"},
                      {"X-Frame-Options", "DENY"},
                      {"Referrer-Policy", "no-referrer"},
                      {"Cross-Origin-Opener-Policy", "same-origin"},
                      {"Cross-Origin-Resource-Policy", "same-origin"},
                      // The files fit each other only: none of another version may stay.
                      {"Cache-Control", "no-cache"}};
  return response;
}

}  // namespace

void add_page_routes(Router& router) {
  for (const PageFile& file : page_files()) {
    const std::string path = file.name == kIndex ? "/" : "/page/" + std::string(file.name);
    router.add("GET", path, [file](const std::shared_ptr<HttpExchange>& exchange) {
      exchange->respond(page_response(file));
    });
  }
}

}  // namespace sluice::server
