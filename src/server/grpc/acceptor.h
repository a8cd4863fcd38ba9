#pragma once

#include <functional>
#include <memory>
#include <string>

#include "server/grpc/open_connections.h"
#include "sluice/error.h"

namespace sluice::server {

struct AcceptorOptions {
  std::string address;  // host:port; port 0 takes a free one
  std::shared_ptr<OpenConnections> connections;
};

// Listens, accepts, and hands connections over.
//
// gRPC 1.51 can do that itself, but its listener is dead for good once accept() fails for want of
// descriptors (CVE-2023-4785; measured: no connection in the 100 s after all others had gone), and
// it has no limit for connections. This one closes what `connections` does not take at once, keeps
// a descriptor in reserve to refuse with when there is none left, and goes on as soon as there is.
//
// Threads: one of its own, which calls `hand_over`; the rest from any.
class Acceptor final {
 public:
  // Takes both descriptors' numbers and owns `fd`, which is non-blocking.
  using HandOver = std::function<void(int listener_fd, int fd)>;

  // Binds and listens; nothing is accepted yet, but clients' connections wait in the backlog.
  // kInvalidArgument: not host:port. kUnavailable: busy, unknown host, not an address of this
  // machine, or no permission.
  static Result<std::unique_ptr<Acceptor>> listen(const AcceptorOptions& options);
  ~Acceptor();
  Acceptor(const Acceptor&) = delete;
  Acceptor& operator=(const Acceptor&) = delete;

  int port() const;
  // Once.
  void start(HandOver hand_over);
  // Closes the listening sockets; `hand_over` is not called after this. Idempotent.
  void stop();

 private:
  struct State;
  explicit Acceptor(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace sluice::server
