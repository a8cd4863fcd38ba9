#include "server/http/http_caller.h"

#include <optional>
#include <string_view>

namespace sluice::server {

Result<Client> client_of(const HttpRequest& request, const ApiKeys* keys) {
  const std::string_view header = request.header("authorization");
  return authenticate(keys,
                      header.empty() ? std::nullopt : std::optional<std::string_view>(header));
}

}  // namespace sluice::server
