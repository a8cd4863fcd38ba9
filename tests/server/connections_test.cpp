// Connections in numbers and kinds that no client needs. A wait here finds a hang, not a speed.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "server/grpc/acceptor.h"
#include "tests/server/loopback.h"

namespace sluice::server {
namespace {

// A client's end of a connection that says nothing.
class Socket final {
 public:
  Socket() : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    const timeval patience{.tv_sec = kTestPatience.count(), .tv_usec = 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  }
  Socket(Socket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Socket& operator=(Socket&&) = delete;
  ~Socket() { close(); }

  bool connect(int port) const {
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(static_cast<uint16_t>(port));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return ::connect(fd_, reinterpret_cast<sockaddr*>(&to), sizeof to) == 0;
  }
  // Reads what the server sends until it closes; false if it does not.
  bool wait_for_close() const {
    char bytes[256];
    ssize_t n = 0;
    while ((n = ::recv(fd_, bytes, sizeof bytes, 0)) > 0) {
    }
    return n == 0 || errno == ECONNRESET;
  }
  // What the server sends first: its HTTP/2 settings. False if it closes instead.
  bool wait_for_greeting() const {
    char byte = 0;
    return ::recv(fd_, &byte, 1, 0) == 1;
  }
  void send(const char* text) const { ::send(fd_, text, std::strlen(text), MSG_NOSIGNAL); }
  void close() {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  }
  int fd() const { return fd_; }

 private:
  int fd_;
};

std::vector<Socket> connect_many(int port, int count) {
  std::vector<Socket> sockets(static_cast<size_t>(count));
  for (const Socket& socket : sockets) EXPECT_TRUE(socket.connect(port));
  return sockets;
}

// A client that comes now, on a connection of its own, and keeps trying.
bool is_answered(Loopback& loopback) {
  grpc::ClientContext context;
  context.set_wait_for_ready(true);
  context.set_deadline(std::chrono::system_clock::now() + kTestPatience);
  v1::ListModelsResponse response;
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 100);
  const auto channel =
      grpc::CreateCustomChannel(loopback.target(), grpc::InsecureChannelCredentials(), arguments);
  return v1::Generation::NewStub(channel)->ListModels(&context, {}, &response).ok();
}

TEST(Connections, WhatComesBeyondTheLimitIsClosedAtOnceAndTheRestIsServed) {
  FakeService service;
  GrpcServerOptions options;
  options.max_connections = 4;
  Loopback loopback(service, options);
  ASSERT_TRUE(generate(loopback.stub(), prompt_request()).status.ok());
  std::vector<Socket> idle = connect_many(loopback.server().port(), 3);
  for (const Socket& socket : idle) EXPECT_TRUE(socket.wait_for_greeting());
  const std::vector<Socket> refused = connect_many(loopback.server().port(), 20);
  for (const Socket& socket : refused) EXPECT_TRUE(socket.wait_for_close());
  EXPECT_TRUE(generate(loopback.stub(), prompt_request()).status.ok());
  idle.clear();
  EXPECT_TRUE(is_answered(loopback));
}

// gRPC's own listener never accepts again after this.
TEST(Connections, WithoutDescriptorsClientsAreRefusedAndThenServedAgain) {
  FakeService service;
  Loopback loopback(service);
  ASSERT_TRUE(generate(loopback.stub(), prompt_request()).status.ok());
  std::vector<Socket> sockets(40);
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  // The server gets at most 10 of its ends of these.
  const rlimit few{.rlim_cur = static_cast<rlim_t>(sockets.back().fd()) + 10,
                   .rlim_max = before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &few), 0);
  for (const Socket& socket : sockets) EXPECT_TRUE(socket.connect(loopback.server().port()));
  int num_refused = 0;
  for (size_t i = sockets.size(); i > 30; --i) {  // the last ones find nothing left
    num_refused += sockets[i - 1].wait_for_close() ? 1 : 0;
  }
  EXPECT_EQ(num_refused, 10);
  EXPECT_TRUE(generate(loopback.stub(), prompt_request()).status.ok()) << "an open connection";
  sockets.clear();
  EXPECT_TRUE(is_answered(loopback));
  ::setrlimit(RLIMIT_NOFILE, &before);
}

TEST(Connections, AStormPassesByANeighboursStream) {
  std::atomic<bool> is_over = false;
  FakeService service([&](FakeCall& call) {
    for (int32_t i = 0; i < 2000 || !is_over; ++i) call.send(i, "x");
    call.finish();
  });
  Loopback loopback(service);
  Stream stream;
  std::jthread neighbour([&] { stream = generate(loopback.stub(), prompt_request()); });
  ASSERT_NE(service.wait_for_call(), nullptr);
  for (int i = 0; i < 20; ++i) connect_many(loopback.server().port(), 100);
  is_over = true;
  neighbour.join();
  EXPECT_TRUE(stream.status.ok()) << stream.status.error_message();
  EXPECT_GE(stream.token_ids().size(), 2000u);
  EXPECT_TRUE(is_answered(loopback));
}

TEST(Connections, WhoSaysNothingOrTooLittleIsClosedAfterTheHandshakeTime) {
  FakeService service;
  GrpcServerOptions options;
  options.handshake_time = std::chrono::milliseconds(200);
  Loopback loopback(service, options);
  std::vector<Socket> sockets = connect_many(loopback.server().port(), 6);
  sockets[1].send("P");
  sockets[2].send("PRI * HTTP/2.0\r\n");
  sockets[3].send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r");
  sockets[4].send("GET / HTTP/1.1\r\nHost: a\r\n");
  sockets[5].send("\x16\x03\x01\x02");
  for (const Socket& socket : sockets) EXPECT_TRUE(socket.wait_for_close());
  EXPECT_TRUE(generate(loopback.stub(), prompt_request()).status.ok());
}

// The stream goes on; the client makes its next call over a connection of its own choice.
TEST(Connections, AnOldOneIsToldToGoAndItsStreamFinishes) {
  FakeService service([](FakeCall& call) {
    call.send(0, "a");
    std::this_thread::sleep_for(std::chrono::seconds(2));
    call.send(1, "b");
    call.finish();
  });
  Loopback loopback(service, {.max_connection_age = std::chrono::milliseconds(300)});
  grpc::ClientContext context;
  const auto stream = loopback.stub().Generate(&context, prompt_request("x"));
  v1::GenerateResponse message;
  ASSERT_TRUE(stream->Read(&message));
  EXPECT_TRUE(loopback.channel()->WaitForStateChange(
      GRPC_CHANNEL_READY, std::chrono::system_clock::now() + kTestPatience));
  EXPECT_TRUE(read_all(*stream).status.ok());
  EXPECT_TRUE(generate(loopback.stub(), prompt_request("y")).status.ok());
}

TEST(Connections, ManyIdleOnesDoNotHinderCalls) {
  FakeService service;
  Loopback loopback(service);
  const std::vector<Socket> idle = connect_many(loopback.server().port(), 400);
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(generate(loopback.stub(), prompt_request()).status.ok());
  }
  EXPECT_TRUE(is_answered(loopback));
}

}  // namespace
}  // namespace sluice::server
