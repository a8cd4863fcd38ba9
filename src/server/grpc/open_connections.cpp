#include "server/grpc/open_connections.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <utility>
#include <vector>

namespace sluice::server {
namespace {

// 0 if the descriptor is not open.
uint64_t inode_of(int fd) {
  struct stat found{};
  return ::fstat(fd, &found) == 0 ? found.st_ino : 0;
}

// The other end of a socket, as grpc::ServerContext::peer() writes it; empty if there is none.
std::string peer_of(int fd) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  if (::getpeername(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) return {};
  char text[INET6_ADDRSTRLEN] = {};
  if (address.ss_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(address);
    ::inet_ntop(AF_INET, &v4.sin_addr, text, sizeof text);
    return std::string("ipv4:") + text + ":" + std::to_string(ntohs(v4.sin_port));
  }
  if (address.ss_family != AF_INET6) return {};
  // Its brackets as in a URI. The listeners take no IPv4 connections under IPv6 addresses; those of
  // one link have a scope in gRPC's name, and are not found.
  const auto& v6 = reinterpret_cast<const sockaddr_in6&>(address);
  ::inet_ntop(AF_INET6, &v6.sin6_addr, text, sizeof text);
  return std::string("ipv6:%5B") + text + "%5D:" + std::to_string(ntohs(v6.sin6_port));
}

void set_cork(int fd, int is_on) {
  ::setsockopt(fd, IPPROTO_TCP, TCP_CORK, &is_on, sizeof is_on);
}

}  // namespace

bool OpenConnections::add(int fd) {
  std::string peer = peer_of(fd);
  if (peer.empty()) return false;
  // A number that is here already was closed, or it would not have been given out again.
  const bool is_again = connections_.contains(fd);
  if (!is_again && std::ssize(connections_) >= max_connections_) {
    forget_closed();
    if (std::ssize(connections_) >= max_connections_) return false;
  }
  const std::scoped_lock lock(mutex_);
  if (is_again) forget(fd);
  fd_of_[peer] = fd;
  connections_[fd] = {inode_of(fd), std::move(peer)};
  return true;
}

std::optional<OpenSocket> OpenConnections::find(const std::string& peer) const {
  const std::scoped_lock lock(mutex_);
  const auto found = fd_of_.find(peer);
  if (found == fd_of_.end()) return std::nullopt;
  return OpenSocket{found->second, connections_.at(found->second).inode};
}

size_t OpenConnections::size() const {
  const std::scoped_lock lock(mutex_);
  return connections_.size();
}

// The streams' thread must not wait for the system calls.
void OpenConnections::forget_closed() {
  std::vector<int> closed;
  for (const auto& [fd, connection] : connections_) {
    if (inode_of(fd) != connection.inode) closed.push_back(fd);
  }
  const std::scoped_lock lock(mutex_);
  for (const int fd : closed) forget(fd);
}

// A newer connection may have the same peer. Requires: mutex_ held.
void OpenConnections::forget(int fd) {
  const auto connection = connections_.find(fd);
  const auto place = fd_of_.find(connection->second.peer);
  if (place != fd_of_.end() && place->second == fd) fd_of_.erase(place);
  connections_.erase(connection);
}

Cork::Cork(const OpenSocket& socket) : socket_(socket) {
  if (inode_of(socket_.fd) != socket_.inode) socket_ = {};
  if (socket_.fd >= 0) set_cork(socket_.fd, 1);
}

Cork::~Cork() {
  if (socket_.fd >= 0) set_cork(socket_.fd, 0);
}

}  // namespace sluice::server
