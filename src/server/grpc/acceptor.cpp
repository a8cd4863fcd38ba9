#include "server/grpc/acceptor.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <thread>
#include <utility>

#include "server/listen_address.h"

namespace sluice::server {
namespace {

// After a failed accept(): the system has to get something back first.
constexpr int kPauseMilliseconds = 50;
// Connections that wait to be accepted; the kernel cuts it to its own limit.
constexpr int kBacklog = 1024;

class Descriptor final {
 public:
  explicit Descriptor(int number = -1) : number_(number) {}
  Descriptor(Descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(number_, other.number_);
    return *this;
  }
  ~Descriptor() { reset(); }

  int get() const { return number_; }
  bool is_open() const { return number_ >= 0; }
  void reset() {
    if (number_ >= 0) ::close(std::exchange(number_, -1));
  }

 private:
  int number_;
};

Descriptor open_reserve() {
  return Descriptor(::open("/dev/null", O_RDONLY | O_CLOEXEC));
}

using Addresses = std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)>;

Result<Addresses> resolve(const std::string& address) {
  const Result<ListenAddress> parsed = parse_listen_address(address);
  if (!parsed) return std::unexpected(parsed.error());
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  addrinfo* list = nullptr;
  if (::getaddrinfo(parsed->host.c_str(), parsed->port.c_str(), &hints, &list) != 0) {
    return fail(ErrorCode::kUnavailable, "cannot listen on " + address + ": unknown host");
  }
  return Addresses(list, &::freeaddrinfo);
}

// Listens on one address; closed and errno set if that fails.
Descriptor listen_on(const addrinfo& at) {
  Descriptor socket(::socket(at.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket.is_open()) return socket;
  const int on = 1;
  ::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (at.ai_family == AF_INET6) {
    ::setsockopt(socket.get(), IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
  }
  if (::bind(socket.get(), at.ai_addr, at.ai_addrlen) == 0 &&
      ::listen(socket.get(), kBacklog) == 0) {
    return socket;
  }
  const int error = errno;
  socket.reset();
  errno = error;
  return socket;
}

int port_of(const Descriptor& socket) {
  sockaddr_storage bound{};
  socklen_t size = sizeof bound;
  if (::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&bound), &size) != 0) return 0;
  const auto port = bound.ss_family == AF_INET6
                        ? reinterpret_cast<const sockaddr_in6*>(&bound)->sin6_port
                        : reinterpret_cast<const sockaddr_in*>(&bound)->sin_port;
  return ntohs(port);
}

}  // namespace

struct Acceptor::State {
  explicit State(std::shared_ptr<OpenConnections> open) : connections(std::move(open)) {}

  void run();
  void accept_all(int listener);
  bool refuse_one(int listener);

  std::vector<Descriptor> listeners;
  int port = 0;
  Descriptor wake{::eventfd(0, EFD_CLOEXEC)};
  Descriptor reserve = open_reserve();
  const std::shared_ptr<OpenConnections> connections;
  HandOver hand_over;
  bool must_pause = false;
  std::thread thread;
};

Acceptor::Acceptor(std::unique_ptr<State> state) : state_(std::move(state)) {}

Acceptor::~Acceptor() {
  stop();
}

Result<std::unique_ptr<Acceptor>> Acceptor::listen(const AcceptorOptions& options) {
  auto addresses = resolve(options.address);
  if (!addresses) return std::unexpected(addresses.error());
  auto state = std::make_unique<State>(options.connections);
  int last_error = 0;
  for (addrinfo* at = addresses->get(); at != nullptr; at = at->ai_next) {
    // A free port was asked for: what the first address got is the others' too.
    const bool is_v6 = at->ai_family == AF_INET6;
    auto& port = is_v6 ? reinterpret_cast<sockaddr_in6*>(at->ai_addr)->sin6_port
                       : reinterpret_cast<sockaddr_in*>(at->ai_addr)->sin_port;
    if (port == 0) port = htons(static_cast<uint16_t>(state->port));
    Descriptor socket = listen_on(*at);
    if (socket.is_open()) {
      if (state->port == 0) state->port = port_of(socket);
      state->listeners.push_back(std::move(socket));
      continue;
    }
    last_error = errno;
    if (last_error == EADDRINUSE || last_error == EACCES) break;
  }
  // A name such as localhost may have an IPv6 address that this machine lacks; one is enough.
  const bool is_refused = last_error == EADDRINUSE || last_error == EACCES;
  if (state->listeners.empty() || is_refused) {
    return std::unexpected(cannot_listen(options.address, last_error));
  }
  if (!state->wake.is_open() || !state->reserve.is_open()) {
    return fail(ErrorCode::kUnavailable, "cannot listen: this process has no descriptors left");
  }
  return std::unique_ptr<Acceptor>(new Acceptor(std::move(state)));
}

int Acceptor::port() const {
  return state_->port;
}

void Acceptor::start(HandOver hand_over) {
  state_->hand_over = std::move(hand_over);
  state_->thread = std::thread([state = state_.get()] { state->run(); });
}

void Acceptor::stop() {
  if (state_->thread.joinable()) {
    const uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = ::write(state_->wake.get(), &one, sizeof one);
    state_->thread.join();
  }
  state_->listeners.clear();
}

void Acceptor::State::run() {
  std::vector<pollfd> watched;
  for (const Descriptor& listener : listeners) watched.push_back({listener.get(), POLLIN, 0});
  watched.push_back({wake.get(), POLLIN, 0});
  while (true) {
    if (::poll(watched.data(), watched.size(), -1) < 0 && errno != EINTR) must_pause = true;
    if (watched.back().revents != 0) return;
    for (size_t i = 0; i + 1 < watched.size(); ++i) {
      if (watched[i].revents != 0) accept_all(watched[i].fd);
    }
    if (!std::exchange(must_pause, false)) continue;
    if (!reserve.is_open()) reserve = open_reserve();
    pollfd stop{wake.get(), POLLIN, 0};
    if (::poll(&stop, 1, kPauseMilliseconds) > 0) return;
  }
}

void Acceptor::State::accept_all(int listener) {
  while (true) {
    const int fd = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0) {
      if (!connections->add(fd)) {
        ::close(fd);
        continue;
      }
      const int on = 1;
      ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
      hand_over(listener, fd);
      continue;
    }
    if (errno == EAGAIN || errno == EWOULDBLOCK) return;
    // The client has gone again, or a signal came.
    if (errno == ECONNABORTED || errno == EINTR || errno == EPROTO) continue;
    const bool lacks_descriptors = errno == EMFILE || errno == ENFILE;
    if (lacks_descriptors && refuse_one(listener)) continue;
    must_pause = true;
    return;
  }
}

// Closes a client's connection at once, so that it does not wait for an answer that may never come.
bool Acceptor::State::refuse_one(int listener) {
  if (!reserve.is_open()) return false;
  reserve.reset();
  Descriptor refused(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
  const bool has_refused = refused.is_open();
  refused.reset();
  reserve = open_reserve();
  return has_refused && reserve.is_open();
}

}  // namespace sluice::server
