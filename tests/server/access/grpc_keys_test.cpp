// API keys through gRPC, over loopback.
#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "base/sha256.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "server/grpc/generation_client.h"
#include "tests/server/access/temporary_folder.h"
#include "tests/server/loopback.h"
#include "tests/server/raw_call.h"

namespace sluice::server {
namespace {

class GrpcKeys : public testing::Test {
 protected:
  GrpcKeys() {
    folder_.write("keys", sha256_hex("secret") + " alice\n");
    auto keys = ApiKeys::load(folder_ / "keys", [](const std::string&) {});
    EXPECT_TRUE(keys.has_value());
    GrpcServerOptions options;
    options.api_keys = *std::move(keys);
    loopback_ = std::make_unique<Loopback>(service_, options);
  }

  std::unique_ptr<GenerationClient> client(const std::string& key) const {
    ClientOptions options;
    options.api_key = key;
    return GenerationClient::create(loopback_->target(), options);
  }

  TemporaryFolder folder_;
  FakeService service_;
  std::unique_ptr<Loopback> loopback_;
};

TEST_F(GrpcKeys, EveryMethodNeedsAKeyAndTheServiceHearsOfNobodyWithout) {
  std::string first_message;
  for (const char* method : {"Generate", "Tokenize", "Detokenize", "RenderChat", "GetModel",
                             "ListModels", "GetServerInfo"}) {
    // The bytes are no message either: who has no key does not even learn that.
    for (const std::string& bytes : {std::string(), std::string("\xff\xff")}) {
      const grpc::Status status = call_raw(*loopback_, method, bytes);
      EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAUTHENTICATED) << method;
      if (first_message.empty()) first_message = status.error_message();
      EXPECT_EQ(status.error_message(), first_message) << method;
    }
  }
  for (const char* key : {"secreT", "secre", "secret2", "x"}) {
    const auto models = client(key)->list_models();
    ASSERT_FALSE(models.has_value()) << key;
    EXPECT_EQ(models.error().code, ErrorCode::kUnauthenticated) << key;
    EXPECT_EQ(models.error().message, first_message) << key;
  }
  EXPECT_EQ(service_.num_calls(), 0u);
}

TEST_F(GrpcKeys, TheRightKeyNamesTheClient) {
  const auto with_key = client("secret");
  EXPECT_TRUE(with_key->list_models().has_value());
  EXPECT_TRUE(with_key->server_info().has_value());
  EXPECT_TRUE(with_key->tokenize("", "text", true).has_value());
  EXPECT_TRUE(with_key->detokenize("", {65}).has_value());
  ChatPrompt chat;
  chat.messages = "[]";
  EXPECT_TRUE(with_key->render_chat("", chat).has_value());
  GenerateRequest request;
  request.prompt = "p";
  EXPECT_TRUE(with_key->generate(request, [](GenerateChunk) { return true; }).has_value());
  EXPECT_EQ(service_.wait_for_call()->request().client, "alice");
}

TEST_F(GrpcKeys, TwoAuthorizationsAreNone) {
  for (const char* other : {"Bearer secret", "Bearer x"}) {
    grpc::ClientContext context;
    context.AddMetadata("authorization", "Bearer secret");
    context.AddMetadata("authorization", other);
    v1::ListModelsResponse response;
    EXPECT_EQ(loopback_->stub().ListModels(&context, {}, &response).error_code(),
              grpc::StatusCode::UNAUTHENTICATED);
  }
}

TEST_F(GrpcKeys, HealthNeedsNone) {
  const auto healthy = client("")->healthy();
  ASSERT_TRUE(healthy.has_value()) << healthy.error().message;
  EXPECT_TRUE(*healthy);
}

TEST(GrpcWithoutKeys, AKeyIsNotLookedAt) {
  FakeService service;
  const Loopback loopback(service);
  GenerateRequest request;
  request.prompt = "p";
  ClientOptions options;
  options.api_key = "any";
  const auto client = GenerationClient::create(loopback.target(), options);
  EXPECT_TRUE(client->generate(request, [](GenerateChunk) { return true; }).has_value());
  EXPECT_EQ(service.wait_for_call()->request().client, "");
}

}  // namespace
}  // namespace sluice::server
