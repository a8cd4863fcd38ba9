#include "server/grpc/grpc_server.h"

#include <grpcpp/resource_quota.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include <chrono>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "server/grpc/acceptor.h"
#include "server/grpc/call_loop.h"
#include "server/grpc/generate_stream.h"
#include "server/grpc/generation_service.h"
#include "server/grpc/health_service.h"
#include "server/grpc/kserve_service.h"
#include "server/grpc/kserve_stream.h"
#include "server/grpc/reflection_service.h"
#include "server/grpc/tls_credentials.h"

namespace sluice::server {
namespace {

// Of all calls together, in gRPC's buffers: 128 messages of the default limit.
constexpr size_t kMaxBufferBytes = size_t{512} << 20;
constexpr int kIdleMilliseconds = 10 * 60'000;         // a connection without calls is closed
constexpr int kKeepaliveMilliseconds = 30'000;         // a silent peer is asked whether it lives,
constexpr int kKeepaliveTimeoutMilliseconds = 10'000;  // and is gone if it does not answer
constexpr int kMinPingMilliseconds = 10'000;           // clients may ask this often
constexpr int kMaxPingStrikes = 3;                     // too many pings in a row close a connection

void set_limits(const GrpcServerOptions& options, grpc::ServerBuilder& builder) {
  builder.SetMaxReceiveMessageSize(static_cast<int>(options.max_message_bytes));
  builder.SetMaxSendMessageSize(-1);
  builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, options.max_metadata_bytes);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, options.max_concurrent_streams);
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS,
                             static_cast<int>(options.handshake_time.count()));
  builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_IDLE_MS, kIdleMilliseconds);
  if (options.max_connection_age.count() > 0) {
    const auto age = std::chrono::ceil<std::chrono::milliseconds>(options.max_connection_age);
    builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_AGE_MS,
                               static_cast<int>(std::min<int64_t>(age.count(), INT32_MAX)));
  }
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMilliseconds);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMilliseconds);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                             kMinPingMilliseconds);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PING_STRIKES, kMaxPingStrikes);
  // A small compressed message may be huge when unpacked, and gRPC 1.51 checks its size before.
  builder.SetCompressionAlgorithmSupportStatus(GRPC_COMPRESS_DEFLATE, false);
  builder.SetCompressionAlgorithmSupportStatus(GRPC_COMPRESS_GZIP, false);
  grpc::ResourceQuota quota("sluice");
  quota.Resize(kMaxBufferBytes);
  builder.SetResourceQuota(quota);
}

std::expected<void, Error> check(const GrpcServerOptions& options) {
  if (options.max_message_bytes < 1 || options.max_message_bytes > INT32_MAX) {
    return invalid_argument("max_message_bytes is " + std::to_string(options.max_message_bytes) +
                            ", it must lie in [1, 2147483647]");
  }
  if (options.max_metadata_bytes < 1) {
    return invalid_argument("max_metadata_bytes is " + std::to_string(options.max_metadata_bytes) +
                            ", it must be at least 1");
  }
  if (options.max_concurrent_streams < 1) {
    return invalid_argument("max_concurrent_streams is " +
                            std::to_string(options.max_concurrent_streams) +
                            ", it must be at least 1");
  }
  if (options.max_connections < 1) {
    return invalid_argument("max_connections is " + std::to_string(options.max_connections) +
                            ", it must be at least 1");
  }
  return {};
}

class GrpcServerImpl final : public GrpcServer {
 public:
  GrpcServerImpl(Service& service, const std::shared_ptr<const ApiKeys>& keys,
                 const GrpcServerOptions& options)
      : generation_(service, keys),
        kserve_(service, keys),
        health_(service),
        reflection_v1_(options.reflection, keys, service.metrics()),
        reflection_v1alpha_(options.reflection, keys, service.metrics()),
        open_connections_(std::make_shared<OpenConnections>(options.max_connections)),
        call_loop_(std::make_shared<CallLoop>(service, keys, open_connections_)) {}
  ~GrpcServerImpl() override { shutdown(std::chrono::nanoseconds(0)); }

  std::expected<void, Error> listen(const GrpcServerOptions& options) {
    auto acceptor = Acceptor::listen({options.address, open_connections_});
    if (!acceptor) return std::unexpected(std::move(acceptor.error()));
    acceptor_ = *std::move(acceptor);
    grpc::ServerBuilder builder;
    set_limits(options, builder);
    const auto credentials = options.tls == nullptr ? grpc::InsecureServerCredentials()
                                                    : make_tls_credentials(options.tls);
    using Builder = grpc::ServerBuilder::experimental_type;
    external_connections_ = builder.experimental().AddExternalConnectionAcceptor(
        Builder::ExternalConnectionType::FROM_FD, credentials);
    builder.RegisterService(&generation_);
    builder.RegisterService(&kserve_);
    builder.RegisterService(&health_);
    builder.RegisterService(&reflection_v1_);
    builder.RegisterService(&reflection_v1alpha_);
    auto queue = builder.AddCompletionQueue();
    server_ = builder.BuildAndStart();
    if (!server_) return fail(ErrorCode::kUnavailable, "cannot serve on " + options.address);
    call_loop_->start(std::move(queue));
    GenerateStream::take_call(call_loop_, generation_);
    KserveStream::take_call(call_loop_, kserve_);
    acceptor_->start([this](int listener_fd, int fd) {
      grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters connection;
      connection.listener_fd = listener_fd;
      connection.fd = fd;
      external_connections_->HandleNewConnection(&connection);
    });
    return {};
  }

  int port() const override { return acceptor_->port(); }

  void set_not_serving() override {
    health_.set_not_serving();
    kserve_.set_not_ready();
  }

  void begin_shutdown(std::chrono::nanoseconds grace) override {
    std::scoped_lock lock(shutdown_mutex_);
    if (!server_ || closing_.joinable()) return;
    acceptor_->stop();
    health_.end_watches();
    kserve_.drain_streams();
    const auto deadline = std::chrono::system_clock::now() +
                          std::chrono::duration_cast<std::chrono::system_clock::duration>(grace);
    // gRPC sends GOAWAY first and returns when the last call has ended.
    closing_ = std::thread([this, deadline] { server_->Shutdown(deadline); });
  }

  void shutdown(std::chrono::nanoseconds grace) override {
    begin_shutdown(grace);
    std::scoped_lock lock(shutdown_mutex_);
    if (closing_.joinable()) closing_.join();
    call_loop_->stop();
    server_.reset();
  }

 private:
  GenerationService generation_;
  KserveService kserve_;
  HealthService health_;
  ReflectionV1 reflection_v1_;
  ReflectionV1Alpha reflection_v1alpha_;
  const std::shared_ptr<OpenConnections> open_connections_;
  const std::shared_ptr<CallLoop> call_loop_;
  std::unique_ptr<Acceptor> acceptor_;
  std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> external_connections_;
  std::mutex shutdown_mutex_;
  std::unique_ptr<grpc::Server> server_;
  std::thread closing_;
};

}  // namespace

Result<std::unique_ptr<GrpcServer>> GrpcServer::start(const GrpcServerOptions& options,
                                                      Service& service) {
  if (auto checked = check(options); !checked) return std::unexpected(std::move(checked.error()));
  auto server = std::make_unique<GrpcServerImpl>(service, options.api_keys, options);
  if (auto listening = server->listen(options); !listening) {
    return std::unexpected(std::move(listening.error()));
  }
  return server;
}

}  // namespace sluice::server
