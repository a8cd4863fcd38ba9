#include "server/grpc/caller.h"

#include <optional>
#include <string_view>

namespace sluice::server {

Result<Client> client_of(const grpc::CallbackServerContext& context, const ApiKeys* keys) {
  const auto& metadata = context.client_metadata();
  const auto [first, last] = metadata.equal_range("authorization");
  std::optional<std::string_view> authorization;
  if (first != last && std::next(first) == last) {
    authorization.emplace(first->second.data(), first->second.size());
  }
  return authenticate(keys, authorization);
}

}  // namespace sluice::server
