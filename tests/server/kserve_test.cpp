// KServe v2 over loopback: what Triton's clients send, what they get, and how streams end.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <map>

#include "tests/server/kserve_support.h"

namespace sluice::server {
namespace {

using inference::ModelInferRequest;
using inference::ModelInferResponse;
using inference::ModelStreamInferResponse;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

void send_words(FakeCall& call) {
  call.send(11, "one ");
  call.send(12, "two");
  call.send_finish(FinishReason::kStop);
  GenerateSummary summary;
  summary.request_id = "drawn";
  summary.seed = 18446744073709551615u;
  summary.profile = "test/1";
  summary.digest = "00ff";
  summary.usage.prompt_tokens = 3;
  summary.usage.completion_tokens = 2;
  call.end(summary);
}

TEST(Kserve, AnswersWithTheWholeTextAndWhatARepeatNeeds) {
  FakeService service(send_words);
  const Loopback loopback(service);
  ModelInferRequest request = text_request("p", "my id");
  for (const char* name :
       {"return_finish_reason", "return_num_input_tokens", "return_num_output_tokens"}) {
    add_flag(request, name);
  }
  ModelInferResponse response;
  const grpc::Status status = infer(*stub_of(loopback), request, &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(response.model_name(), "tiny");
  EXPECT_EQ(response.model_version(), "1");
  EXPECT_EQ(response.id(), "my id");
  EXPECT_EQ(text_of(response), "one two");
  EXPECT_EQ(text_of(response, "finish_reason"), "stop");
  EXPECT_EQ(find_output(response, "num_input_tokens")->contents().uint_contents(0), 3u);
  EXPECT_EQ(find_output(response, "num_output_tokens")->contents().uint_contents(0), 2u);
  EXPECT_THAT(find_output(response, "text_output")->shape(), ElementsAre(1));
  EXPECT_EQ(find_output(response, "output_ids"), nullptr);
  EXPECT_TRUE(response.parameters().at("triton_final_response").bool_param());
  EXPECT_EQ(response.parameters().at("sluice_seed").string_param(), "18446744073709551615");
  EXPECT_EQ(response.parameters().at("sluice_profile").string_param(), "test/1");
  EXPECT_EQ(response.parameters().at("sluice_digest").string_param(), "00ff");
  EXPECT_EQ(response.parameters().at("sluice_request_id").string_param(), "drawn");
}

TEST(Kserve, IdsOfRequestAndTraceComeFromMetadata) {
  FakeService service;
  const Loopback loopback(service);
  const auto ask = [&](const inference::ModelInferRequest& request) {
    grpc::ClientContext context;
    context.AddMetadata("x-request-id", "from-metadata");
    context.AddMetadata("traceparent", "00-anything");
    inference::ModelInferResponse response;
    EXPECT_TRUE(stub_of(loopback)->ModelInfer(&context, request, &response).ok());
  };
  inference::ModelInferRequest named = text_request();
  named.clear_id();
  ask(named);
  named.set_id("from-message");
  ask(named);
  EXPECT_EQ(service.wait_for_call(0)->request().request_id, "from-metadata");
  EXPECT_EQ(service.wait_for_call(0)->request().traceparent, "00-anything");
  EXPECT_EQ(service.wait_for_call(1)->request().request_id, "from-message");
}

TEST(Kserve, AnswersRawWhatCameRaw) {
  FakeService service(send_words);
  const Loopback loopback(service);
  ModelInferRequest request;
  auto& text = *request.add_inputs();
  text.set_name("text_input");
  text.set_datatype("BYTES");
  text.add_shape(1);
  text.add_shape(1);
  request.add_raw_input_contents(std::string("\x02\0\0\0Hi", 6));
  auto& max_tokens = *request.add_inputs();
  max_tokens.set_name("max_tokens");
  max_tokens.set_datatype("INT32");
  max_tokens.add_shape(1);
  request.add_raw_input_contents(std::string("\x09\0\0\0", 4));
  request.add_outputs()->set_name("output_ids");
  request.add_outputs()->set_name("text_output");
  ModelInferResponse response;
  const grpc::Status status = infer(*stub_of(loopback), request, &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(service.wait_for_call()->request().prompt, "Hi");
  EXPECT_EQ(service.wait_for_call()->request().max_tokens, 9);
  ASSERT_EQ(response.outputs_size(), 2);
  EXPECT_EQ(response.outputs(0).name(), "output_ids");
  EXPECT_EQ(response.outputs(0).datatype(), "INT32");
  EXPECT_THAT(response.outputs(0).shape(), ElementsAre(2));
  EXPECT_EQ(response.raw_output_contents(0), std::string("\x0b\0\0\0\x0c\0\0\0", 8));
  EXPECT_EQ(response.raw_output_contents(1), std::string("\x07\0\0\0one two", 11));
  EXPECT_FALSE(response.outputs(1).has_contents());
}

TEST(Kserve, LogprobsComeAsTensors) {
  FakeService service([](FakeCall& call) {
    GenerateChunk chunk;
    chunk.token_ids = {11, 12};
    chunk.logprobs = {{{11, -0.5F, "a"}, {{11, -0.5F, "a"}, {9, -1.5F, "b"}}},
                      {{12, -2.0F, "c"}, {{9, -1.0F, "b"}}}};
    call.send(std::move(chunk));
    call.finish();
  });
  const Loopback loopback(service);
  ModelInferRequest request = text_request();
  (*request.mutable_parameters())["logprobs"].set_int64_param(1);
  for (const char* name : {"output_log_probs", "cum_log_probs", "cumulative_logprob", "logprobs"}) {
    request.add_outputs()->set_name(name);
  }
  ModelInferResponse response;
  ASSERT_TRUE(infer(*stub_of(loopback), request, &response).ok());
  EXPECT_EQ(service.wait_for_call()->request().logprobs, 1);
  EXPECT_THAT(find_output(response, "output_log_probs")->contents().fp32_contents(),
              ElementsAre(-0.5F, -2.0F));
  EXPECT_THAT(find_output(response, "cum_log_probs")->contents().fp32_contents(),
              ElementsAre(-2.5F));
  EXPECT_THAT(find_output(response, "cumulative_logprob")->contents().fp32_contents(),
              ElementsAre(-2.5F));
  EXPECT_EQ(text_of(response, "logprobs"),
            R"([{"11":{"decoded_token":"a","logprob":-0.5,"rank":1},)"
            R"("9":{"decoded_token":"b","logprob":-1.5,"rank":2}},)"
            R"({"12":{"decoded_token":"c","logprob":-2.0},)"
            R"("9":{"decoded_token":"b","logprob":-1.0,"rank":1}}])");
}

TEST(Kserve, TellsOfServerAndModels) {
  FakeService service;
  Loopback loopback(service);
  const auto stub = stub_of(loopback);
  const auto is_ready = [&](const std::string& model, const std::string& version = "") {
    grpc::ClientContext context;
    inference::ModelReadyRequest request;
    request.set_name(model);
    request.set_version(version);
    inference::ModelReadyResponse response;
    EXPECT_TRUE(stub->ModelReady(&context, request, &response).ok());
    return response.ready();
  };
  const auto is_server_ready = [&] {
    grpc::ClientContext context;
    inference::ServerReadyResponse response;
    EXPECT_TRUE(stub->ServerReady(&context, {}, &response).ok());
    return response.ready();
  };
  const auto is_server_live = [&] {
    grpc::ClientContext context;
    inference::ServerLiveResponse response;
    EXPECT_TRUE(stub->ServerLive(&context, {}, &response).ok());
    return response.live();
  };
  EXPECT_TRUE(is_server_live() && is_server_ready());
  EXPECT_TRUE(is_ready("tiny") && is_ready("tiny", "1"));
  EXPECT_FALSE(is_ready("tiny", "2") || is_ready("other"));

  grpc::ClientContext server_context;
  inference::ServerMetadataResponse server;
  ASSERT_TRUE(stub->ServerMetadata(&server_context, {}, &server).ok());
  EXPECT_EQ(server.name(), "sluice");
  EXPECT_EQ(server.version(), "1.2.3");

  inference::ModelMetadataRequest request;
  request.set_name("tiny");
  grpc::ClientContext context;
  inference::ModelMetadataResponse model;
  ASSERT_TRUE(stub->ModelMetadata(&context, request, &model).ok());
  EXPECT_EQ(model.name(), "tiny");
  EXPECT_THAT(model.versions(), ElementsAre("1"));
  EXPECT_EQ(model.inputs(0).name(), "text_input");
  EXPECT_EQ(model.inputs(0).datatype(), "BYTES");
  EXPECT_THAT(model.inputs(0).shape(), ElementsAre(1));
  EXPECT_EQ(model.outputs(0).name(), "text_output");
  EXPECT_EQ(model.properties().at("context_length"), "4096");
  request.set_name("other");
  grpc::ClientContext other;
  EXPECT_EQ(stub->ModelMetadata(&other, request, &model).error_code(), grpc::StatusCode::NOT_FOUND);

  service.set_health({.live = true, .ready = false});
  EXPECT_TRUE(is_server_live());
  EXPECT_FALSE(is_server_ready() || is_ready("tiny"));
  service.set_health({.live = false, .ready = false});
  EXPECT_FALSE(is_server_live());
  service.set_health({.live = true, .ready = true});
  loopback.server().set_not_serving();
  EXPECT_FALSE(is_server_ready() || is_ready("tiny"));
}

TEST(Kserve, ACancelledCallEndsItsRequest) {
  FakeService service([](FakeCall& call) {
    call.wait_for_cancel();
    call.end_cancelled();
  });
  const Loopback loopback(service);
  const auto stub = stub_of(loopback);
  for (const bool by_deadline : {false, true}) {
    grpc::ClientContext context;
    if (by_deadline) {
      context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(50));
    }
    std::thread canceller([&] {
      const auto call = service.wait_for_call(by_deadline ? 1 : 0);
      if (!by_deadline) context.TryCancel();
      EXPECT_TRUE(call && call->wait_for_cancel());
    });
    ModelInferResponse response;
    const auto status = stub->ModelInfer(&context, text_request(), &response);
    canceller.join();
    EXPECT_EQ(status.error_code(),
              by_deadline ? grpc::StatusCode::DEADLINE_EXCEEDED : grpc::StatusCode::CANCELLED);
  }
}

TEST(Kserve, ATimeoutInMicrosecondsIsTheRequestsDeadline) {
  ModelInferRequest request = text_request();
  (*request.mutable_parameters())["timeout"].set_int64_param(3'600'000'000);
  const auto before = std::chrono::steady_clock::now();
  const GenerateRequest got = got_of(request);
  const auto after = std::chrono::steady_clock::now();
  ASSERT_TRUE(got.deadline);
  EXPECT_GE(*got.deadline, before + std::chrono::hours(1));
  EXPECT_LE(*got.deadline, after + std::chrono::hours(1));
}

TEST(Kserve, AFullQueueSaysWhenToComeBack) {
  FakeService service;
  service.generate_error = Error{ErrorCode::kResourceExhausted, "the queue is full"};
  const Loopback loopback(service);
  grpc::ClientContext context;
  ModelInferResponse response;
  EXPECT_EQ(stub_of(loopback)->ModelInfer(&context, text_request(), &response).error_code(),
            grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(context.GetServerTrailingMetadata().count("grpc-retry-pushback-ms"), 1u);

  service.generate_error->retry_after = std::chrono::milliseconds(1500);
  grpc::ClientContext stream_context;
  const auto stream = stub_of(loopback)->ModelStreamInfer(&stream_context);
  inference::ModelStreamInferResponse message;
  ASSERT_TRUE(stream->Write(text_request()) && stream->Read(&message));
  EXPECT_THAT(message.error_message(), HasSubstr("RESOURCE_EXHAUSTED"));
  EXPECT_EQ(message.infer_response().parameters().at("retry_after_ms").int64_param(), 1500);
  stream_context.TryCancel();
}

}  // namespace
}  // namespace sluice::server
