#pragma once

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/channel_arguments.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "server/grpc/grpc_server.h"
#include "sluice/v1/generation.grpc.pb.h"
#include "tests/server/fake_service.h"

namespace sluice::server {

// A server on a free port of this machine's own address and a channel of its own to it.
class Loopback final {
 public:
  explicit Loopback(Service& service, GrpcServerOptions options = {},
                    grpc::ChannelArguments arguments = {}, std::string host = "127.0.0.1")
      : host_(std::move(host)) {
    options.address = host_ + ":0";
    auto started = GrpcServer::start(options, service);
    if (!started) {
      ADD_FAILURE() << started.error().message;
      return;
    }
    server_ = *std::move(started);
    // Channels of equal arguments would share one connection.
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    arguments.SetMaxReceiveMessageSize(-1);
    channel_ = grpc::CreateCustomChannel(target(), grpc::InsecureChannelCredentials(), arguments);
    stub_ = v1::Generation::NewStub(channel_);
  }

  std::string target() const { return host_ + ":" + std::to_string(server_->port()); }
  GrpcServer& server() { return *server_; }
  v1::Generation::Stub& stub() { return *stub_; }
  const std::shared_ptr<grpc::Channel>& channel() const { return channel_; }

 private:
  const std::string host_;
  std::unique_ptr<GrpcServer> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::Generation::Stub> stub_;
};

struct Stream {
  std::vector<v1::GenerateResponse> messages;
  grpc::Status status;

  std::string text(int32_t index = 0) const {
    std::string joined;
    for (const auto& message : messages) {
      if (message.index() == index) joined += message.text();
    }
    return joined;
  }
  std::vector<int32_t> token_ids(int32_t index = 0) const {
    std::vector<int32_t> joined;
    for (const auto& message : messages) {
      if (message.index() != index) continue;
      joined.insert(joined.end(), message.token_ids().begin(), message.token_ids().end());
    }
    return joined;
  }
};

inline v1::GenerateRequest prompt_request(const std::string& prompt = "p") {
  v1::GenerateRequest request;
  request.set_prompt(prompt);
  return request;
}

inline Stream read_all(grpc::ClientReader<v1::GenerateResponse>& reader) {
  Stream stream;
  v1::GenerateResponse message;
  while (reader.Read(&message)) stream.messages.push_back(std::move(message));
  stream.status = reader.Finish();
  return stream;
}

inline Stream generate(v1::Generation::Stub& stub, const v1::GenerateRequest& request) {
  grpc::ClientContext context;
  return read_all(*stub.Generate(&context, request));
}

}  // namespace sluice::server
