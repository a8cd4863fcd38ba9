// A reader that is slow, or does not read at all: its own request waits, with bounded bytes.
#include <grpcpp/client_context.h>
#include <gtest/gtest.h>

#include "tests/server/fake_service.h"
#include "tests/server/loopback.h"

namespace sluice::server {
namespace {

constexpr int32_t kTokens = 4000;
constexpr size_t kTokenBytes = 8192;  // all texts: 32 MB, far more than any window
// What may be under way to a client that does not read: HTTP/2 windows, buffers of both sides.
constexpr int64_t kMaxBytesUnderWay = 4 << 20;

// Windows of 64 KiB that stay so: what a client holds unread does not depend on measured bandwidth.
grpc::ChannelArguments fixed_windows() {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 64 << 10);
  return arguments;
}

std::string token_text(int32_t i) {
  return std::string(kTokenBytes - 8, static_cast<char>('a' + i % 26)) +
         std::to_string(10'000'000 + i);
}

void send_many(FakeCall& call) {
  for (int32_t i = 0; i < kTokens; ++i) {
    if (!call.send(i, token_text(i))) {
      call.end_cancelled();
      return;
    }
  }
  call.finish();
}

// Calls that pass on the same connection: whatever the server could still write has been written.
void make_round_trips(v1::Generation::Stub& stub) {
  for (int i = 0; i < 100; ++i) {
    grpc::ClientContext context;
    v1::ServerInfo info;
    ASSERT_TRUE(stub.GetServerInfo(&context, {}, &info).ok());
  }
}

TEST(FlowControl, ARequestWhoseReaderDoesNotReadPausesWithBoundedBytesAndResumes) {
  FakeService service(send_many);
  Loopback loopback(service, {}, fixed_windows());
  grpc::ClientContext context;
  const auto reader = loopback.stub().Generate(&context, prompt_request());
  const auto call = service.wait_for_call();
  ASSERT_TRUE(call && call->wait_for_pause());
  make_round_trips(loopback.stub());
  ASSERT_TRUE(call->wait_for_pause());
  const int64_t max_undelivered = service.limits().max_undelivered_tokens;
  EXPECT_LE(call->num_sent() - call->num_taken(), max_undelivered);
  EXPECT_LE(call->num_taken() * static_cast<int64_t>(kTokenBytes), kMaxBytesUnderWay);
  EXPECT_LT(call->num_sent(), kTokens);

  const Stream stream = read_all(*reader);
  ASSERT_TRUE(stream.status.ok()) << stream.status.error_message();
  const std::vector<int32_t> ids = stream.token_ids();
  ASSERT_EQ(ids.size(), static_cast<size_t>(kTokens));
  std::string expected;
  for (int32_t i = 0; i < kTokens; ++i) {
    EXPECT_EQ(ids[static_cast<size_t>(i)], i);
    expected += token_text(i);
  }
  EXPECT_TRUE(stream.text() == expected);
  EXPECT_LT(stream.messages.size(), static_cast<size_t>(kTokens)) << "nothing was coalesced";
}

TEST(FlowControl, AStalledReaderDoesNotHoldUpItsNeighbours) {
  FakeService service([](FakeCall& call) {
    if (*call.request().prompt == "stalled") {
      send_many(call);
      return;
    }
    for (int32_t i = 0; i < 100; ++i) call.send(i, "x");
    call.finish();
  });
  Loopback loopback(service, {}, fixed_windows());
  grpc::ClientContext context;
  const auto stalled = loopback.stub().Generate(&context, prompt_request("stalled"));
  const auto call = service.wait_for_call();
  ASSERT_TRUE(call && call->wait_for_pause());
  for (int i = 0; i < 5; ++i) {
    const Stream stream = generate(loopback.stub(), prompt_request("neighbour"));
    ASSERT_TRUE(stream.status.ok());
    EXPECT_EQ(stream.text(), std::string(100, 'x'));
  }
  context.TryCancel();
  EXPECT_TRUE(call->wait_for_cancel());
  EXPECT_EQ(read_all(*stalled).status.error_code(), grpc::StatusCode::CANCELLED);
}

// The service ends a request that was paused for too long; its stream must not stay for ever.
TEST(FlowControl, AStalledStreamIsResetOnceItsRequestHasFailed) {
  FakeService service([](FakeCall& call) {
    for (int32_t i = 0; i < 256; ++i) call.send(i, token_text(i));
    call.end(fail(ErrorCode::kDeadlineExceeded, "not read for 60 s"));
  });
  service.limits_.stall_time = std::chrono::milliseconds(20);
  Loopback loopback(service, {}, fixed_windows());
  grpc::ClientContext context;
  const auto reader = loopback.stub().Generate(&context, prompt_request());
  ASSERT_TRUE(service.wait_for_call());
  // Ends only once no call is left: it waits for the stream, which the client never reads.
  loopback.server().shutdown(kTestPatience);
  const Stream stream = read_all(*reader);
  EXPECT_FALSE(stream.status.ok());
  EXPECT_LT(stream.token_ids().size(), 256u);
}

TEST(FlowControl, AStreamWhoseRequestIsCompleteWaitsForItsReaderNoLongerThanTheStallTime) {
  FakeService service([](FakeCall& call) {
    for (int32_t i = 0; i < 256; ++i) call.send(i, token_text(i));
    call.finish();
  });
  service.limits_.stall_time = std::chrono::milliseconds(20);
  Loopback loopback(service, {}, fixed_windows());
  grpc::ClientContext context;
  const auto reader = loopback.stub().Generate(&context, prompt_request());
  ASSERT_TRUE(service.wait_for_call());
  loopback.server().shutdown(kTestPatience);
  EXPECT_FALSE(read_all(*reader).status.ok());
}

}  // namespace
}  // namespace sluice::server
