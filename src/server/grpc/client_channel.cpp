#include "server/grpc/client_channel.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/channel_arguments.h>

namespace sluice::server {
namespace {

constexpr int kMaxMetadataBytes = 64 << 10;

std::shared_ptr<grpc::ChannelCredentials> make_credentials(const ClientOptions& options) {
  if (!options.uses_tls) return grpc::InsecureChannelCredentials();
  grpc::SslCredentialsOptions tls;
  tls.pem_root_certs = options.ca_pem;
  tls.pem_cert_chain = options.certificate_pem;
  tls.pem_private_key = options.key_pem;
  return grpc::SslCredentials(tls);
}

}  // namespace

std::shared_ptr<grpc::Channel> make_channel(const std::string& target, const ClientOptions& options,
                                            int32_t connection) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(-1);
  arguments.SetMaxSendMessageSize(-1);
  arguments.SetInt(GRPC_ARG_MAX_METADATA_SIZE, kMaxMetadataBytes);
  // Channels with equal arguments would share a connection.
  if (connection > 0) arguments.SetInt("sluice.connection", connection);
  return grpc::CreateCustomChannel(target, make_credentials(options), arguments);
}

std::string bearer(const std::string& api_key) {
  return api_key.empty() ? "" : "Bearer " + api_key;
}

}  // namespace sluice::server
