#include "cli/connection_flags.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "server/access/small_file.h"

namespace sluice::cli {
namespace {

constexpr size_t kMaxPemBytes = size_t{1} << 20;

}  // namespace

void add_connection_flags(Flags& flags, ConnectionOptions& options) {
  flags.add_text(
      {"--api-key", "KEY",
       "For a server that asks for one; other users of this machine see flags, so put it "
       "into SLUICE_API_KEY",
       "none"},
      options.api_key);
  flags.add_switch(
      {"--tls", "", "Encrypt, and check the server by the CAs this machine trusts", ""},
      options.tls);
  flags.add_text({"--tls-ca", "FILE", "Encrypt, and check the server by the CAs in this file", ""},
                 options.tls_ca);
  flags.add_text({"--tls-cert", "FILE", "The client's certificate, for a server that asks", ""},
                 options.tls_cert);
  flags.add_text({"--tls-key", "FILE", "Its private key", ""}, options.tls_key);
}

Result<server::ClientOptions> client_options(const ConnectionOptions& options) {
  const auto is_sendable = [](char c) { return c > ' ' && c < 0x7f; };
  if (!std::ranges::all_of(options.api_key, is_sendable)) {
    return invalid_argument("--api-key: has characters other than printable ASCII without blanks");
  }
  if (options.tls_cert.empty() != options.tls_key.empty()) {
    return invalid_argument("--tls-cert and --tls-key go together");
  }
  server::ClientOptions client;
  client.api_key = options.api_key;
  client.uses_tls = options.tls || !options.tls_ca.empty() || !options.tls_cert.empty();
  for (const auto& [flag, path, pem] :
       {std::tuple("--tls-ca", &options.tls_ca, &client.ca_pem),
        std::tuple("--tls-cert", &options.tls_cert, &client.certificate_pem),
        std::tuple("--tls-key", &options.tls_key, &client.key_pem)}) {
    if (path->empty()) continue;
    auto text = server::read_small_file(*path, kMaxPemBytes);
    if (!text) return fail(text.error().code, std::string(flag) + ": " + text.error().message);
    if (text->find("-----BEGIN ") == std::string::npos) {
      return invalid_argument(std::string(flag) + ": it has nothing in PEM form");
    }
    *pem = *std::move(text);
  }
  return client;
}

Result<std::unique_ptr<server::GenerationClient>> make_client(const std::string& target,
                                                              const ConnectionOptions& options) {
  const auto found = client_options(options);
  if (!found) return std::unexpected(found.error());
  return server::GenerationClient::create(target, *found);
}

}  // namespace sluice::cli
