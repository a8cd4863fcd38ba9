#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>

namespace sluice::server {

// A connection's socket that somebody else closes. Its number is used again then, its inode is not.
struct OpenSocket {
  int fd = -1;
  uint64_t inode = 0;

  bool operator==(const OpenSocket&) const = default;
};

// The connections that gRPC has and closes: how many they are, and each one's socket.
// Threads: add() is one thread's; the rest any.
class OpenConnections final {
 public:
  explicit OpenConnections(int64_t max_connections) : max_connections_(max_connections) {}

  // Counts `fd`, a connected socket that is about to be handed over; false if there are too many,
  // or if its client is gone.
  bool add(int fd);
  // The socket whose other end gRPC calls `peer` ("ipv4:127.0.0.1:1234"); it may be closed by now.
  std::optional<OpenSocket> find(const std::string& peer) const;
  size_t size() const;

 private:
  struct Connection {
    uint64_t inode = 0;
    std::string peer;
  };
  void forget_closed();
  void forget(int fd);

  const int64_t max_connections_;
  mutable std::mutex mutex_;                         // add()'s thread reads without it
  std::unordered_map<int, Connection> connections_;  // by descriptor; closed ones too, for a while
  std::unordered_map<std::string, int> fd_of_;       // by peer; of connections_
};

// Holds back what is written to a connection meanwhile, so that many small messages leave in few
// packets and wake the client once. Does nothing to a socket that is closed.
class Cork final {
 public:
  explicit Cork(const OpenSocket& socket);
  ~Cork();
  Cork(const Cork&) = delete;
  Cork& operator=(const Cork&) = delete;

 private:
  OpenSocket socket_;
};

}  // namespace sluice::server
