#include "server/http/connection.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <boost/asio/buffer.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>

#include "server/http/growing_body.h"
#include "server/http/http_error.h"
#include "server/http/http_text.h"

namespace sluice::server {
namespace {

namespace net = boost::asio;
namespace http = boost::beast::http;
using boost::beast::error_code;
using net::ip::tcp;
using std::chrono::steady_clock;

// Read at a time while an answer is under way: enough to see that the client is still there.
constexpr size_t kWatchBytes = 512;
// A client that still sends when it has been refused may read the answer for this long.
constexpr std::chrono::seconds kLingerTime{2};
// Bodies up to this size are free, larger ones are booked in steps of it.
constexpr int64_t kSmallBodyBytes = 64 << 10;
constexpr const char* kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
constexpr const char* kLastChunk = "0\r\n\r\n";
// A chunk's size has this many hexadecimal digits, written once its bytes are there.
constexpr size_t kChunkSizeDigits = 8;

tcp::socket& socket_of(tcp::socket& stream) {
  return stream;
}
tcp::socket& socket_of(net::ssl::stream<tcp::socket>& stream) {
  return stream.next_layer();
}

// Whether the other side has closed, even if something it sent before has not been read.
bool has_left(tcp::socket& socket) {
  tcp_info info{};
  socklen_t size = sizeof(info);
  if (::getsockopt(socket.native_handle(), IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return false;
  return info.tcpi_state != TCP_ESTABLISHED;
}

// `Stream` is the socket, or TLS over it.
template <typename Stream>
class ConnectionImpl final : public Connection,
                             public std::enable_shared_from_this<ConnectionImpl<Stream>> {
 public:
  ConnectionImpl(Stream stream, std::shared_ptr<ConnectionHost> host)
      : stream_(std::move(stream)), host_(std::move(host)) {
    host_->connections.insert(this);
    ++host_->num_connections;
    error_code ignored;
    socket_of(stream_).non_blocking(true, ignored);  // write() tries before it waits
  }
  // On any thread, but after close().
  ~ConnectionImpl() override { --host_->num_connections; }

  void start() override {
    allow(host_->options.header_time);
    if constexpr (std::is_same_v<Stream, tcp::socket>) {
      read_head();
    } else {
      stream_.async_handshake(net::ssl::stream_base::server, [self = self()](error_code error) {
        error ? self->close() : self->read_head();
      });
    }
  }
  void expire(steady_clock::time_point now) override {
    if (deadline_ < now || (is_blind() && has_left(socket_of(stream_)))) close();
  }
  void close_when_idle() override {
    if (state_ == State::kIdle) close();
  }
  void close() override {
    if (state_ == State::kClosed) return;
    state_ = State::kClosed;
    host_->connections.erase(this);
    error_code ignored;
    socket_of(stream_).close(ignored);
    deadline_ = steady_clock::time_point::max();
    body_.reset();
    body_share_.reset();
    if (auto gone = std::exchange(on_gone_, nullptr)) gone();
  }

  // Of the exchange `number`: an older one has had its answer.
  void respond(uint64_t number, HttpResponse response) {
    if (!is_current(number)) return;
    tell_status(response);
    const bool with_body = method_ != "HEAD";
    HeadInfo head = head_info();
    head.content_length = response.body.size();
    out_ = http_head(response, head);
    if (with_body) out_ += response.body;
    state_ = State::kLastWrite;
    write();
  }
  void stream(uint64_t number, const HttpResponse& response, std::shared_ptr<HttpBody> body) {
    if (!is_current(number)) return;
    tell_status(response);
    if (method_ == "HEAD") body.reset();
    HeadInfo head = head_info();
    head.is_chunked = is_chunked_ = head.version >= 11;
    if (!is_chunked_) must_close_ = true;  // the end of the connection ends the body
    head.keep_alive = !must_close_;
    head_ = http_head(response, head);
    body_ = std::move(body);
    state_ = State::kStreaming;
    pump();
  }
  void pump() {
    if (collect()) write();
  }
  void set_on_gone(uint64_t number, std::function<void()> gone) {
    if (number != number_ || state_ == State::kClosed) {
      gone();
    } else if (state_ == State::kHandling || state_ == State::kStreaming) {
      on_gone_ = std::move(gone);
    }
  }
  void wake() {
    if (!is_woken_.exchange(true)) host_->wake(self());
  }
  void look() override {
    is_woken_ = false;
    pump();
  }
  const std::shared_ptr<ConnectionHost>& host() const { return host_; }

 private:
  enum class State : uint8_t {
    kIdle,       // no request
    kReading,    // part of one has come
    kHandling,   // the handler has it
    kStreaming,  // its answer is under way
    kLastWrite,
    kLingering,  // refused; what still comes is thrown away
    kClosed,
  };

  auto self() { return this->shared_from_this(); }
  // Whether nobody reads while an answer is made, because more than the request has come.
  bool is_blind() const {
    return (state_ == State::kHandling || state_ == State::kStreaming) && !is_watching_;
  }
  bool is_current(uint64_t number) const { return number == number_ && state_ == State::kHandling; }
  void allow(std::chrono::nanoseconds time) { deadline_ = steady_clock::now() + time; }

  void tell_status(const HttpResponse& response) const {
    if (host_->options.on_answer) host_->options.on_answer(response.status);
  }

  // Whether and how the connection goes on after this answer.
  HeadInfo head_info() {
    if (host_->is_draining) must_close_ = true;
    HeadInfo head;
    head.version = version_;
    head.keep_alive = !must_close_;
    return head;
  }

  void read_head() {
    parser_.emplace();
    parser_->header_limit(static_cast<uint32_t>(host_->options.max_header_bytes));
    parser_->body_limit(static_cast<uint64_t>(host_->options.max_body_bytes));
    http::async_read_header(stream_, buffer_, *parser_,
                            [self = self()](error_code error, size_t) { self->on_head(error); });
  }
  void on_head(error_code error) {
    if (state_ == State::kClosed) return;
    if (error) return on_read_error(error);
    state_ = State::kReading;
    allow(host_->options.body_time);
    if (!has_room()) return refuse_body();
    const auto expect = parser_->get().find(http::field::expect);
    if (expect != parser_->get().end() && !parser_->is_done()) {
      if (!boost::beast::iequals(expect->value(), "100-continue")) {
        return refuse(417, "the header Expect asks for what this server does not know");
      }
      net::async_write(stream_, net::buffer(kContinue, std::char_traits<char>::length(kContinue)),
                       [self = self()](error_code write_error, size_t) {
                         if (write_error) return self->close();
                         self->read_body();
                       });
      return;
    }
    read_body();
  }
  // Bodies that are not small count against the server's budget. What a client only says that it
  // will send takes nothing away from others; it is refused at once if there is no room for it now.
  bool has_room() const {
    const auto size = static_cast<int64_t>(parser_->content_length().value_or(0));
    return size <= kSmallBodyBytes || host_->bodies->has_room(size);
  }
  bool book_body() {
    const auto size = static_cast<int64_t>(parser_->get().body().size());
    if (size <= kSmallBodyBytes) return true;
    buffer_.reserve(kSmallBodyBytes);  // the rest comes in larger parts
    const int64_t num_steps = (size + kSmallBodyBytes - 1) / kSmallBodyBytes;
    return host_->bodies->grow(body_share_, num_steps * kSmallBodyBytes);
  }
  void refuse_body() {
    parser_.reset();
    body_share_.reset();
    refuse(503, "the server holds as many request bodies as it may");
  }
  void read_body() {
    if (state_ == State::kClosed) return;
    if (!book_body()) return refuse_body();
    if (parser_->is_done()) return on_request({});
    http::async_read_some(stream_, buffer_, *parser_, [self = self()](error_code error, size_t) {
      error ? self->on_request(error) : self->read_body();
    });
  }
  void on_request(error_code error) {
    if (state_ == State::kClosed) return;
    if (error) return on_read_error(error);
    auto& message = parser_->get();
    version_ = static_cast<int>(message.version());
    must_close_ = !message.keep_alive();
    method_ = std::string(message.method_string());
    std::optional<HttpRequest> request =
        make_request(std::string_view(message.target().data(), message.target().size()));
    if (!request) return refuse(400, "the request's target is not a path");
    for (const auto& field : message) {
      request->headers.push_back({std::string(field.name_string()), std::string(field.value())});
    }
    request->method = method_;
    request->body = std::move(message.body());
    parser_.reset();
    buffer_.shrink_to_fit();
    state_ = State::kHandling;
    deadline_ = steady_clock::time_point::max();  // the handler has limits of its own
    watch();
    host_->handler.handle(std::make_shared<ExchangeImpl>(self(), ++number_, *std::move(request),
                                                         std::move(body_share_)));
  }
  void on_read_error(error_code error) {
    if (error == http::error::header_limit) {
      return refuse(431, "the request's headers are larger than " +
                             std::to_string(host_->options.max_header_bytes) + " bytes");
    }
    if (error == http::error::body_limit) {
      return refuse(413, "the request's body is larger than " +
                             std::to_string(host_->options.max_body_bytes) +
                             " bytes (--max-message-bytes)");
    }
    const bool is_malformed =
        error.category() == make_error_code(http::error::bad_method).category();
    if (is_malformed && error != http::error::end_of_stream &&
        error != http::error::partial_message) {
      return refuse(400, "this is not HTTP/1.1");
    }
    close();
  }
  // Answers a request that no handler has seen, and lets the client read that.
  void refuse(int status, const std::string& message) {
    must_close_ = true;
    HttpResponse response = error_response(status, message);
    tell_status(response);
    HeadInfo head = head_info();
    head.content_length = response.body.size();
    out_ = http_head(response, head) + response.body;
    must_linger_ = true;
    state_ = State::kLastWrite;
    write();
  }

  // Reads while the request is handled: the end of the client, or the start of its next request.
  void watch() {
    if (is_watching_ || state_ == State::kClosed) return;
    if (buffer_.size() > 0) return;  // the next request has begun to come
    is_watching_ = true;
    stream_.async_read_some(buffer_.prepare(kWatchBytes),
                            [self = self()](error_code error, size_t num_bytes) {
                              self->on_watched(error, num_bytes);
                            });
  }
  void on_watched(error_code error, size_t num_bytes) {
    is_watching_ = false;
    if (error) return close();
    buffer_.commit(num_bytes);
    if (state_ == State::kLingering) {
      buffer_.consume(buffer_.size());
      return watch();
    }
    if (state_ == State::kIdle) read_next();
  }
  void read_next() {
    allow(host_->options.header_time);
    read_head();
  }

  // What a stream may send now, put into out_. False if there is nothing to write.
  bool collect() {
    if (state_ != State::kStreaming || is_writing_) return false;
    out_ = std::exchange(head_, {});
    bool has_more = false;
    if (body_) has_more = take_body();
    if (!has_more) {
      if (is_chunked_ && body_) out_ += kLastChunk;
      state_ = State::kLastWrite;
    }
    return !out_.empty() || !has_more;
  }
  bool take_body() {
    const size_t begin = out_.size();
    if (is_chunked_) out_.append(kChunkSizeDigits, '0') += "\r\n";
    const size_t first = out_.size();
    const bool has_more = body_->take(out_);
    const size_t size = out_.size() - first;
    if (!is_chunked_) return has_more;
    if (size == 0) {
      out_.resize(begin);
    } else {
      write_hex(size, out_.data() + begin, kChunkSizeDigits);
      out_ += "\r\n";
    }
    return has_more;
  }
  // The socket's buffer nearly always has room for a token: then there is nothing to wait for.
  void write() {
    size_t num_written = 0;
    if constexpr (std::is_same_v<Stream, tcp::socket>) {
      error_code error;
      num_written = stream_.write_some(net::buffer(out_), error);
      const bool must_wait = error == net::error::would_block || num_written < out_.size();
      if (!must_wait || (error && error != net::error::would_block)) {
        return on_written(error, /*was_at_once=*/true);
      }
    }
    write_later(num_written);
  }
  // Without the first bytes of out_.
  void write_later(size_t num_written) {
    is_writing_ = true;
    allow(host_->options.write_time);
    net::async_write(stream_, net::buffer(out_) + num_written,
                     [self = self()](error_code error, size_t) {
                       self->is_writing_ = false;
                       self->on_written(error, /*was_at_once=*/false);
                     });
  }
  void on_written(error_code error, bool was_at_once) {
    if (state_ == State::kClosed) return;
    if (error) return close();
    deadline_ = steady_clock::time_point::max();
    if (body_) body_->written();
    if (state_ == State::kStreaming) {
      // Not at once again: a stream that always has more must let others have their turn.
      if (!was_at_once) return pump();
      if (collect()) write_later(0);
      return;
    }
    body_.reset();
    on_gone_ = nullptr;
    finish();
  }
  void finish() {
    if (must_linger_) {
      error_code ignored;
      socket_of(stream_).shutdown(net::socket_base::shutdown_send, ignored);
      state_ = State::kLingering;
      allow(kLingerTime);
      buffer_.consume(buffer_.size());
      return watch();
    }
    if (must_close_ || host_->is_draining) {
      error_code ignored;
      socket_of(stream_).shutdown(net::socket_base::shutdown_both, ignored);
      return close();
    }
    state_ = State::kIdle;
    allow(host_->options.idle_time);
    if (buffer_.size() > 0) return read_next();
    watch();
  }

  class ExchangeImpl final : public HttpExchange {
   public:
    ExchangeImpl(std::shared_ptr<ConnectionImpl> connection, uint64_t number, HttpRequest request,
                 ByteBudget::Share body_share)
        : connection_(std::move(connection)),
          number_(number),
          request_(std::move(request)),
          body_share_(std::move(body_share)) {}
    ~ExchangeImpl() override {
      if (!is_answered_) respond(error_response(500, "the server lost this request"));
      // The connection goes on its own thread.
      const std::shared_ptr<ConnectionHost> host = connection_->host();
      host->post([connection = std::move(connection_)] {});
    }
    const HttpRequest& request() const override { return request_; }
    std::string take_body() override {
      body_share_.reset();
      return std::exchange(request_.body, {});
    }
    void respond(HttpResponse response) override {
      if (is_answered_.exchange(true)) return;
      connection_->host()->post(
          [connection = connection_, number = number_, response = std::move(response)]() mutable {
            connection->respond(number, std::move(response));
          });
    }
    void stream(HttpResponse head, std::shared_ptr<HttpBody> body) override {
      if (is_answered_.exchange(true)) return;
      connection_->host()->post([connection = connection_, number = number_, head = std::move(head),
                                 body = std::move(body)]() mutable {
        connection->stream(number, head, std::move(body));
      });
    }
    void wake() override { connection_->wake(); }
    void on_gone(std::function<void()> gone) override {
      connection_->host()->post(
          [connection = connection_, number = number_, gone = std::move(gone)]() mutable {
            connection->set_on_gone(number, std::move(gone));
          });
    }

   private:
    std::shared_ptr<ConnectionImpl> connection_;
    const uint64_t number_;
    HttpRequest request_;
    ByteBudget::Share body_share_;
    std::atomic<bool> is_answered_{false};
  };

  Stream stream_;
  const std::shared_ptr<ConnectionHost> host_;
  State state_ = State::kIdle;
  steady_clock::time_point deadline_ = steady_clock::time_point::max();
  boost::beast::flat_buffer buffer_;
  std::optional<http::request_parser<GrowingBody>> parser_;
  uint64_t number_ = 0;  // of the newest exchange
  std::string method_;
  int version_ = 11;
  bool must_close_ = false;
  bool must_linger_ = false;
  bool is_watching_ = false;
  bool is_writing_ = false;
  bool is_chunked_ = false;
  std::atomic<bool> is_woken_{false};
  std::string head_;  // of a stream, until its first write
  std::string out_;   // being written
  std::shared_ptr<HttpBody> body_;
  ByteBudget::Share body_share_;  // of the request being read
  std::function<void()> on_gone_;
};

}  // namespace

std::shared_ptr<Connection> make_connection(tcp::socket socket,
                                            std::shared_ptr<ConnectionHost> host) {
  if (!host->options.tls) {
    return std::make_shared<ConnectionImpl<tcp::socket>>(std::move(socket), std::move(host));
  }
  const std::shared_ptr<SSL_CTX> shared = host->options.tls();
  SSL_CTX_up_ref(shared.get());  // the context below gives it back
  net::ssl::context context(shared.get());
  return std::make_shared<ConnectionImpl<net::ssl::stream<tcp::socket>>>(
      net::ssl::stream<tcp::socket>(std::move(socket), context), std::move(host));
}

}  // namespace sluice::server
