// The server around the calls: health, addresses, limits, drain.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <future>
#include <thread>

#include "grpc/health/v1/health.grpc.pb.h"
#include "server/grpc/generation_client.h"
#include "tests/server/fake_service.h"
#include "tests/server/loopback.h"
#include "tests/server/raw_http2.h"

namespace sluice::server {
namespace {

using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;

grpc::Status check(Loopback& loopback, const std::string& service, HealthCheckResponse& response) {
  grpc::ClientContext context;
  HealthCheckRequest request;
  request.set_service(service);
  return grpc::health::v1::Health::NewStub(loopback.channel())->Check(&context, request, &response);
}

TEST(Health, FollowsTheServiceAndThenTheServer) {
  FakeService service;
  Loopback loopback(service);
  const auto client = GenerationClient::create(loopback.target());
  HealthCheckResponse response;
  const auto expect_both = [&](HealthCheckResponse::ServingStatus expected) {
    for (const char* name : {"", "sluice.v1.Generation"}) {
      ASSERT_TRUE(check(loopback, name, response).ok());
      EXPECT_EQ(response.status(), expected);
    }
    EXPECT_EQ(client->healthy().value(), expected == HealthCheckResponse::SERVING);
  };
  expect_both(HealthCheckResponse::SERVING);
  service.set_health({.live = true, .ready = false});
  expect_both(HealthCheckResponse::NOT_SERVING);
  service.set_health({.live = false, .ready = true});
  expect_both(HealthCheckResponse::NOT_SERVING);
  service.set_health({.live = true, .ready = true});
  expect_both(HealthCheckResponse::SERVING);
  loopback.server().set_not_serving();
  expect_both(HealthCheckResponse::NOT_SERVING);
  EXPECT_TRUE(generate(loopback.stub(), prompt_request()).status.ok()) << "calls still run";
  EXPECT_EQ(check(loopback, "other", response).error_code(), grpc::StatusCode::NOT_FOUND);
}

TEST(Health, LivenessHasANameOfItsOwn) {
  FakeService service;
  service.set_health({.live = true, .ready = true});
  Loopback loopback(service);
  HealthCheckResponse response;
  const auto expect = [&](const char* name, HealthCheckResponse::ServingStatus expected) {
    ASSERT_TRUE(check(loopback, name, response).ok());
    EXPECT_EQ(response.status(), expected) << name;
  };
  expect("live", HealthCheckResponse::SERVING);
  service.set_health({.live = true, .ready = false});
  expect("live", HealthCheckResponse::SERVING);
  expect("sluice.v1.Generation", HealthCheckResponse::NOT_SERVING);
  service.set_health({.live = false, .ready = false});
  expect("live", HealthCheckResponse::NOT_SERVING);
  service.set_health({.live = true, .ready = true});
  loopback.server().set_not_serving();
  expect("live", HealthCheckResponse::SERVING);
  expect("", HealthCheckResponse::NOT_SERVING);
}

TEST(Health, WatchTellsEveryChangeAndEndsWithTheServer) {
  FakeService service;
  Loopback loopback(service);
  const auto stub = grpc::health::v1::Health::NewStub(loopback.channel());
  grpc::ClientContext context, unknown_context;
  HealthCheckRequest request;
  const auto watch = stub->Watch(&context, request);
  request.set_service("other");
  const auto unknown = stub->Watch(&unknown_context, request);
  HealthCheckResponse response;
  ASSERT_TRUE(unknown->Read(&response));
  EXPECT_EQ(response.status(), HealthCheckResponse::SERVICE_UNKNOWN);
  ASSERT_TRUE(watch->Read(&response));
  EXPECT_EQ(response.status(), HealthCheckResponse::SERVING);
  service.set_health({.live = true, .ready = false});
  ASSERT_TRUE(watch->Read(&response));
  EXPECT_EQ(response.status(), HealthCheckResponse::NOT_SERVING);
  service.set_health({.live = true, .ready = true});
  ASSERT_TRUE(watch->Read(&response));
  EXPECT_EQ(response.status(), HealthCheckResponse::SERVING);
  loopback.server().set_not_serving();
  ASSERT_TRUE(watch->Read(&response));
  EXPECT_EQ(response.status(), HealthCheckResponse::NOT_SERVING);
  loopback.server().shutdown(kTestPatience);  // returns long before that, or the test hangs
  EXPECT_FALSE(watch->Read(&response));
  EXPECT_EQ(watch->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_FALSE(unknown->Read(&response));
  EXPECT_EQ(unknown->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST(Health, AWatchMayBeCancelled) {
  FakeService service;
  Loopback loopback(service);
  for (int i = 0; i < 20; ++i) {
    grpc::ClientContext context;
    const auto watch = grpc::health::v1::Health::NewStub(loopback.channel())->Watch(&context, {});
    HealthCheckResponse response;
    ASSERT_TRUE(watch->Read(&response));
    context.TryCancel();
    EXPECT_EQ(watch->Finish().error_code(), grpc::StatusCode::CANCELLED);
  }
  loopback.server().shutdown(kTestPatience);
}

TEST(Address, ABusyPortIsOneClearError) {
  FakeService service;
  Loopback loopback(service);
  const auto second = GrpcServer::start({.address = loopback.target()}, service);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, ErrorCode::kUnavailable);
  EXPECT_EQ(second.error().message,
            "cannot listen on " + loopback.target() + ": the port is in use by another process");
  EXPECT_TRUE(generate(loopback.stub(), prompt_request()).status.ok());
  const std::string target = loopback.target();
  loopback.server().shutdown(std::chrono::seconds(0));
  const auto third = GrpcServer::start({.address = target}, service);
  EXPECT_TRUE(third) << third.error().message;
}

TEST(Address, WhatIsNotHostAndPortIsRefused) {
  FakeService service;
  for (const char* address :
       {"", ":", "localhost", "localhost:", ":50051", "localhost:http", "127.0.0.1:65536",
        "127.0.0.1:-1", "127.0.0.1:5005x", "127.0.0.1: 1", "::1:50051", "[::1]", "[]:1",
        "unix:/tmp/socket", "http://127.0.0.1:1", "127.0.0.1:99999999999999999999"}) {
    SCOPED_TRACE(address);
    const auto server = GrpcServer::start({.address = address}, service);
    ASSERT_FALSE(server);
    EXPECT_EQ(server.error().code, ErrorCode::kInvalidArgument) << server.error().message;
  }
  for (const char* address : {"192.0.2.1:0", "no-such-host.invalid:0"}) {
    const auto server = GrpcServer::start({.address = address}, service);
    ASSERT_FALSE(server);
    EXPECT_EQ(server.error().code, ErrorCode::kUnavailable) << server.error().message;
  }
}

TEST(Address, LimitsOutOfRangeAreRefused) {
  FakeService service;
  const std::string address = "127.0.0.1:0";
  for (const GrpcServerOptions& options :
       std::vector<GrpcServerOptions>{{.address = address, .max_message_bytes = 0},
                                      {.address = address, .max_message_bytes = int64_t{1} << 31},
                                      {.address = address, .max_metadata_bytes = 0},
                                      {.address = address, .max_concurrent_streams = 0}}) {
    const auto server = GrpcServer::start(options, service);
    ASSERT_FALSE(server);
    EXPECT_EQ(server.error().code, ErrorCode::kInvalidArgument);
  }
}

TEST(Limits, AMessageAtTheLimitPassesAndOneByteMoreDoesNot) {
  constexpr size_t kLimit = 1 << 20;
  FakeService service;
  Loopback loopback(service, {.max_message_bytes = kLimit});
  v1::GenerateRequest request = prompt_request(std::string(kLimit - 100, 'x'));
  request.mutable_prompt()->append(kLimit - request.ByteSizeLong(), 'x');
  ASSERT_EQ(request.ByteSizeLong(), kLimit);
  EXPECT_TRUE(generate(loopback.stub(), request).status.ok());
  request.mutable_prompt()->append("x");
  const Stream over = generate(loopback.stub(), request);
  EXPECT_EQ(over.status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(service.num_calls(), 1u);
  EXPECT_TRUE(generate(loopback.stub(), prompt_request()).status.ok());
}

// gRPC's windows hold the sender back, and the stream is reset long before the message is there.
TEST(Limits, AMessageOfTwoGibibytesIsRefusedAfterAFewMebibytes) {
  FakeService service;
  Loopback loopback(service);
  for (const size_t size : {size_t{1} << 31, (size_t{1} << 32) - 1}) {
    RawHttp2 raw(loopback.server().port());
    raw.open(1, "/sluice.v1.Generation/Generate");
    raw.write_frame(RawHttp2::kData, 0, 1, RawHttp2::prefix(size));
    const std::string data(16 << 10, 'x');
    for (int i = 0; i < 1024; ++i) raw.write_frame(RawHttp2::kData, 0, 1, data);
    EXPECT_NE(raw.read_status(1), grpc::StatusCode::OK);
    EXPECT_TRUE(generate(loopback.stub(), prompt_request()).status.ok());
  }
  EXPECT_EQ(service.num_calls(), 2u);
}

TEST(Limits, MetadataOverTheLimitIsRefused) {
  FakeService service;
  Loopback loopback(service, {.max_metadata_bytes = 8 << 10});
  const auto call = [&](size_t bytes) {
    grpc::ClientContext context;
    context.AddMetadata("x-padding", std::string(bytes, 'x'));
    return read_all(*loopback.stub().Generate(&context, prompt_request())).status;
  };
  EXPECT_TRUE(call(4 << 10).ok());
  EXPECT_EQ(call(9 << 10).error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(service.num_calls(), 1u);
  // gRPC may close that connection, and no other.
  EXPECT_TRUE(GenerationClient::create(loopback.target())->list_models());
}

TEST(Limits, CompressedRequestsAreRefused) {
  FakeService service;
  grpc::ChannelArguments arguments;
  arguments.SetCompressionAlgorithm(GRPC_COMPRESS_GZIP);
  Loopback loopback(service, {}, arguments);
  // 3 MiB that shrink to 3 KiB: unpacked it would be within the limit.
  const Stream stream = generate(loopback.stub(), prompt_request(std::string(3 << 20, 'x')));
  EXPECT_EQ(stream.status.error_code(), grpc::StatusCode::UNIMPLEMENTED);
  EXPECT_EQ(service.num_calls(), 0u);
}

TEST(Shutdown, LetsStreamsFinishAndRefusesNewOnes) {
  std::promise<void> release;
  const std::shared_future<void> released(release.get_future());
  FakeService service([&](FakeCall& call) {
    call.send(0, "a");
    released.wait();
    call.send(1, "b");
    call.finish();
  });
  Loopback loopback(service);
  grpc::ClientContext context;
  const auto reader = loopback.stub().Generate(&context, prompt_request());
  v1::GenerateResponse message;
  ASSERT_TRUE(reader->Read(&message));
  std::jthread shutdown([&] { loopback.server().shutdown(kTestPatience); });
  grpc::StatusCode answer = grpc::StatusCode::OK;
  while (answer != grpc::StatusCode::UNAVAILABLE) {
    // gRPC cancels a call that crosses the server's GOAWAY on the wire.
    ASSERT_TRUE(answer == grpc::StatusCode::OK || answer == grpc::StatusCode::CANCELLED) << answer;
    grpc::ClientContext other;
    v1::ServerInfo info;
    answer = loopback.stub().GetServerInfo(&other, {}, &info).error_code();
  }
  release.set_value();
  const Stream rest = read_all(*reader);
  EXPECT_TRUE(rest.status.ok()) << rest.status.error_message();
  EXPECT_EQ(message.text() + rest.text(), "ab");
}

TEST(Shutdown, ItsBeginningDoesNotBlockAndSendsClientsElsewhere) {
  FakeService service(send_and_hang);
  Loopback loopback(service);
  grpc::ClientContext context;
  const auto reader = loopback.stub().Generate(&context, prompt_request());
  v1::GenerateResponse message;
  ASSERT_TRUE(reader->Read(&message));
  loopback.server().begin_shutdown(kTestPatience);
  loopback.server().begin_shutdown(kTestPatience);  // a second one has nothing to do
  // The connection with the running call got GOAWAY: the channel looks for a new one, in vain.
  const auto deadline = std::chrono::system_clock::now() + kTestPatience;
  while (loopback.channel()->GetState(true) != GRPC_CHANNEL_TRANSIENT_FAILURE) {
    ASSERT_LT(std::chrono::system_clock::now(), deadline);
    std::this_thread::yield();
  }
  EXPECT_FALSE(service.wait_for_call()->is_cancelled());
  context.TryCancel();
  EXPECT_EQ(read_all(*reader).status.error_code(), grpc::StatusCode::CANCELLED);
  loopback.server().shutdown(kTestPatience);
}

TEST(Shutdown, CancelsWhatIsLeftAfterTheGrace) {
  FakeService service(send_and_hang);
  Loopback loopback(service);
  grpc::ClientContext context;
  const auto reader = loopback.stub().Generate(&context, prompt_request());
  v1::GenerateResponse message;
  ASSERT_TRUE(reader->Read(&message));
  loopback.server().shutdown(std::chrono::milliseconds(10));
  EXPECT_TRUE(service.wait_for_call()->is_cancelled());
  EXPECT_FALSE(read_all(*reader).status.ok());
  loopback.server().shutdown(kTestPatience);  // a second one has nothing to do
}

TEST(Shutdown, WaitsUntilManyCancelledStreamsHaveEnded) {
  for (int i = 0; i < 10; ++i) {
    FakeService service(send_and_hang);
    Loopback loopback(service);
    std::vector<std::unique_ptr<grpc::ClientContext>> contexts;
    std::vector<std::unique_ptr<grpc::ClientReader<v1::GenerateResponse>>> readers;
    for (size_t k = 0; k < 64; ++k) {
      contexts.push_back(std::make_unique<grpc::ClientContext>());
      readers.push_back(loopback.stub().Generate(contexts.back().get(), prompt_request()));
      ASSERT_TRUE(service.wait_for_call(k));
    }
    loopback.server().shutdown(std::chrono::seconds(0));
    for (const auto& reader : readers) EXPECT_FALSE(read_all(*reader).status.ok());
  }
}

}  // namespace
}  // namespace sluice::server
