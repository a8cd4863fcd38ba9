// Clients that cancel, vanish or run out of time: at once, at every stage, and nobody else notices.
#include <gtest/gtest.h>

#include <future>

#include "server/grpc/generation_client.h"
#include "tests/server/fake_service.h"
#include "tests/server/loopback.h"
#include "tests/server/raw_http2.h"

namespace sluice::server {
namespace {

const std::string kGeneratePath = "/sluice.v1.Generation/Generate";

// Sends num_tokens tokens, waits for the cancel, ends as the engine does.
FakeService::Script tokens_then_wait(int32_t num_tokens) {
  return [num_tokens](FakeCall& call) {
    for (int32_t i = 0; i < num_tokens; ++i) call.send(i, "x");
    call.wait_for_cancel();
    call.end_cancelled();
  };
}

TEST(Cancel, ReachesTheServiceAtEveryTokenIndex) {
  for (int32_t num_tokens = 0; num_tokens < 8; ++num_tokens) {
    SCOPED_TRACE(num_tokens);
    FakeService service(tokens_then_wait(num_tokens));
    Loopback loopback(service);
    grpc::ClientContext context;
    const auto reader = loopback.stub().Generate(&context, prompt_request());
    const auto call = service.wait_for_call();
    ASSERT_TRUE(call);
    int32_t num_read = 0;
    v1::GenerateResponse message;
    while (num_read < num_tokens && reader->Read(&message)) num_read += message.token_ids_size();
    EXPECT_EQ(num_read, num_tokens);
    EXPECT_FALSE(call->is_cancelled());
    context.TryCancel();
    EXPECT_TRUE(call->wait_for_cancel());
    EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  }
}

TEST(Cancel, WhileTheServiceStillTokenizes) {
  FakeService service(tokens_then_wait(3));
  std::promise<void> entered, leave;
  service.on_generate = [&](const GenerateRequest&) {
    entered.set_value();
    leave.get_future().wait();
  };
  Loopback loopback(service);
  grpc::ClientContext context;
  const auto reader = loopback.stub().Generate(&context, prompt_request());
  entered.get_future().wait();
  context.TryCancel();
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  leave.set_value();
  const auto call = service.wait_for_call();
  ASSERT_TRUE(call);
  EXPECT_TRUE(call->wait_for_cancel());
}

// The service goes on for a while after the cancel, even after the call's objects are gone.
TEST(Cancel, AServiceThatIsLateStillFindsItsObserver) {
  FakeService service([](FakeCall& call) {
    call.wait_for_cancel();
    for (int32_t i = 0; i < 100; ++i) {
      GenerateChunk chunk;
      chunk.token_ids = {i};
      call.send(chunk);
    }
    call.send_finish(FinishReason::kCancelled);
    call.end_cancelled();
  });
  {
    Loopback loopback(service);
    grpc::ClientContext context;
    const auto reader = loopback.stub().Generate(&context, prompt_request());
    ASSERT_TRUE(service.wait_for_call());
    context.TryCancel();
    EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  }
}

// A thousand races of the client's cancel against the stream's own end.
TEST(Cancel, RacesWithTheEndOfTheStream) {
  FakeService service([](FakeCall& call) {
    for (int32_t i = 0; i < 3; ++i) call.send(i, "x");
    call.finish();
  });
  Loopback loopback(service);
  int num_ok = 0;
  for (int i = 0; i < 1000; ++i) {
    grpc::ClientContext context;
    const auto reader = loopback.stub().Generate(&context, prompt_request());
    v1::GenerateResponse message;
    for (int read = 0; read < i % 5; ++read) reader->Read(&message);
    context.TryCancel();
    const grpc::Status status = read_all(*reader).status;
    EXPECT_TRUE(status.ok() || status.error_code() == grpc::StatusCode::CANCELLED);
    num_ok += status.ok() ? 1 : 0;
  }
  EXPECT_EQ(service.num_calls() > 0, true);
  EXPECT_TRUE(generate(loopback.stub(), prompt_request()).status.ok());
  RecordProperty("ended_before_the_cancel", num_ok);
}

TEST(Cancel, TheBlockingClientCancelsWhenToldToStop) {
  FakeService service(tokens_then_wait(1));
  Loopback loopback(service);
  const auto client = GenerationClient::create(loopback.target());
  const auto summary = client->generate({}, [](const GenerateChunk&) { return false; });
  EXPECT_EQ(summary.error().code, ErrorCode::kCancelled);
  EXPECT_TRUE(service.wait_for_call()->wait_for_cancel());
}

TEST(Disconnect, ACutConnectionCancelsItsRequestsOnly) {
  FakeService service([](FakeCall& call) {
    call.send(0, "x");
    if (call.request().max_tokens) {
      call.wait_for_cancel();
      call.end_cancelled();
      return;
    }
    call.finish();
  });
  Loopback loopback(service);
  v1::GenerateRequest endless = prompt_request();
  endless.set_max_tokens(1'000'000);
  RawHttp2 raw(loopback.server().port());
  for (uint32_t stream : {1u, 3u}) {
    raw.open(stream, kGeneratePath);
    raw.send_message(stream, endless.SerializeAsString());
  }
  grpc::ClientContext context;
  ASSERT_TRUE(service.wait_for_call(1));
  const auto neighbour = loopback.stub().Generate(&context, endless);
  const auto neighbour_call = service.wait_for_call(2);
  ASSERT_TRUE(neighbour_call);
  raw.disconnect();
  EXPECT_TRUE(service.wait_for_call(0)->wait_for_cancel());
  EXPECT_TRUE(service.wait_for_call(1)->wait_for_cancel());
  EXPECT_FALSE(neighbour_call->is_cancelled());
  EXPECT_TRUE(generate(loopback.stub(), prompt_request()).status.ok());
  context.TryCancel();
  EXPECT_EQ(read_all(*neighbour).status.error_code(), grpc::StatusCode::CANCELLED);
}

TEST(Deadline, AbsentIsAbsentAndAHundredYearsAreNone) {
  FakeService service;
  Loopback loopback(service);
  ASSERT_TRUE(generate(loopback.stub(), prompt_request()).status.ok());
  EXPECT_FALSE(service.wait_for_call(0)->request().deadline);
  RawHttp2 raw(loopback.server().port());
  raw.open(1, kGeneratePath, {{"grpc-timeout", "99999999H"}});
  raw.send_message(1, prompt_request().SerializeAsString());
  EXPECT_EQ(raw.read_status(1), 0);
  ASSERT_TRUE(service.wait_for_call(1));
  EXPECT_FALSE(service.wait_for_call(1)->request().deadline);
}

TEST(Deadline, ReachesTheServiceAsItsOwnTime) {
  FakeService service;
  Loopback loopback(service);
  grpc::ClientContext context;
  const auto before = std::chrono::steady_clock::now();
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::minutes(30));
  ASSERT_TRUE(read_all(*loopback.stub().Generate(&context, prompt_request())).status.ok());
  const auto deadline = service.wait_for_call()->request().deadline;
  ASSERT_TRUE(deadline);
  EXPECT_GT(*deadline - before, std::chrono::minutes(29));
  EXPECT_LT(*deadline - before, std::chrono::minutes(31));
}

// A client library does not even send such a call; ours must not trust that.
TEST(Deadline, ZeroNeverReachesTheService) {
  FakeService service;
  Loopback loopback(service);
  for (const char* timeout : {"0n", "0m", "0H"}) {
    SCOPED_TRACE(timeout);
    RawHttp2 raw(loopback.server().port());
    raw.open(1, kGeneratePath, {{"grpc-timeout", timeout}});
    raw.send_message(1, prompt_request().SerializeAsString());
    const int status = raw.read_status(1);
    EXPECT_TRUE(status == grpc::StatusCode::DEADLINE_EXCEEDED || status == -1) << status;
  }
  EXPECT_EQ(service.num_calls(), 0u);
}

TEST(Deadline, PastAtTheClientIsDeadlineExceeded) {
  FakeService service;
  Loopback loopback(service);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() - std::chrono::seconds(1));
  const Stream stream = read_all(*loopback.stub().Generate(&context, prompt_request()));
  EXPECT_EQ(stream.status.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_EQ(service.num_calls(), 0u);
}

TEST(Deadline, OneMillisecondEndsWhatItStarted) {
  FakeService service(tokens_then_wait(1));
  Loopback loopback(service);
  for (int i = 0; i < 50; ++i) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(1));
    const Stream stream = read_all(*loopback.stub().Generate(&context, prompt_request()));
    EXPECT_EQ(stream.status.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  }
  for (size_t i = 0; i < service.num_calls(); ++i) {
    EXPECT_TRUE(service.wait_for_call(i)->wait_for_cancel());
  }
}

TEST(Deadline, PassingMidStreamCancelsTheRequest) {
  FakeService service(tokens_then_wait(2));
  Loopback loopback(service);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(200));
  const Stream stream = read_all(*loopback.stub().Generate(&context, prompt_request()));
  EXPECT_EQ(stream.status.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_TRUE(service.wait_for_call()->wait_for_cancel());
}

}  // namespace
}  // namespace sluice::server
