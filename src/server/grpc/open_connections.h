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
// Threads: any.
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
  void forget_closed();

  const int64_t max_connections_;
  mutable std::mutex mutex_;
  std::unordered_map<std::string, OpenSocket> sockets_;  // by peer; closed ones too, for a while
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
