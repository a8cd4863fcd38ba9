#include "server/http/http_server.h"

#include <sys/socket.h>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/v6_only.hpp>
#include <boost/asio/steady_timer.hpp>
#include <deque>
#include <optional>
#include <thread>
#include <utility>

#include "server/http/connection.h"
#include "server/http/http_error.h"
#include "server/http/http_text.h"
#include "server/listen_address.h"

namespace sluice::server {
namespace {

namespace net = boost::asio;
using boost::system::error_code;
using net::ip::tcp;
using std::chrono::steady_clock;

// How often overdue connections are looked for; their times are that exact.
constexpr std::chrono::milliseconds kSweepTime{500};
// After a failed accept, most likely because descriptors have run out.
constexpr std::chrono::milliseconds kAcceptPause{100};
// Of shutdown's wait for answers under way.
constexpr std::chrono::milliseconds kPollTime{5};
constexpr int kBacklog = 1024;
constexpr int kAcceptBurst = 64;  // connections that are taken before streams have their turn again

struct HostThread {
  std::shared_ptr<ConnectionHost> host;
  std::optional<net::executor_work_guard<net::io_context::executor_type>> work;
  std::optional<net::steady_timer> sweep_timer;
  std::thread thread;
};

class HttpServerImpl final : public HttpServer {
 public:
  ~HttpServerImpl() override { shutdown(std::chrono::nanoseconds(0)); }

  Result<void> listen(const HttpServerOptions& options, HttpHandler& handler) {
    options_ = options;
    Result<ListenAddress> address = parse_listen_address(options.address);
    if (!address) return std::unexpected(std::move(address.error()));
    const auto bodies = std::make_shared<ByteBudget>(options.max_buffered_bytes);
    for (int32_t i = 0; i < options.num_threads; ++i) {
      threads_.push_back({std::make_shared<ConnectionHost>(options, handler, bodies), {}, {}, {}});
    }
    if (auto opened = open(*address); !opened) return opened;
    for (HostThread& thread : threads_) {
      thread.work.emplace(thread.host->context.get_executor());
      thread.sweep_timer.emplace(thread.host->context);
      sweep(thread);
    }
    for (Acceptor& acceptor : acceptors_) accept(acceptor);
    for (HostThread& thread : threads_) {
      thread.thread = std::thread([host = thread.host.get()] { host->context.run(); });
    }
    return {};
  }

  int port() const override { return port_; }
  int64_t num_connections() const override {
    int64_t sum = 0;
    for (const HostThread& thread : threads_) sum += thread.host->num_connections;
    return sum;
  }
  void begin_drain() override {
    for (HostThread& thread : threads_) {
      thread.host->is_draining = true;
      thread.host->post([host = thread.host.get()] {
        for_each(*host, [](Connection& connection) { connection.close_when_idle(); });
      });
    }
  }
  void shutdown(std::chrono::nanoseconds limit) override {
    if (is_shut_down_ || threads_.empty()) return;
    is_shut_down_ = true;
    threads_.front().host->post([this] {
      for (Acceptor& acceptor : acceptors_) {
        error_code ignored;
        acceptor.socket.close(ignored);
        acceptor.pause.cancel();
      }
    });
    begin_drain();
    const auto end = steady_clock::now() + limit;
    while (num_connections() > 0 && steady_clock::now() < end) {
      std::this_thread::sleep_for(kPollTime);
    }
    for (HostThread& thread : threads_) stop(thread);
  }

 private:
  struct Acceptor {
    explicit Acceptor(net::io_context& context) : socket(context), pause(context) {}
    tcp::acceptor socket;
    net::steady_timer pause;
  };

  // Closing a connection may let go of it, so the set is copied.
  template <typename Call>
  static void for_each(ConnectionHost& host, Call call) {
    const std::vector<Connection*> all(host.connections.begin(), host.connections.end());
    for (Connection* connection : all) {
      if (host.connections.contains(connection)) call(*connection);
    }
  }

