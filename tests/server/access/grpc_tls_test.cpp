// TLS and client certificates through gRPC, over loopback.
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>

#include "server/grpc/generation_client.h"
#include "server/grpc/grpc_server.h"
#include "tests/server/access/tls_fixture.h"
#include "tests/server/fake_service.h"

namespace sluice::server {
namespace {

class GrpcTls : public TlsFixture {
 protected:
  void start(bool asks_clients) {
    GrpcServerOptions options;
    options.address = "127.0.0.1:0";
    options.tls = load(asks_clients);
    auto server = GrpcServer::start(options, service_);
    ASSERT_TRUE(server.has_value()) << server.error().message;
    server_ = *std::move(server);
  }
  // A client of its own connection that trusts `ca` and shows `own`.
  std::unique_ptr<GenerationClient> client(const Authority& ca, const Issued& own = {}) const {
    ClientOptions options;
    options.uses_tls = true;
    options.ca_pem = ca.certificate_pem();
    options.certificate_pem = own.certificate_pem;
    options.key_pem = own.key_pem;
    return GenerationClient::create("127.0.0.1:" + std::to_string(server_->port()), options);
  }
  static void expect_unreachable(GenerationClient& client) {
    const auto models = client.list_models();
    ASSERT_FALSE(models.has_value());
    EXPECT_EQ(models.error().code, ErrorCode::kUnavailable) << models.error().message;
  }

  FakeService service_;
  std::unique_ptr<GrpcServer> server_;
};

TEST_F(GrpcTls, TheRightCertificateIsAnsweredAndStreams) {
  write(authority_.issue());
  start(false);
  const auto good = client(authority_);
  EXPECT_TRUE(good->list_models().has_value());
  EXPECT_TRUE(good->healthy().has_value());
  GenerateRequest request;
  request.prompt = "p";
  EXPECT_TRUE(good->generate(request, [](GenerateChunk) { return true; }).has_value());
}

TEST_F(GrpcTls, PlainTextIsNotAnswered) {
  write(authority_.issue());
  start(false);
  const auto plain = GenerationClient::create("127.0.0.1:" + std::to_string(server_->port()));
  expect_unreachable(*plain);
}

TEST_F(GrpcTls, AClientTrustsItsOwnCaAndTheNameOnly) {
  write(authority_.issue());
  start(false);
  expect_unreachable(*client(Authority()));
  server_.reset();
  write(authority_.issue({.alternative_names = "DNS:other.example,IP:127.0.0.2"}));
  start(false);
  expect_unreachable(*client(authority_));
}

TEST_F(GrpcTls, AskedForCertificatesOnlyTheRightOneIsAnswered) {
  write(authority_.issue());
  const Authority client_ca;
  folder_.write("ca", client_ca.certificate_pem());
  start(true);
  EXPECT_TRUE(client(authority_, client_ca.issue())->list_models().has_value());
  expect_unreachable(*client(authority_));                       // none
  expect_unreachable(*client(authority_, Authority().issue()));  // other CA
  expect_unreachable(*client(authority_, authority_.issue()));   // the server's CA
  expect_unreachable(
      *client(authority_, client_ca.issue({.valid_from_days = -9, .valid_to_days = -2})));
  expect_unreachable(
      *client(authority_, client_ca.issue({.valid_from_days = 2, .valid_to_days = 9})));
  EXPECT_TRUE(client(authority_, client_ca.issue())->list_models().has_value());
}

// New files count for new connections; the listener, its port and a stream under way stay.
TEST_F(GrpcTls, FilesAreExchangedUnderAStream) {
  const Authority next;
  write(authority_.issue());
  start(false);
  const int port = server_->port();
  const auto old_client = client(authority_);
  ASSERT_TRUE(old_client->list_models().has_value());

  const Issued issued = next.issue();
  folder_.write("new_cert", issued.certificate_pem);
  folder_.write("new_key", issued.key_pem);
  std::filesystem::rename(folder_ / "new_key", folder_ / "key");
  std::filesystem::rename(folder_ / "new_cert", folder_ / "cert");
  std::string notice;
  for (size_t number = 0; notice.find("new connections") == std::string::npos; ++number) {
    notice = notices_.wait_for(number);
    ASSERT_NE(notice, "none came");
  }
  EXPECT_TRUE(client(next)->list_models().has_value());
  expect_unreachable(*client(authority_));
  EXPECT_TRUE(old_client->list_models().has_value()) << "its connection was closed";
  EXPECT_EQ(server_->port(), port);
}

}  // namespace
}  // namespace sluice::server
