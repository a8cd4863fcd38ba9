#include <algorithm>
#include <array>
#include <boost/asio/buffer.hpp>
#include <boost/asio/connect.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/host_name_verification.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/write.hpp>
#include <optional>
#include <thread>
#include <type_traits>
#include <utility>

#include "base/json_read.h"
#include "server/http/event_parser.h"
#include "server/http/json_writer.h"
#include "server/listen_address.h"
#include "server/stream_client.h"

namespace sluice::server {
namespace {

namespace net = boost::asio;
using boost::system::error_code;
using net::ip::tcp;
using TlsStream = net::ssl::stream<tcp::socket>;

constexpr size_t kReadBytes = 16 << 10;

tcp::socket& socket_of(tcp::socket& stream) {
  return stream;
}
tcp::socket& socket_of(TlsStream& stream) {
  return stream.next_layer();
}

// What all connections to one server share; null without TLS.
using TlsContext = std::shared_ptr<net::ssl::context>;

Result<TlsContext> make_tls_context(const ClientOptions& options) {
  if (!options.uses_tls) return nullptr;
  auto context = std::make_shared<net::ssl::context>(net::ssl::context::tls_client);
  error_code error;
  context->set_verify_mode(net::ssl::verify_peer, error);
  if (options.ca_pem.empty()) {
    context->set_default_verify_paths(error);
  } else {
    context->add_certificate_authority(net::buffer(options.ca_pem), error);
  }
  if (error) return invalid_argument("--tls-ca: OpenSSL does not take the certificates");
  if (options.certificate_pem.empty()) return context;
  context->use_certificate_chain(net::buffer(options.certificate_pem), error);
  if (error) return invalid_argument("--tls-cert: OpenSSL does not take the certificate");
  context->use_private_key(net::buffer(options.key_pem), net::ssl::context::pem, error);
  if (error) return invalid_argument("--tls-key: OpenSSL does not take the key for --tls-cert");
  return context;
}

// The server must show a certificate for `host`, and may choose it by that name.
void expect_host(const std::string& host, TlsStream& stream) {
  error_code ignored;
  stream.set_verify_callback(net::ssl::host_name_verification(host), ignored);
  net::ip::make_address(host, ignored);
  if (ignored) SSL_set_tlsext_host_name(stream.native_handle(), host.c_str());
}

const char* handshake_problem(TlsStream& stream) {
  return SSL_get_verify_result(stream.native_handle()) == X509_V_OK
             ? "the TLS handshake failed"
             : "the server's certificate is not trusted, or not for this host";
}

std::string request_head(const char* method, const std::string& path, const OpenAiTarget& target,
                         const ClientOptions& options) {
  const bool is_ipv6 = target.host.find(':') != std::string::npos;
  const std::string host = is_ipv6 ? '[' + target.host + ']' : target.host;
  std::string head = std::string(method) + ' ' + target.base + path + " HTTP/1.1\r\nHost: " + host +
                     ':' + target.port + "\r\nConnection: close\r\n";
  if (!options.api_key.empty()) head += "Authorization: Bearer " + options.api_key + "\r\n";
  return head;
}

// The body of the POST. Fields that OpenAI itself does not know are sent only where they change
// something.
std::string request_body(const GenerateRequest& request, const OpenAiTarget& target) {
  Json json = {
      {"model", target.model}, {"stream", true}, {"stream_options", {{"include_usage", true}}}};
  if (request.prompt) json["prompt"] = *request.prompt;
  if (request.token_ids) json["prompt"] = *request.token_ids;
  if (request.chat) json["messages"] = Json::parse(request.chat->messages, nullptr, false);
  if (request.max_tokens) json["max_tokens"] = *request.max_tokens;
  if (request.temperature) json["temperature"] = *request.temperature;
  if (request.top_p) json["top_p"] = *request.top_p;
  if (request.seed) json["seed"] = *request.seed;
  if (request.ignore_eos) json["ignore_eos"] = true;
  if (target.says_token_ids) json["return_token_ids"] = true;
  return json.dump();
}

// The member of an object that somebody else wrote, if it is there and of its type.
template <typename T>
std::optional<T> member(const Json& json, const char* name) {
  std::optional<T> value;
  if (json.is_object() && json.contains(name)) {
    if (!read_json(json[name], value)) value.reset();
  }
  return value;
}

// How many tokens a choice of an event brings: as many as it has ids, or one if it has text. An
// empty text is a part of a character, and so a token, unless it comes with the reason why the
// choice ended (as llama.cpp's server says it after the last token) or with who speaks (as chats
// begin).
int32_t count_tokens(const Json& choice) {
  if (const auto ids = member<std::vector<int64_t>>(choice, "token_ids")) {
    return static_cast<int32_t>(ids->size());
  }
  if (!choice.is_object()) return 0;
  const Json delta = choice.value("delta", Json());
  const bool may_be_empty =
      !member<std::string>(choice, "finish_reason") && !member<std::string>(delta, "role");
  const auto is_token = [may_be_empty](const std::optional<std::string>& text) {
    return text && (may_be_empty || !text->empty());
  };
  if (is_token(member<std::string>(choice, "text"))) return 1;
  for (const char* name : {"content", "reasoning_content", "reasoning"}) {
    if (is_token(member<std::string>(delta, name))) return 1;
  }
  return 0;
}

// Sluice's own events without a parser's time: what only they have, if it is there.
std::optional<int32_t> count_token_ids(std::string_view event) {
  constexpr std::string_view kIds = "\"token_ids\":[";
  const size_t ids = event.find(kIds);
  if (ids == std::string_view::npos || event.find("\"usage\":{") != event.npos) return std::nullopt;
  const std::string_view list = event.substr(ids, event.find(']', ids) - ids);
  return static_cast<int32_t>(std::ranges::count(list, ',')) + 1;
}

std::string error_message(const std::string& body, int status) {
  const Json json = Json::parse(body, nullptr, false);
  const std::string prefix = "status " + std::to_string(status);
  if (!json.is_object() || !json.contains("error")) return prefix;
  const auto message = member<std::string>(json["error"], "message");
  return message ? prefix + ": " + *message : prefix;
}

// One request on a connection of its own. `Socket` is TCP's, or TLS over it.
template <typename Socket>
class Stream final : public std::enable_shared_from_this<Stream<Socket>> {
 public:
  Stream(Socket socket, std::string bytes, bool says_token_ids,
         std::shared_ptr<StreamListener> listener)
      : socket_(std::move(socket)),
        out_(std::move(bytes)),
        says_token_ids_(says_token_ids),
        listener_(std::move(listener)) {}

