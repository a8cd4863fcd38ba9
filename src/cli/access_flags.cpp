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
  const auto add_path = [&flags](FlagSpec spec, std::filesystem::path& path) {
    flags.add(std::move(spec), [&path](const std::string& text) -> Result<void> {
      path = text;
      return {};
    });
  };
  add_path({"--tls-cert", "FILE", "Encrypt gRPC and HTTP: the server's certificate chain (PEM)",
            "no TLS"},
           options.tls.certificate);
  add_path({"--tls-key", "FILE", "Its private key (PEM, no passphrase)", ""}, options.tls.key);
  add_path({"--tls-client-ca", "FILE",
            "Answer only clients with a certificate that one of these CAs (PEM) has signed", "all"},
           options.tls.client_ca);
}

std::string find_access_conflict(const AccessOptions& options) {
  if (options.tls.certificate.empty() != options.tls.key.empty()) {
    return "--tls-cert and --tls-key go together";
  }
  if (options.tls.certificate.empty() && !options.tls.client_ca.empty()) {
    return "--tls-client-ca needs --tls-cert and --tls-key";
  }
  return "";
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
  if (!options.tls.certificate.empty()) {
    auto tls = server::TlsFiles::load(options.tls,
                                      [](const std::string& line) { spdlog::warn("{}", line); });
    if (!tls) return std::unexpected(tls.error());
    access.tls = *std::move(tls);
  }
  return access;
}

}  // namespace sluice::cli
