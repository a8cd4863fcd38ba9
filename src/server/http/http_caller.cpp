#include "server/http/http_caller.h"

#include <optional>
#include <string_view>

#include "server/http/http_text.h"

namespace sluice::server {

Result<Client> client_of(const HttpRequest& request, const ApiKeys* keys) {
  std::optional<std::string_view> authorization;
  int num_headers = 0;
  for (const HttpHeader& header : request.headers) {
    if (!equal_ignoring_case(header.name, "authorization")) continue;
    authorization = header.value;
    ++num_headers;
  }
  return authenticate(keys, num_headers == 1 ? authorization : std::nullopt);
}

}  // namespace sluice::server
