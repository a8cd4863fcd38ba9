// HTTPS and client certificates, over loopback.
#include <gtest/gtest.h>

#include <boost/asio/connect.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/host_name_verification.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/write.hpp>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/in_flight.h"
#include "server/http/http_front_end.h"
#include "server/stream_client.h"
#include "tests/server/access/tls_fixture.h"
#include "tests/server/raw_http.h"

namespace sluice::server {
namespace {

namespace net = boost::asio;
using net::ip::tcp;

class HttpTls : public TlsFixture {
 protected:
  explicit HttpTls(FakeService::Script script = [](FakeCall& call) { call.finish(); })
      : service_(std::move(script)) {}

  void start(bool asks_clients = false) {
    files_ = load(asks_clients);
    ASSERT_TRUE(files_);
    HttpFrontEndOptions options;
    options.server.address = "127.0.0.1:0";
    options.server.header_time = std::chrono::milliseconds(500);
    options.server.tls = [this] { return files_->material()->context; };
    auto front_end = HttpFrontEnd::start(options, service_);
    ASSERT_TRUE(front_end.has_value()) << front_end.error().message;
    front_end_ = *std::move(front_end);
  }

  // The answer to one request of a client that trusts `ca` and shows `own`; empty if there is none.
  std::string ask(const Authority& ca, const Issued& own = {},
                  const std::string& request = "GET /version HTTP/1.0\r\n\r\n") const {
    net::ssl::context context(net::ssl::context::tls_client);
    context.set_verify_mode(net::ssl::verify_peer);
    context.add_certificate_authority(net::buffer(ca.certificate_pem()));
    if (!own.key_pem.empty()) {
      context.use_certificate_chain(net::buffer(own.certificate_pem));
      context.use_private_key(net::buffer(own.key_pem), net::ssl::context::pem);
    }
    net::io_context io;
    net::ssl::stream<tcp::socket> stream(io, context);
    stream.set_verify_callback(net::ssl::host_name_verification("127.0.0.1"));
    boost::system::error_code error;
    stream.next_layer().connect(
        {net::ip::address_v4::loopback(), static_cast<uint16_t>(front_end_->port())}, error);
    if (!error) stream.handshake(net::ssl::stream_base::client, error);
    if (!error) net::write(stream, net::buffer(request), error);
    if (error) return "";
    std::string answer;
    net::read(stream, net::dynamic_buffer(answer), error);  // until the server closes
    return answer;
  }

  FakeService service_;
  std::shared_ptr<const TlsFiles> files_;
  std::unique_ptr<HttpFrontEnd> front_end_;
};

TEST_F(HttpTls, ServesWhoTrustsIt) {
  write(authority_.issue());
  start();
  EXPECT_NE(ask(authority_).find("\"version\""), std::string::npos);
  const std::string body = R"({"prompt": "p", "stream": true})";
  EXPECT_NE(ask(authority_, {},
                "POST /v1/completions HTTP/1.1\r\nConnection: close\r\nContent-Type: "
                "application/json\r\nContent-Length: " +
                    std::to_string(body.size()) + "\r\n\r\n" + body)
                .find("[DONE]"),
            std::string::npos);
  EXPECT_EQ(ask(Authority()), "");
}

TEST_F(HttpTls, AsksForAClientsCertificate) {
  write(authority_.issue());
  folder_.write("ca", authority_.certificate_pem());
  start(true);
  EXPECT_NE(ask(authority_, authority_.issue()), "");
  EXPECT_EQ(ask(authority_), "");
  EXPECT_EQ(ask(authority_, Authority().issue()), "");
  EXPECT_EQ(ask(authority_, authority_.issue({.valid_from_days = -9, .valid_to_days = -1})), "");
}

// Counts what a stream brings.
class Counter final : public StreamListener {
 public:
  explicit Counter(base::InFlight& in_flight) : in_flight_(in_flight) { in_flight_.begin(); }
  void on_tokens(int32_t num_tokens) override { num_tokens_ += num_tokens; }
  void on_end(Result<int64_t> completion_tokens) override {
    end_ = std::move(completion_tokens);
    in_flight_.end();
  }
  int num_tokens() const { return num_tokens_; }
  const Result<int64_t>& end() const { return end_; }

 private:
  base::InFlight& in_flight_;
  int num_tokens_ = 0;
  Result<int64_t> end_ = 0;
};

// The client of `bench serve --target https://...`.
class HttpsLoad : public HttpTls {
 protected:
  HttpsLoad()
      : HttpTls([](FakeCall& call) {
          for (int i = 0; i < 20; ++i) call.send(i, "x");
          call.finish();
        }) {}

