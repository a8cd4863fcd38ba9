// ModelStreamInfer over loopback: several requests of one stream, slow readers, ends.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "base/sha256.h"
#include "inference/grpc_predict_v2.grpc.pb.h"
#include "server/grpc/kserve_stream.h"
#include "tests/server/access/notices.h"
#include "tests/server/access/temporary_folder.h"
#include "tests/server/kserve_support.h"

namespace sluice::server {
namespace {

using inference::ModelInferRequest;
using inference::ModelInferResponse;
using inference::ModelStreamInferResponse;
using ::testing::HasSubstr;

ModelInferRequest request_of(const std::string& text, const std::string& id, bool stream = true) {
  ModelInferRequest request = text_request(text, id);
  (*request.mutable_parameters())["stream"].set_bool_param(stream);
  return request;
}

// A client's end of one stream.
class Client {
 public:
  explicit Client(const Loopback& loopback, const std::string& key = "")
      : stub_(inference::GRPCInferenceService::NewStub(loopback.channel())) {
    if (!key.empty()) context_.AddMetadata("authorization", "Bearer " + key);
    stream_ = stub_->ModelStreamInfer(&context_);
  }
  ~Client() { context_.TryCancel(); }

  bool write(const ModelInferRequest& request) { return stream_->Write(request); }
  bool read(ModelStreamInferResponse* response) { return stream_->Read(response); }
  void half_close() { stream_->WritesDone(); }
  void cancel() { context_.TryCancel(); }
  grpc::Status finish() { return stream_->Finish(); }
  // All that is left.
  std::vector<ModelStreamInferResponse> read_all() {
    std::vector<ModelStreamInferResponse> responses;
    ModelStreamInferResponse response;
    while (read(&response)) responses.push_back(response);
    return responses;
  }