  void start(const tcp::resolver::results_type& endpoints) {
    net::async_connect(socket_of(socket_), endpoints,
                       [self = this->shared_from_this()](error_code error, const tcp::endpoint&) {
                         if (error) return self->lose("cannot connect");
                         error_code ignored;
                         socket_of(self->socket_).set_option(tcp::no_delay(true), ignored);
                         self->shake_hands();
                       });
  }

 private:
  void shake_hands() {
    if constexpr (std::is_same_v<Socket, TlsStream>) {
      socket_.async_handshake(net::ssl::stream_base::client,
                              [self = this->shared_from_this()](error_code error) {
                                if (error) return self->lose(handshake_problem(self->socket_));
                                self->write();
                              });
    } else {
      write();
    }
  }
  void write() {
    net::async_write(socket_, net::buffer(out_),
                     [self = this->shared_from_this()](error_code error, size_t) {
                       if (error) return self->lose("the connection broke");
                       self->read();
                     });
  }
  void read() {
    socket_.async_read_some(net::buffer(in_),
                            [self = this->shared_from_this()](error_code error, size_t num_bytes) {
                              self->on_read(error, num_bytes);
                            });
  }
  void on_read(error_code error, size_t num_bytes) {
    if (error) {
      return parser_.end() ? finish() : lose("the connection broke");
    }
    const auto whole = parser_.feed(std::string_view(in_.data(), num_bytes),
                                    [this](std::string_view event) { on_event(event); });
    if (!whole) return end(std::unexpected(whole.error()));
    if (*whole) return finish();
    read();
  }
  void on_event(std::string_view event) {
    if (event == "[DONE]") return;
    if (says_token_ids_) {
      if (const auto num_tokens = count_token_ids(event)) return add_tokens(*num_tokens);
    }
    const Json json = Json::parse(event, nullptr, false);
    if (!json.is_object()) return;
    if (json.contains("error") && !json["error"].is_null()) {
      error_ = error_message(std::string(event), 200);
      return;
    }
    if (json.contains("usage")) {
      const auto tokens = member<int64_t>(json["usage"], "completion_tokens");
      if (tokens) completion_tokens_ = tokens;
    }
    const auto choices = json.find("choices");
    if (choices == json.end() || !choices->is_array()) return;
    int32_t num_tokens = 0;
    for (const Json& choice : *choices) num_tokens += count_tokens(choice);
    if (num_tokens > 0) add_tokens(num_tokens);
  }
  void add_tokens(int32_t num_tokens) {
    num_tokens_ += num_tokens;
    listener_->on_tokens(num_tokens);
  }
  void finish() {
    if (parser_.status() != 200) {
      const ErrorCode code = parser_.status() == 429   ? ErrorCode::kResourceExhausted
                             : parser_.status() == 503 ? ErrorCode::kUnavailable
                             : parser_.status() == 504 ? ErrorCode::kDeadlineExceeded
                             : parser_.status() >= 500 ? ErrorCode::kInternal
                                                       : ErrorCode::kInvalidArgument;
      return end(fail(code, error_message(parser_.body(), parser_.status())));
    }
    if (error_) return end(fail(ErrorCode::kInternal, *error_));
    end(completion_tokens_.value_or(num_tokens_));
  }
  void lose(const char* why) { end(fail(ErrorCode::kUnavailable, why)); }
  void end(Result<int64_t> result) {
    error_code ignored;
    socket_of(socket_).close(ignored);
    listener_->on_end(std::move(result));
  }

