#include "cli/connection_flags.h"

#include <algorithm>

namespace sluice::cli {

void add_connection_flags(Flags& flags, ConnectionOptions& options) {
  flags.add_text(
      {"--api-key", "KEY",
       "For a server that asks for one; other users of this machine see flags, so put it "
       "into SLUICE_API_KEY",
       "none"},
      options.api_key);
}

Result<server::ClientOptions> client_options(const ConnectionOptions& options) {
  const auto is_sendable = [](char c) { return c > ' ' && c < 0x7f; };
  if (!std::ranges::all_of(options.api_key, is_sendable)) {
    return invalid_argument("--api-key: has characters other than printable ASCII without blanks");
  }
  return server::ClientOptions{.api_key = options.api_key};
}

Result<std::unique_ptr<server::GenerationClient>> make_client(const std::string& target,
                                                              const ConnectionOptions& options) {
  const auto found = client_options(options);
  if (!found) return std::unexpected(found.error());
  return server::GenerationClient::create(target, *found);
}

}  // namespace sluice::cli
