#pragma once

#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <unordered_set>
#include <utility>
#include <vector>

#include "server/http/byte_budget.h"
#include "server/http/http_server.h"

namespace sluice::server {

// One client's connection. Threads: its host's only.
class Connection {
 public:
  virtual ~Connection() = default;
  virtual void start() = 0;
  // Closes it if what it waits for is overdue.
  virtual void expire(std::chrono::steady_clock::time_point now) = 0;
  // Closes it now, or with the end of the answer under way.
  virtual void close_when_idle() = 0;
  virtual void close() = 0;
  // There may be more to send. Follows ConnectionHost::wake().
  virtual void look() = 0;
};

// A thread of the server with its connections, which keep it until the last one is gone.
class ConnectionHost final {
 public:
  ConnectionHost(HttpServerOptions options, HttpHandler& handler,
                 std::shared_ptr<ByteBudget> bodies)
      : options(std::move(options)), handler(handler), bodies(std::move(bodies)) {}

  // Runs `work` on the host's thread, later; drops it once the host is closed. Any thread.
  template <typename Work>
  void post(Work work) {
    const std::scoped_lock lock(mutex_);
    if (!is_closed_) boost::asio::post(context, std::move(work));
  }
  // Has the connection look for output on the host's thread, soon. A step brings output for many
  // connections; all that are woken meanwhile are one work. Any thread.
  void wake(std::shared_ptr<Connection> connection) {
    const std::scoped_lock lock(mutex_);
    if (is_closed_) return;
    woken_.push_back(std::move(connection));
    if (woken_.size() == 1) boost::asio::post(context, [this] { look_at_woken(); });
  }
  // Runs `work`, and nothing that is posted later. Any thread.
  template <typename Work>
  void post_last(Work work) {
    const std::scoped_lock lock(mutex_);
    if (!is_closed_) boost::asio::post(context, std::move(work));
    is_closed_ = true;
  }

  const HttpServerOptions options;
  HttpHandler& handler;
  const std::shared_ptr<ByteBudget> bodies;  // all hosts share it
  boost::asio::io_context context{1};
  std::unordered_set<Connection*> connections;  // the host's thread
  std::atomic<int64_t> num_connections{0};
  std::atomic<bool> is_draining{false};

 private:
  void look_at_woken() {
    {
      const std::scoped_lock lock(mutex_);
      std::swap(woken_, looking_);
    }
    for (const std::shared_ptr<Connection>& connection : looking_) connection->look();
    looking_.clear();
  }

  std::vector<std::shared_ptr<Connection>> looking_;  // the host's thread
  std::mutex mutex_;
  std::vector<std::shared_ptr<Connection>> woken_;
  bool is_closed_ = false;
};

// Takes over `socket`, which belongs to the host's context. Threads: the host's.
std::shared_ptr<Connection> make_connection(boost::asio::ip::tcp::socket socket,
                                            std::shared_ptr<ConnectionHost> host);

}  // namespace sluice::server
