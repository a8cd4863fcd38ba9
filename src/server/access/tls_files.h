#pragma once

#include <openssl/types.h>

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "server/access/file_watcher.h"
#include "server/access/reloaded.h"
#include "sluice/error.h"

namespace sluice::server {

// Which files TLS takes; the flags of `sluice serve` have the same names.
struct TlsPaths {
  std::filesystem::path certificate;  // PEM: the server's own, then those between it and the root
  std::filesystem::path key;          // PEM, without a passphrase
  std::filesystem::path client_ca;    // PEM; empty: clients need no certificate
};

// The files' content, checked. Fixed.
struct TlsMaterial {
  std::string certificate_pem;
  std::string key_pem;
  std::string client_ca_pem;  // empty: clients need no certificate
  // For servers on OpenSSL: TLS 1.2 or 1.3, the certificate and its key, and, with a client_ca, no
  // handshake without a certificate that it has signed. ALPN is the user's to add.
  std::shared_ptr<SSL_CTX> context;
};

// Reads and checks: each file holds what it must, the certificate is valid now, the key belongs to
// it, and OpenSSL takes both. kInvalidArgument or kNotFound with one line that begins with the
// flag's name; it has no path and none of OpenSSL's words.
Result<TlsMaterial> load_tls(const TlsPaths& paths);

// The material of files that are read again when one of them changes. New files that are broken, do
// not belong together or have expired change nothing: the old material stays, and `notice` gets one
// line. Connections that are open keep what they began with; listeners stay open.
//
// A front end asks for material() at each new connection.
// Threads: any; `notice` is called on the watcher's.
class TlsFiles final {
 public:
  using Notice = std::function<void(const std::string&)>;

  // Errors: load_tls's.
  static Result<std::unique_ptr<TlsFiles>> load(
      const TlsPaths& paths, Notice notice,
      std::chrono::milliseconds interval = FileWatcher::kInterval);

  // Never null. The same pointer as long as nothing has changed.
  std::shared_ptr<const TlsMaterial> material() const { return material_->current(); }

 private:
  explicit TlsFiles(std::unique_ptr<Reloaded<TlsMaterial>> material)
      : material_(std::move(material)) {}

  const std::unique_ptr<Reloaded<TlsMaterial>> material_;
};

}  // namespace sluice::server