  Socket socket_;
  const std::string out_;
  const bool says_token_ids_;
  const std::shared_ptr<StreamListener> listener_;
  EventParser parser_;
  std::array<char, kReadBytes> in_;
  int64_t num_tokens_ = 0;
  std::optional<int64_t> completion_tokens_;
  std::optional<std::string> error_;
};

class OpenAiStreamClient final : public StreamClient {
 public:
  OpenAiStreamClient(OpenAiTarget target, ClientOptions options, TlsContext tls)
      : target_(std::move(target)),
        options_(std::move(options)),
        tls_(std::move(tls)),
        work_(context_.get_executor()) {
    error_code ignored;
    endpoints_ = tcp::resolver(context_).resolve(target_.host, target_.port, ignored);
    thread_ = std::thread([this] { context_.run(); });
  }
  ~OpenAiStreamClient() override {
    work_.reset();
    thread_.join();
  }
  void generate(const GenerateRequest& request, std::shared_ptr<StreamListener> listener) override {
    const std::string body = request_body(request, target_);
    std::string bytes =
        request_head("POST", request.chat ? "/chat/completions" : "/completions", target_,
                     options_) +
        "Content-Type: application/json\r\nContent-Length: " + std::to_string(body.size()) +
        "\r\n\r\n" + body;
    if (tls_ == nullptr) return start(tcp::socket(context_), std::move(bytes), std::move(listener));
    TlsStream socket(context_, *tls_);
    expect_host(target_.host, socket);
    start(std::move(socket), std::move(bytes), std::move(listener));
  }

 private:
  template <typename Socket>
  void start(Socket socket, std::string bytes, std::shared_ptr<StreamListener> listener) {
    auto stream = std::make_shared<Stream<Socket>>(std::move(socket), std::move(bytes),
                                                   target_.says_token_ids, std::move(listener));
    net::post(context_, [this, stream = std::move(stream)] { stream->start(endpoints_); });
  }

