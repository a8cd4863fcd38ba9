#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "sluice/error.h"

struct ssl_ctx_st;

namespace sluice::server {

struct HttpHeader {
  std::string name;
  std::string value;
};

struct HttpRequest {
  std::string method;  // "GET"
  std::string path;    // percent-decoded, without the query
  std::string query;   // what follows "?", as it came
  std::vector<HttpHeader> headers;
  std::string body;

  // The first header of this name, in any case; empty if there is none.
  std::string_view header(std::string_view name) const;
};

struct HttpResponse {
  int status = 200;
  std::string content_type = "application/json";
  std::string body;
  std::vector<HttpHeader> headers;  // values as header_value() makes them
};

// What a streamed answer consists of. All calls come on one thread of the server.
class HttpBody {
 public:
  virtual ~HttpBody() = default;
  // Appends what there is by now. False once nothing will follow.
  virtual bool take(std::string& out) = 0;
  // Everything taken was handed to the system.
  virtual void written() {}
};

// One request, waiting for its answer. Exactly one of respond() and stream() is called, once;
// letting go of the exchange without it answers 500.
//
// Threads: any.
class HttpExchange {
 public:
  virtual ~HttpExchange() = default;
  virtual const HttpRequest& request() const = 0;
  // The request's body, once: it is not kept while the answer lasts.
  virtual std::string take_body() = 0;
  virtual void respond(HttpResponse response) = 0;
  // Sends the head (without a body), then what `body` has, and asks again after each wake() and
  // each write. One write is in flight at a time.
  virtual void stream(HttpResponse head, std::shared_ptr<HttpBody> body) = 0;
  virtual void wake() = 0;
  // `gone` is called at most once, on a thread of the server, if the client leaves before it has
  // the whole answer; at once, if it has left already.
  virtual void on_gone(std::function<void()> gone) = 0;
};

// Answers requests.
class HttpHandler {
 public:
  virtual ~HttpHandler() = default;
  // Threads: the server's; while it runs, other connections of this thread wait.
  virtual void handle(std::shared_ptr<HttpExchange> exchange) = 0;
};

// Of OpenSSL; shared with who made it. Asked for at each new connection, so that it may change.
using TlsContextSource = std::function<std::shared_ptr<ssl_ctx_st>()>;

struct HttpServerOptions {
  std::string address = "127.0.0.1:8080";  // port 0 takes a free one
  int32_t num_threads = 1;
  int32_t max_connections = 4096;  // one more gets 503 and is closed
  int64_t max_body_bytes = 4 << 20;
  // Of all bodies together that are read or wait for their handler; beyond it 503. Small ones pass.
  int64_t max_buffered_bytes = 256 << 20;
  int32_t max_header_bytes = 16 << 10;
  // From the first byte (of a new connection: from its start) to the end of a request's head.
  std::chrono::nanoseconds header_time = std::chrono::seconds(10);
  std::chrono::nanoseconds body_time = std::chrono::seconds(30);
  std::chrono::nanoseconds idle_time = std::chrono::seconds(75);   // between two requests
  std::chrono::nanoseconds write_time = std::chrono::seconds(60);  // of one write
  TlsContextSource tls;                                            // null: plain HTTP
  // Hears the status of every answer when it begins, on the server's threads. May be null.
  std::function<void(int status)> on_answer;
};

// HTTP/1.1 and 1.0 with keep-alive, over TLS if asked for: bounded in connections, bytes and time.
// Reads one request of a connection at a time, and notices while it is answered when the client
// leaves.
//
// Threads: `num_threads` of its own.
class HttpServer {
 public:
  // Listens. `handler` must outlive the server. kInvalidArgument: not host:port.
  // kUnavailable: busy, unknown host, not an address of this machine, or no permission.
  static Result<std::unique_ptr<HttpServer>> start(const HttpServerOptions& options,
                                                   HttpHandler& handler);
  virtual ~HttpServer() = default;

  virtual int port() const = 0;
  virtual int64_t num_connections() const = 0;
  // From now on connections end with the answer under way; new ones are still served.
  virtual void begin_drain() = 0;
  // Stops listening, waits for answers under way for at most `limit`, then closes everything.
  virtual void shutdown(std::chrono::nanoseconds limit) = 0;
};

}  // namespace sluice::server