  ClientOptions trusting(const Authority& ca, const Issued& own = {}) const {
    ClientOptions options;
    options.uses_tls = true;
    options.ca_pem = ca.certificate_pem();
    options.certificate_pem = own.certificate_pem;
    options.key_pem = own.key_pem;
    return options;
  }
  Result<OpenAiTarget> find(const ClientOptions& options,
                            const std::string& host = "127.0.0.1") const {
    return find_openai_target(host + ":" + std::to_string(front_end_->port()), "", options);
  }
  static std::string refusal(const Result<OpenAiTarget>& target) {
    return target ? "" : target.error().message;
  }
};

TEST_F(HttpsLoad, StreamsFromWhomItTrusts) {
  write(authority_.issue());
  start();
  const ClientOptions options = trusting(authority_);
  for (const char* host : {"127.0.0.1", "localhost"}) {
    const auto target = find(options, host);
    ASSERT_TRUE(target) << target.error().message;
    EXPECT_EQ(target->model, "tiny");
    const auto client = make_openai_stream_client(*target, options);
    ASSERT_TRUE(client);
    base::InFlight in_flight;
    std::vector<std::shared_ptr<Counter>> streams;
    for (int i = 0; i < 32; ++i) {
      GenerateRequest request;
      request.prompt = "p";
      (*client)->generate(request, streams.emplace_back(std::make_shared<Counter>(in_flight)));
    }
    in_flight.wait_for_none();
    for (const auto& stream : streams) {
      EXPECT_TRUE(stream->end()) << stream->end().error().message;
      EXPECT_EQ(stream->num_tokens(), 20);
    }
  }
}

TEST_F(HttpsLoad, NeedsACertificateThatItTrustsForThisHost) {
  write(authority_.issue({.alternative_names = "DNS:localhost"}));
  start();
  const std::string untrusted = "the server's certificate is not trusted, or not for this host";
  EXPECT_EQ(refusal(find(trusting(Authority()), "localhost")), untrusted);
  ClientOptions machine;  // its own CAs
  machine.uses_tls = true;
  EXPECT_EQ(refusal(find(machine, "localhost")), untrusted);
  EXPECT_EQ(refusal(find(trusting(authority_), "127.0.0.1")), untrusted);
  EXPECT_EQ(refusal(find({})), "the server closed the connection");  // plain text
  const auto target = find(trusting(authority_), "localhost");
  ASSERT_TRUE(target) << target.error().message;
  // A load whose server has changed meanwhile.
  const auto client = make_openai_stream_client(*target, trusting(Authority()));
  base::InFlight in_flight;
  const auto stream = std::make_shared<Counter>(in_flight);
  (*client)->generate(GenerateRequest(), stream);
  in_flight.wait_for_none();
  ASSERT_FALSE(stream->end());
  EXPECT_EQ(stream->end().error().message, untrusted);
}

TEST_F(HttpsLoad, ShowsItsOwnCertificate) {
  write(authority_.issue());
  folder_.write("ca", authority_.certificate_pem());
  start(true);
  EXPECT_TRUE(find(trusting(authority_, authority_.issue())));
  EXPECT_FALSE(find(trusting(authority_)));
  Issued broken = authority_.issue();
  broken.key_pem = Authority().issue().key_pem;
  EXPECT_EQ(refusal(find(trusting(authority_, broken))),
            "--tls-key: OpenSSL does not take the key for --tls-cert");
  broken.certificate_pem = "-----BEGIN CERTIFICATE-----\nx";
  EXPECT_EQ(refusal(find(trusting(authority_, broken))),
            "--tls-cert: OpenSSL does not take the certificate");
}

TEST_F(HttpsLoad, SaysWhenTheServerSpeaksNoTls) {
  HttpFrontEndOptions options;
  options.server.address = "127.0.0.1:0";
  auto plain = HttpFrontEnd::start(options, service_);
  ASSERT_TRUE(plain);
  front_end_ = *std::move(plain);
  EXPECT_EQ(refusal(find(trusting(authority_))), "the TLS handshake failed");
}

// As curl and browsers do it: the second connection goes on with the session of the first.
TEST_F(HttpTls, AClientWithACertificateResumesItsSession) {
  write(authority_.issue());
  folder_.write("ca", authority_.certificate_pem());
  start(true);
  const Issued own = authority_.issue();
  net::ssl::context context(
      net::ssl::context::tlsv12_client);  // its session comes with the handshake
  context.add_certificate_authority(net::buffer(authority_.certificate_pem()));
  context.use_certificate_chain(net::buffer(own.certificate_pem));
  context.use_private_key(net::buffer(own.key_pem), net::ssl::context::pem);
  SSL_SESSION* session = nullptr;
  for (int i = 0; i < 2; ++i) {
    net::io_context io;
    net::ssl::stream<tcp::socket> stream(io, context);
    if (session != nullptr) SSL_set_session(stream.native_handle(), session);
    stream.next_layer().connect(
        {net::ip::address_v4::loopback(), static_cast<uint16_t>(front_end_->port())});
    boost::system::error_code error;
    stream.handshake(net::ssl::stream_base::client, error);
    ASSERT_FALSE(error) << error.message();
    if (i == 0) session = SSL_get1_session(stream.native_handle());
    net::write(stream, net::buffer(std::string("GET /version HTTP/1.0\r\n\r\n")), error);
    std::string answer;
    net::read(stream, net::dynamic_buffer(answer), error);
    EXPECT_NE(answer.find("\"version\""), std::string::npos) << i;
    EXPECT_EQ(SSL_session_reused(stream.native_handle()), i);
    // The server ends by closing; without this OpenSSL would throw the session away for it.
    SSL_set_shutdown(stream.native_handle(), SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
  }
  SSL_SESSION_free(session);
}

TEST_F(HttpTls, TakesANewCertificateWithoutClosing) {
  write(authority_.issue());
  start();
  ASSERT_NE(ask(authority_), "");
  const Authority next;
  write(next.issue());
  while (ask(next).empty()) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  EXPECT_EQ(ask(authority_), "");
}

TEST_F(HttpTls, EndsWhoDoesNotShakeHands) {
  write(authority_.issue());
  start();
  RawHttp silent(front_end_->port());
  RawHttp plain(front_end_->port());
  plain.get("/version");
  EXPECT_TRUE(silent.wait_for_close());
  EXPECT_TRUE(plain.wait_for_close());
  EXPECT_NE(ask(authority_), "");
}

}  // namespace
}  // namespace sluice::server
