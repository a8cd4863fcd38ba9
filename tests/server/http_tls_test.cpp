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

#include "server/http/http_front_end.h"
#include "tests/server/access/tls_fixture.h"
#include "tests/server/raw_http.h"

namespace sluice::server {
namespace {

namespace net = boost::asio;
using net::ip::tcp;

class HttpTls : public TlsFixture {
 protected:
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
