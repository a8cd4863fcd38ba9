#include "server/grpc/open_connections.h"

#include <gtest/gtest.h>
#include <linux/tcp.h>  // whose tcp_info counts segments
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <latch>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/server/loopback.h"

namespace sluice::server {
namespace {

// Both ends of a connection over 127.0.0.1.
class Connection final {
 public:
  Connection() {
    const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    auto* any = reinterpret_cast<sockaddr*>(&address);
    EXPECT_EQ(::bind(listener, any, size), 0);
    EXPECT_EQ(::listen(listener, 1), 0);
    EXPECT_EQ(::getsockname(listener, any, &size), 0);
    client_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    EXPECT_EQ(::connect(client_, any, size), 0);
    server_ = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    const int on = 1;
    ::setsockopt(server_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    EXPECT_EQ(::getsockname(client_, any, &size), 0);
    peer_ = "ipv4:127.0.0.1:" + std::to_string(ntohs(address.sin_port));
    ::close(listener);
  }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;
  ~Connection() {
    ::close(client_);
    close_server();
  }

  int server() const { return server_; }
  const std::string& peer() const { return peer_; }
  void close_server() {
    if (server_ >= 0) ::close(std::exchange(server_, -1));
  }
  void send(char byte) const { EXPECT_EQ(::send(server_, &byte, 1, MSG_NOSIGNAL), 1); }
  // What has come at the client's end by now.
  std::string received() const {
    char bytes[16];
    const ssize_t count = ::recv(client_, bytes, sizeof bytes, MSG_DONTWAIT);
    return count < 0 ? "" : std::string(bytes, static_cast<size_t>(count));
  }

 private:
  int client_ = -1;
  int server_ = -1;
  std::string peer_;
};

TEST(OpenConnections, CountsWhatSomebodyElseCloses) {
  OpenConnections connections(2);
  std::array<Connection, 3> sockets;
  EXPECT_TRUE(connections.add(sockets[0].server()));
  EXPECT_TRUE(connections.add(sockets[1].server()));
  EXPECT_FALSE(connections.add(sockets[2].server()));
  sockets[0].close_server();
  EXPECT_TRUE(connections.add(sockets[2].server()));
  EXPECT_EQ(connections.size(), 2u);
  EXPECT_EQ(connections.find(sockets[0].peer()), std::nullopt);
  // A number that was given out again is another connection, whoever has it.
  const Connection other, one_more;
  EXPECT_FALSE(connections.add(other.server()));
  ASSERT_EQ(::dup2(one_more.server(), sockets[1].server()), sockets[1].server());
  EXPECT_TRUE(connections.add(other.server()));
  EXPECT_EQ(connections.size(), 2u);
  EXPECT_EQ(connections.find(sockets[1].peer()), std::nullopt);
  EXPECT_TRUE(connections.find(other.peer()));
}

TEST(OpenConnections, ANumberThatComesAgainHasANewPeer) {
  OpenConnections connections(2);
  Connection old;
  const Connection now;
  ASSERT_TRUE(connections.add(old.server()));
  ASSERT_EQ(::dup2(now.server(), old.server()), old.server());
  ASSERT_TRUE(connections.add(old.server()));
  EXPECT_EQ(connections.size(), 1u);
  EXPECT_EQ(connections.find(old.peer()), std::nullopt);
  EXPECT_EQ(connections.find(now.peer())->fd, old.server());
}

TEST(OpenConnections, KnowsTheSocketOfAPeer) {
  OpenConnections connections(2);
  Connection connection;
  EXPECT_EQ(connections.find(connection.peer()), std::nullopt);
  ASSERT_TRUE(connections.add(connection.server()));
  const auto found = connections.find(connection.peer());
  ASSERT_TRUE(found);
  EXPECT_EQ(found->fd, connection.server());
  EXPECT_EQ(connections.find("ipv4:127.0.0.1:0"), std::nullopt);
}

TEST(OpenConnections, DoNotTakeASocketWhoseClientIsGone) {
  OpenConnections connections(2);
  const int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  EXPECT_FALSE(connections.add(socket));
  EXPECT_EQ(connections.size(), 0u);
  ::close(socket);
}

TEST(Cork, HoldsWritesBackUntilItGoes) {
  OpenConnections connections(1);
  Connection connection;
  ASSERT_TRUE(connections.add(connection.server()));
  connection.send('a');
  EXPECT_EQ(connection.received(), "a");
  {
    const Cork cork(*connections.find(connection.peer()));
    connection.send('b');
    connection.send('c');
    EXPECT_EQ(connection.received(), "");
  }
  EXPECT_EQ(connection.received(), "bc");
}

TEST(Cork, LeavesADescriptorAloneThatIsAnotherOnesNow) {
  OpenConnections connections(1);
  Connection old, now;
  ASSERT_TRUE(connections.add(old.server()));
  const OpenSocket socket = *connections.find(old.peer());
  ASSERT_EQ(::dup2(now.server(), old.server()), old.server());
  const Cork cork(socket);
  now.send('a');
  EXPECT_EQ(now.received(), "a");
}

// TCP segments with data that this process's end of a connection to `port` has got.
uint32_t segments_from(int port) {
  for (int fd = 0; fd < 1024; ++fd) {
    sockaddr_storage address{};
    socklen_t size = sizeof address;
    if (::getpeername(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) continue;
    const in_port_t peer = address.ss_family == AF_INET6
                               ? reinterpret_cast<sockaddr_in6&>(address).sin6_port
                               : reinterpret_cast<sockaddr_in&>(address).sin_port;
    tcp_info info{};
    size = sizeof info;
    if (ntohs(peer) != port || ::getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0) continue;
    return info.tcpi_data_segs_in;
  }
  ADD_FAILURE() << "nobody is connected to port " << port;
  return 0;
}

bool has_ipv6() {
  const int socket = ::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in6 address{};
  address.sin6_family = AF_INET6;
  address.sin6_addr = in6addr_loopback;
  const bool is_bound = ::bind(socket, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
  ::close(socket);
  return is_bound;
}

// However a test ends, those who wait for a latch go on.
struct OpenLatch {
  std::latch& latch;
  ~OpenLatch() { open(); }
  void open() const {
    if (!latch.try_wait()) latch.count_down();
  }
};

class Together : public testing::TestWithParam<const char*> {};

INSTANTIATE_TEST_SUITE_P(Hosts, Together, testing::Values("127.0.0.1", "[::1]"),
                         [](const auto& host) { return host.index == 0 ? "ipv4" : "ipv6"; });

// A step's messages to the streams of one connection, which the loop finds all at once because it
// was held up meanwhile by a request.
TEST_P(Together, MessagesOfAConnectionLeaveInFewSegments) {
  if (std::string(GetParam()) == "[::1]" && !has_ipv6()) GTEST_SKIP() << "no IPv6 here";
  constexpr size_t kStreams = 48;
  std::latch loop_is_held(1), tokens_are_there(1), segments_are_counted(1);
  FakeService service([&](FakeCall& call) {
    if (call.request().prompt != "hold") {
      call.wait_for_delivered(2);
      segments_are_counted.wait();
    }
    call.finish();
  });
  service.on_generate = [&](const GenerateRequest& request) {
    if (request.prompt != "hold") return;
    loop_is_held.count_down();
    tokens_are_there.wait();
  };
  Loopback loopback(service, {}, {}, GetParam());
  std::vector<std::unique_ptr<grpc::ClientContext>> contexts;
  std::vector<std::unique_ptr<grpc::ClientReader<v1::GenerateResponse>>> readers;
  const OpenLatch count{segments_are_counted};
  v1::GenerateResponse message;
  for (size_t i = 0; i < kStreams; ++i) {
    contexts.push_back(std::make_unique<grpc::ClientContext>());
    readers.push_back(loopback.stub().Generate(contexts.back().get(), prompt_request()));
    ASSERT_NE(service.wait_for_call(i), nullptr);
    ASSERT_TRUE(service.wait_for_call(i)->send(1, "a"));
    ASSERT_TRUE(readers.back()->Read(&message));
  }
  std::jthread holder([&] { generate(loopback.stub(), prompt_request("hold")); });
  const OpenLatch tokens{tokens_are_there};
  loop_is_held.wait();
  const uint32_t before = segments_from(loopback.server().port());
  for (size_t i = 0; i < kStreams; ++i) ASSERT_TRUE(service.wait_for_call(i)->send(2, "b"));
  tokens.open();
  for (const auto& reader : readers) ASSERT_TRUE(reader->Read(&message));
  // The other request's are among them. Measured: 1 to 9, and 19 to 49 without Cork.
  EXPECT_LT(segments_from(loopback.server().port()) - before, kStreams / 3);
  count.open();
  for (size_t i = 0; i < kStreams; ++i) EXPECT_TRUE(read_all(*readers[i]).status.ok());
}

}  // namespace
}  // namespace sluice::server
