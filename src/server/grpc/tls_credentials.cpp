#include "server/grpc/tls_credentials.h"

#include <grpc/grpc.h>
#include <grpc/grpc_security.h>

#include <mutex>
#include <string>
#include <utility>

namespace sluice::server {
namespace {

grpc_ssl_server_certificate_config* make_config(const TlsMaterial& material) {
  const grpc_ssl_pem_key_cert_pair pair{material.key_pem.c_str(), material.certificate_pem.c_str()};
  // gRPC 1.51 wants roots from a fetcher even if no client is asked for a certificate, and then
  // does not use them: the server's own certificate is one that it can read.
  const bool asks_clients = !material.client_ca_pem.empty();
  const std::string& roots = asks_clients ? material.client_ca_pem : material.certificate_pem;
  return grpc_ssl_server_certificate_config_create(roots.c_str(), &pair, 1);
}

class TlsCredentials final : public grpc::ServerCredentials {
 public:
  explicit TlsCredentials(std::shared_ptr<const TlsFiles> files) : files_(std::move(files)) {
    const auto request = files_->material()->client_ca_pem.empty()
                             ? GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE
                             : GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY;
    credentials_ = grpc_ssl_server_credentials_create_with_options(
        grpc_ssl_server_credentials_create_options_using_config_fetcher(request, &fetch, this));
  }
  ~TlsCredentials() override { grpc_server_credentials_release(credentials_); }
  TlsCredentials(const TlsCredentials&) = delete;
  TlsCredentials& operator=(const TlsCredentials&) = delete;

  // Keys are checked where every call is, with TLS and without.
  void SetAuthMetadataProcessor(const std::shared_ptr<grpc::AuthMetadataProcessor>&) override {}

 private:
  int AddPortToServer(const std::string& address, grpc_server* server) override {
    return grpc_server_add_http2_port(server, address.c_str(), credentials_);
  }

  // Before each handshake, on gRPC's threads.
  static grpc_ssl_certificate_config_reload_status fetch(
      void* self, grpc_ssl_server_certificate_config** config) {
    auto& credentials = *static_cast<TlsCredentials*>(self);
    std::shared_ptr<const TlsMaterial> material = credentials.files_->material();
    const std::scoped_lock lock(credentials.mutex_);
    if (material == credentials.used_) return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;
    *config = make_config(*material);
    credentials.used_ = std::move(material);
    return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_NEW;
  }

  const std::shared_ptr<const TlsFiles> files_;
  grpc_server_credentials* credentials_ = nullptr;
  std::mutex mutex_;
  std::shared_ptr<const TlsMaterial> used_;  // what gRPC has by now
};

}  // namespace

std::shared_ptr<grpc::ServerCredentials> make_tls_credentials(
    std::shared_ptr<const TlsFiles> files) {
  return std::make_shared<TlsCredentials>(std::move(files));
}

}  // namespace sluice::server
