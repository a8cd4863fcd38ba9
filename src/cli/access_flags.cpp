#include "cli/access_flags.h"

#include <spdlog/spdlog.h>

#include <utility>

namespace sluice::cli {

void add_access_flags(Flags& flags, AccessOptions& options) {
  flags.group("Access");
  flags.add_text({"--api-keys", "FILE",
                  "Answer only who has a key: a file with SHA-256, name and limits of one key a "
                  "line, read again when it changes (docs/security.md)",
                  "everybody"},
                 options.api_keys);
}

server::LimitedService::LimitsOf limits_of_clients(const Access& access) {
  return [keys = access.api_keys](const std::string& client) {
    return keys == nullptr ? server::ClientLimits{} : keys->limits_of(client);
  };
}

Result<Access> load_access(const AccessOptions& options) {
  Access access;
  if (!options.api_keys.empty()) {
    auto keys = server::ApiKeys::load(options.api_keys,
                                      [](const std::string& line) { spdlog::warn("{}", line); });
    if (!keys) return fail(keys.error().code, "--api-keys: " + keys.error().message);
    access.api_keys = *std::move(keys);
  }
  return access;
}

}  // namespace sluice::cli