  Result<void> open(const ListenAddress& address) {
    net::io_context& context = threads_.front().host->context;
    tcp::resolver resolver(context);
    error_code error;
    const auto found = resolver.resolve(address.host, address.port, tcp::resolver::passive, error);
    if (error) {
      return fail(ErrorCode::kUnavailable,
                  "cannot listen on " + options_.address + ": unknown host");
    }
    error_code last_error;
    for (const auto& entry : found) {
      tcp::endpoint endpoint = entry.endpoint();
      // Port 0 with several addresses: all get the port that the first one got.
      if (endpoint.port() == 0) endpoint.port(static_cast<uint16_t>(port_));
      if (auto opened = open(endpoint, last_error); !opened) return opened;
    }
    if (acceptors_.empty())
      return std::unexpected(cannot_listen(options_.address, last_error.value()));
    return {};
  }
  // An address that this machine lacks is skipped, as long as another one of the name works.
  Result<void> open(const tcp::endpoint& endpoint, error_code& error) {
    Acceptor& acceptor = acceptors_.emplace_back(threads_.front().host->context);
    error_code ignored;
    acceptor.socket.open(endpoint.protocol(), error);
    if (!error) acceptor.socket.set_option(tcp::acceptor::reuse_address(true), ignored);
    if (!error && endpoint.protocol() == tcp::v6()) {
      acceptor.socket.set_option(net::ip::v6_only(true), ignored);
    }
    if (!error) acceptor.socket.bind(endpoint, error);
    if (!error) acceptor.socket.listen(kBacklog, error);
    if (!error) acceptor.socket.non_blocking(true, error);
    if (!error) {
      port_ = acceptor.socket.local_endpoint().port();
      return {};
    }
    acceptors_.pop_back();
    if (error == net::error::address_in_use || error == net::error::access_denied) {
      return std::unexpected(cannot_listen(options_.address, error.value()));
    }
    return {};
  }

  void accept(Acceptor& acceptor) {
    HostThread& thread = threads_[next_thread_++ % threads_.size()];
    acceptor.socket.async_accept(thread.host->context, [this, &acceptor, host = thread.host](
                                                           error_code error, tcp::socket socket) {
      if (!acceptor.socket.is_open()) return;
      if (error) {
        acceptor.pause.expires_after(kAcceptPause);
        acceptor.pause.async_wait([this, &acceptor](error_code cancelled) {
          if (!cancelled) accept(acceptor);
        });
        return;
      }
      take(std::move(socket), host);
      accept_waiting(acceptor);
      accept(acceptor);
    });
  }
  // Who waits already: with one a turn of a loop that serves streams too, clients would queue.
  void accept_waiting(Acceptor& acceptor) {
    for (int i = 0; i < kAcceptBurst; ++i) {
      HostThread& thread = threads_[next_thread_ % threads_.size()];
      error_code error;
      tcp::socket socket = acceptor.socket.accept(thread.host->context, error);
      if (error) return;  // nobody waits; any other error comes again to accept()
      ++next_thread_;
      take(std::move(socket), thread.host);
    }
  }
  void take(tcp::socket socket, const std::shared_ptr<ConnectionHost>& host) {
    error_code ignored;
    if (num_connections() >= options_.max_connections) return turn_away(std::move(socket));
    socket.set_option(tcp::no_delay(true), ignored);
    host->post([socket = std::move(socket), host]() mutable {
      make_connection(std::move(socket), host)->start();
    });
  }
  // One try to say why; the client may see only that the connection ends.
  void turn_away(tcp::socket socket) const {
    const HttpResponse response =
        error_response(503, "the server has " + std::to_string(options_.max_connections) +
                                " connections, which is its limit (--max-http-connections)");
    if (options_.on_answer) options_.on_answer(response.status);
    HeadInfo head;
    head.keep_alive = false;
    head.content_length = response.body.size();
    const std::string text = http_head(response, head) + response.body;
    ::send(socket.native_handle(), text.data(), text.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  }

  void sweep(HostThread& thread) {
    thread.sweep_timer->expires_after(kSweepTime);
    thread.sweep_timer->async_wait([this, &thread](error_code) {
      // A handler that was due when stop() cancelled the timer comes without an error.
      if (!thread.work) return;
      const auto now = steady_clock::now();
      for_each(*thread.host, [now](Connection& connection) { connection.expire(now); });
      sweep(thread);
    });
  }

  // Ends a thread: nothing that is posted later runs, so no connection is made behind the closing.
  static void stop(HostThread& thread) {
    if (!thread.thread.joinable()) return;  // listening failed
    thread.host->post_last([&thread] {
      thread.work.reset();
      thread.sweep_timer->cancel();
      for_each(*thread.host, [](Connection& connection) { connection.close(); });
    });
    thread.thread.join();
  }

  HttpServerOptions options_;
  std::vector<HostThread> threads_;
  std::deque<Acceptor> acceptors_;  // the first thread's
  size_t next_thread_ = 0;          // the first thread's
  int port_ = 0;
  bool is_shut_down_ = false;
};

}  // namespace

Result<std::unique_ptr<HttpServer>> HttpServer::start(const HttpServerOptions& options,
                                                      HttpHandler& handler) {
  auto server = std::make_unique<HttpServerImpl>();
  if (auto listening = server->listen(options, handler); !listening) {
    return std::unexpected(std::move(listening.error()));
  }
  return server;
}

}  // namespace sluice::server