 private:
  grpc::ClientContext context_;
  const std::unique_ptr<inference::GRPCInferenceService::Stub> stub_;
  std::unique_ptr<grpc::ClientReaderWriter<ModelInferRequest, ModelStreamInferResponse>> stream_;
};

bool is_final(const ModelStreamInferResponse& response) {
  return response.infer_response().parameters().at("triton_final_response").bool_param();
}
std::string text_of(const ModelStreamInferResponse& response) {
  return response.infer_response().outputs(0).contents().bytes_contents(0);
}
std::map<std::string, std::string> texts_by_id(
    const std::vector<ModelStreamInferResponse>& responses) {
  std::map<std::string, std::string> texts;
  for (const auto& response : responses) texts[response.infer_response().id()] += text_of(response);
  return texts;
}

// As many tokens as the prompt says, the text of each its number.
void count(FakeCall& call) {
  const int num_tokens = std::stoi(*call.request().prompt);
  for (int i = 0; i < num_tokens; ++i) {
    if (!call.send(i, std::to_string(i) + " ")) return call.end_cancelled();
  }
  call.finish();
}

TEST(KserveStream, StreamsPiecesAndMarksTheLast) {
  FakeService service(count);
  const Loopback loopback(service);
  Client client(loopback);
  ASSERT_TRUE(client.write(request_of("5", "a")));
  client.half_close();
  const auto responses = client.read_all();
  EXPECT_TRUE(client.finish().ok());
  ASSERT_FALSE(responses.empty());
  for (size_t i = 0; i < responses.size(); ++i) {
    EXPECT_EQ(responses[i].error_message(), "");
    EXPECT_EQ(is_final(responses[i]), i + 1 == responses.size());
    EXPECT_EQ(responses[i].infer_response().parameters().contains("sluice_seed"),
              i + 1 == responses.size());
  }
  EXPECT_EQ(texts_by_id(responses)["a"], "0 1 2 3 4 ");
}

TEST(KserveStream, WithoutStreamThereIsOneAnswer) {
  FakeService service(count);
  const Loopback loopback(service);
  Client client(loopback);
  ASSERT_TRUE(client.write(request_of("1000", "a", false)));
  client.half_close();
  const auto responses = client.read_all();
  EXPECT_TRUE(client.finish().ok());
  ASSERT_EQ(responses.size(), 1u) << "and its tokens, more than may be undelivered, came at all";
  EXPECT_TRUE(is_final(responses[0]));
  EXPECT_THAT(text_of(responses[0]), HasSubstr("998 999 "));
}

TEST(KserveStream, RequestsOfOneStreamRunSideBySide) {
  FakeService service([&](FakeCall& call) {
    call.send(1, "begun");
    // Ends only when the other one has begun too.
    while (service.num_calls() < 2) std::this_thread::yield();
    call.finish();
  });
  const Loopback loopback(service);
  Client client(loopback);
  ASSERT_TRUE(client.write(request_of("1", "a")));
  ASSERT_TRUE(client.write(request_of("1", "b")));
  client.half_close();
  EXPECT_EQ(texts_by_id(client.read_all()),
            (std::map<std::string, std::string>{{"a", "begun"}, {"b", "begun"}}));
  EXPECT_TRUE(client.finish().ok());
}

TEST(KserveStream, SeveralCompletionsSayWhichTheyAre) {
  FakeService service([](FakeCall& call) {
    for (int32_t index = 0; index < 2; ++index) call.send(1, index == 0 ? "x" : "y", index);
    call.send_finish(FinishReason::kLength, 1);
    call.send_finish(FinishReason::kStop, 0);
    call.end(GenerateSummary{});
  });
  const Loopback loopback(service);
  Client client(loopback);
  ModelInferRequest request = request_of("p", "a");
  (*request.mutable_parameters())["n"].set_int64_param(2);
  (*request.mutable_parameters())["return_finish_reason"].set_bool_param(true);
  ASSERT_TRUE(client.write(request));
  client.half_close();
  std::map<int, std::string> texts;
  std::map<int, std::string> reasons;
  for (const auto& response : client.read_all()) {
    const auto& outputs = response.infer_response().outputs();
    ASSERT_EQ(outputs.size(), 3);
    const int index = outputs[2].contents().int_contents(0);
    texts[index] += outputs[0].contents().bytes_contents(0);
    reasons[index] += outputs[1].contents().bytes_contents(0);
  }
  EXPECT_EQ(texts, (std::map<int, std::string>{{0, "x"}, {1, "y"}}));
  EXPECT_EQ(reasons, (std::map<int, std::string>{{0, "stop"}, {1, "length"}}));
}

TEST(KserveStream, AnErrorEndsItsRequestAndNotTheStream) {
  FakeService service([](FakeCall& call) {
    if (*call.request().prompt != "fail") return count(call);
    call.send(1, "some");
    call.end(fail(ErrorCode::kInternal, "a fault"));
  });
  const Loopback loopback(service);
  Client client(loopback);
  ModelStreamInferResponse response;
  ModelInferRequest bad = request_of("1", "bad");
  (*bad.mutable_parameters())["x"].set_int64_param(1);
  ASSERT_TRUE(client.write(bad));
  ASSERT_TRUE(client.read(&response));
  EXPECT_EQ(response.error_message(), "INVALID_ARGUMENT: unknown parameter \"x\"");
  EXPECT_EQ(response.infer_response().id(), "bad");
  EXPECT_TRUE(is_final(response));

  ASSERT_TRUE(client.write(request_of("fail", "late")));
  ASSERT_TRUE(client.read(&response));
  while (response.error_message().empty()) ASSERT_TRUE(client.read(&response));
  EXPECT_EQ(response.error_message(), "INTERNAL: a fault");
  EXPECT_EQ(response.infer_response().id(), "late");

  ASSERT_TRUE(client.write(request_of("1", "good")));
  client.half_close();
  EXPECT_EQ(texts_by_id(client.read_all())["good"], "0 ");
  EXPECT_TRUE(client.finish().ok());
}

TEST(KserveStream, ACancelledStreamEndsAllItsRequests) {
  FakeService service([](FakeCall& call) {
    call.wait_for_cancel();
    call.end_cancelled();
  });
  const Loopback loopback(service);
  Client client(loopback);
  for (const char* id : {"a", "b", "c"}) ASSERT_TRUE(client.write(request_of("1", id)));
  for (size_t i = 0; i < 3; ++i) ASSERT_TRUE(service.wait_for_call(i));
  client.cancel();
  EXPECT_EQ(client.finish().error_code(), grpc::StatusCode::CANCELLED);
  for (size_t i = 0; i < 3; ++i) EXPECT_TRUE(service.wait_for_call(i)->wait_for_cancel());
}

// Windows of 64 KiB that stay so.
grpc::ChannelArguments fixed_windows() {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 64 << 10);
  return arguments;
}

constexpr int32_t kManyTokens = 4000;
void send_much(FakeCall& call) {
  for (int32_t i = 0; i < kManyTokens; ++i) {
    if (!call.send(i, std::string(8192, 'x'))) return call.end_cancelled();
  }
  call.finish();
}

TEST(KserveStream, ASlowReaderPausesItsOwnRequestsOnly) {
  FakeService service([](FakeCall& call) {
    if (*call.request().prompt == "much") return send_much(call);
    count(call);
  });
  const Loopback loopback(service, {}, fixed_windows());
  Client slow(loopback);
  ASSERT_TRUE(slow.write(request_of("much", "slow")));
  const auto call = service.wait_for_call();
  ASSERT_TRUE(call && call->wait_for_pause());
  EXPECT_LT(call->num_sent(), kManyTokens);
  // What is under way to a client that does not read: windows and buffers of both sides.
  EXPECT_LE(call->num_taken() * 8192, 4 << 20);
  for (int i = 0; i < 5; ++i) {
    Client neighbour(loopback);
    ASSERT_TRUE(neighbour.write(request_of("100", "n")));
    neighbour.half_close();
    EXPECT_THAT(texts_by_id(neighbour.read_all())["n"], HasSubstr("98 99 "));
  }
  slow.half_close();
  EXPECT_EQ(texts_by_id(slow.read_all())["slow"].size(), size_t{kManyTokens} * 8192);
  EXPECT_TRUE(slow.finish().ok());
}

TEST(KserveStream, AStreamWhoseRequestsAreCompleteWaitsForItsReaderNoLongerThanTwoStallTimes) {
  FakeService service([](FakeCall& call) {
    for (int32_t i = 0; i < 256; ++i) call.send(i, std::string(8192, 'x'));
    call.finish();
  });
  service.limits_.stall_time = std::chrono::milliseconds(20);
  Loopback loopback(service, {}, fixed_windows());
  Client client(loopback);
  ASSERT_TRUE(client.write(request_of("p", "a")));
  ASSERT_TRUE(service.wait_for_call());
  // Ends only once no call is left: it waits for the stream, which the client never reads.
  loopback.server().shutdown(kTestPatience);
  client.read_all();
  EXPECT_FALSE(client.finish().ok());
}

TEST(KserveStream, ReadsNoMoreRequestsThanMayBeOpen) {
  FakeService service([](FakeCall& call) {
    if (!call.wait_for_cancel()) return;
    call.end_cancelled();
  });
  const Loopback loopback(service);
  Client client(loopback);
  for (size_t i = 0; i < 2 * KserveStream::kMaxRequests; ++i) {
    ASSERT_TRUE(client.write(request_of("p", std::to_string(i))));
  }
  ASSERT_TRUE(service.wait_for_call(KserveStream::kMaxRequests - 1));
  // Whatever the server would read it had time to read.
  for (int i = 0; i < 100; ++i) {
    grpc::ClientContext context;
    v1::ServerInfo info;
    ASSERT_TRUE(const_cast<Loopback&>(loopback).stub().GetServerInfo(&context, {}, &info).ok());
  }
  EXPECT_EQ(service.num_calls(), KserveStream::kMaxRequests);
}

TEST(KserveStream, ReadsOnWhenOpenRequestsHaveEnded) {
  FakeService service(count);
  const Loopback loopback(service);
  Client client(loopback);
  std::set<std::string> ids;
  std::thread writer([&] {
    for (size_t i = 0; i < 3 * KserveStream::kMaxRequests; ++i) {
      EXPECT_TRUE(client.write(request_of("3", std::to_string(i), i % 2 == 0)));
    }
    client.half_close();
  });
  for (const auto& [id, text] : texts_by_id(client.read_all())) {
    EXPECT_EQ(text, "0 1 2 ") << id;
    ids.insert(id);
  }
  writer.join();
  EXPECT_TRUE(client.finish().ok());
  EXPECT_EQ(ids.size(), 3 * KserveStream::kMaxRequests);
}

TEST(KserveStream, AnIdleStreamEndsWhenTheServerDrains) {
  FakeService service(count);
  Loopback loopback(service);
  Client client(loopback);
  ASSERT_TRUE(client.write(request_of("2", "a", false)));
  ModelStreamInferResponse response;
  ASSERT_TRUE(client.read(&response));
  loopback.server().begin_shutdown(kTestPatience);
  EXPECT_FALSE(client.read(&response));
  EXPECT_EQ(client.finish().error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST(KserveStream, ADrainLetsOpenRequestsFinish) {
  FakeService service([](FakeCall& call) {
    call.send(1, "one ");
    call.wait_for_delivered(1);
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    call.send(2, "two");
    call.finish();
  });
  Loopback loopback(service);
  Client client(loopback);
  ASSERT_TRUE(client.write(request_of("p", "a")));
  ModelStreamInferResponse response;
  ASSERT_TRUE(client.read(&response));
  loopback.server().begin_shutdown(kTestPatience);
  EXPECT_EQ(text_of(response) + texts_by_id(client.read_all())["a"], "one two");
  EXPECT_EQ(client.finish().error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST(KserveStream, AStreamWithoutARequestEndsAfterTheLimitOfAnAge) {
  FakeService service(count);
  service.limits_.stall_time = std::chrono::milliseconds(10);
  service.limits_.max_request_age = std::chrono::milliseconds(50);
  const Loopback loopback(service);
  Client client(loopback);
  ModelStreamInferResponse response;
  EXPECT_FALSE(client.read(&response));
  EXPECT_EQ(client.finish().error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
}

// Decision 21. What is long is parsed on another thread, so that it holds up nobody.
TEST(KserveStream, LivesOnTheThreadOfGenerate) {
  std::vector<std::thread::id> threads;
  FakeService service;
  service.on_generate = [&](const GenerateRequest&) {
    threads.push_back(std::this_thread::get_id());
  };
  Loopback loopback(service);
  EXPECT_TRUE(generate(loopback.stub(), prompt_request()).status.ok());
  Client client(loopback);
  for (const size_t size : {1, 100'000, 1}) {
    ASSERT_TRUE(client.write(request_of(std::string(size, 'x'), "a")));
    ModelStreamInferResponse response;
    ASSERT_TRUE(client.read(&response));
    EXPECT_TRUE(is_final(response));
  }
  ASSERT_EQ(threads.size(), 4u);
  EXPECT_EQ(threads[1], threads[0]);
  EXPECT_NE(threads[2], threads[0]);
  EXPECT_EQ(threads[3], threads[0]);
}

TEST(KserveStream, NeedsAKey) {
  TemporaryFolder folder;
  folder.write("keys", sha256_hex("secret") + " alice\n");
  auto keys = ApiKeys::load(folder / "keys", [](const std::string&) {});
  ASSERT_TRUE(keys.has_value());
  GrpcServerOptions options;
  options.api_keys = *std::move(keys);
  FakeService service(count);
  const Loopback loopback(service, options);
  for (const char* key : {"", "secreT"}) {
    Client client(loopback, key);
    EXPECT_EQ(client.finish().error_code(), grpc::StatusCode::UNAUTHENTICATED);
  }
  EXPECT_EQ(service.num_calls(), 0u);
  Client client(loopback, "secret");
  ASSERT_TRUE(client.write(request_of("1", "a")));
  client.half_close();
  EXPECT_EQ(texts_by_id(client.read_all())["a"], "0 ");
  EXPECT_EQ(service.wait_for_call()->request().client, "alice");
}

TEST(KserveStream, AKeyThatIsTakenAwayStartsNothingMore) {
  TemporaryFolder folder;
  folder.write("keys", sha256_hex("secret") + " alice\n");
  Notices notices;
  auto keys = ApiKeys::load(folder / "keys", notices.sink(), std::chrono::milliseconds(10));
  ASSERT_TRUE(keys.has_value());
  GrpcServerOptions options;
  options.api_keys = *std::move(keys);
  FakeService service(count);
  const Loopback loopback(service, options);
  Client client(loopback, "secret");
  ASSERT_TRUE(client.write(request_of("1", "a")));
  ASSERT_TRUE(service.wait_for_call());
  folder.write("keys", sha256_hex("other") + " bob\n");
  ASSERT_NE(notices.wait_for(0), "none came");
  ASSERT_TRUE(client.write(request_of("1", "b")));
  client.half_close();
  bool was_refused = false;
  for (const ModelStreamInferResponse& response : client.read_all()) {
    was_refused |= response.error_message().starts_with("UNAUTHENTICATED");
  }
  EXPECT_TRUE(was_refused);
  EXPECT_EQ(service.num_calls(), 1u);
}

}  // namespace
}  // namespace sluice::server