  const OpenAiTarget target_;
  const ClientOptions options_;
  const TlsContext tls_;
  net::io_context context_{1};
  net::executor_work_guard<net::io_context::executor_type> work_;
  tcp::resolver::results_type endpoints_;
  std::thread thread_;
};

// Sends a request and reads its answer, blocking. False if the connection breaks before its end.
template <typename Socket>
Result<bool> exchange(const std::string& bytes, Socket& socket, EventParser& parser) {
  error_code error;
  net::write(socket, net::buffer(bytes), error);
  std::array<char, kReadBytes> in;
  while (!error) {
    const size_t num_bytes = socket.read_some(net::buffer(in), error);
    if (error) break;
    const auto fed = parser.feed(std::string_view(in.data(), num_bytes), [](std::string_view) {});
    if (!fed || *fed) return fed;
  }
  return parser.end();
}

// One GET, blocking.
Result<Json> get_json(const std::string& path, const OpenAiTarget& target,
                      const ClientOptions& options) {
  const Result<TlsContext> tls = make_tls_context(options);
  if (!tls) return std::unexpected(tls.error());
  net::io_context context;
  tcp::socket socket(context);
  error_code error;
  const auto endpoints = tcp::resolver(context).resolve(target.host, target.port, error);
  if (!error) net::connect(socket, endpoints, error);
  if (error) return fail(ErrorCode::kUnavailable, "the server cannot be reached");
  const std::string bytes = request_head("GET", path, target, options) + "\r\n";
  EventParser parser;
  Result<bool> is_whole = false;
  if (*tls == nullptr) {
    is_whole = exchange(bytes, socket, parser);
  } else {
    TlsStream stream(std::move(socket), **tls);
    expect_host(target.host, stream);
    stream.handshake(net::ssl::stream_base::client, error);
    if (error) return fail(ErrorCode::kUnavailable, handshake_problem(stream));
    is_whole = exchange(bytes, stream, parser);
  }
  if (!is_whole) return std::unexpected(is_whole.error());
  if (!*is_whole) return fail(ErrorCode::kUnavailable, "the server closed the connection");
  if (parser.status() == 401) {
    return fail(ErrorCode::kUnauthenticated, error_message(parser.body(), 401));
  }
  if (parser.status() != 200) {
    return fail(ErrorCode::kInternal, error_message(parser.body(), parser.status()));
  }
  return parse_json(parser.body());
}

}  // namespace

Result<OpenAiTarget> find_openai_target(const std::string& address, const std::string& model,
                                        const ClientOptions& options) {
  const size_t slash = std::min(address.find('/'), address.size());
  const Result<ListenAddress> parsed = parse_listen_address(address.substr(0, slash));
  if (!parsed) return std::unexpected(parsed.error());
  OpenAiTarget target{.host = parsed->host, .port = parsed->port, .model = model};
  if (slash < address.size()) target.base = address.substr(slash);
  const Result<Json> json = get_json("/models", target, options);
  if (!json) return std::unexpected(json.error());
  const auto data = json->is_object() ? json->find("data") : json->end();
  if (data == json->end() || !data->is_array()) {
    return fail(ErrorCode::kInternal, target.base + "/models of the server is not OpenAI's");
  }
  if (model.empty() && data->size() != 1) {
    return invalid_argument("the server has " + std::to_string(data->size()) +
                            " models: needs --model NAME");
  }
  for (const Json& entry : *data) {
    const std::string id = member<std::string>(entry, "id").value_or("");
    if (id.empty() || (!model.empty() && id != model)) continue;
    target.model = id;
    target.says_token_ids = member<std::string>(entry, "owned_by") == "sluice";
    const int64_t size = member<int64_t>(entry, "vocabulary_size").value_or(0);
    target.vocabulary_size = static_cast<int32_t>(std::clamp<int64_t>(size, 0, INT32_MAX));
    return target;
  }
  return fail(ErrorCode::kNotFound, "the server has no such model");
}

Result<std::unique_ptr<StreamClient>> make_openai_stream_client(const OpenAiTarget& target,
                                                                const ClientOptions& options) {
  Result<TlsContext> tls = make_tls_context(options);
  if (!tls) return std::unexpected(std::move(tls.error()));
  return std::make_unique<OpenAiStreamClient>(target, options, *std::move(tls));
}

}  // namespace sluice::server
