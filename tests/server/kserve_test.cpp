// KServe v2 over loopback: what Triton's clients send, what they get, and how streams end.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <map>

#include "inference/grpc_predict_v2.grpc.pb.h"
#include "tests/server/fake_service.h"
#include "tests/server/loopback.h"

namespace sluice::server {
namespace {

using inference::ModelInferRequest;
using inference::ModelInferResponse;
using inference::ModelStreamInferResponse;
using Stub = inference::GRPCInferenceService::Stub;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::unique_ptr<Stub> stub_of(const Loopback& loopback) {
  return inference::GRPCInferenceService::NewStub(loopback.channel());
}

void add_input(ModelInferRequest& request, const std::string& name, const std::string& text) {
  auto& input = *request.add_inputs();
  input.set_name(name);
  input.set_datatype("BYTES");
  input.add_shape(1);
  input.mutable_contents()->add_bytes_contents(text);
}
void add_flag(ModelInferRequest& request, const std::string& name, bool value = true) {
  auto& input = *request.add_inputs();
  input.set_name(name);
  input.set_datatype("BOOL");
  input.add_shape(1);
  input.mutable_contents()->add_bool_contents(value);
}

ModelInferRequest text_request(const std::string& text = "p", const std::string& id = "") {
  ModelInferRequest request;
  request.set_model_name("tiny");
  request.set_id(id);
  add_input(request, "text_input", text);
  return request;
}
const ModelInferResponse::InferOutputTensor* find_output(const ModelInferResponse& response,
                                                         const std::string& name) {
  for (const auto& output : response.outputs()) {
    if (output.name() == name) return &output;
  }
  return nullptr;
}
std::string text_of(const ModelInferResponse& response, const std::string& name = "text_output") {
  const auto* output = find_output(response, name);
  return output == nullptr || output->contents().bytes_contents_size() == 0
             ? ""
             : output->contents().bytes_contents(0);
}

grpc::Status infer(Stub& stub, const ModelInferRequest& request, ModelInferResponse* response) {
  grpc::ClientContext context;
  return stub.ModelInfer(&context, request, response);
}
grpc::Status infer(Stub& stub, const ModelInferRequest& request) {
  ModelInferResponse response;
  return infer(stub, request, &response);
}

// A service whose call ends at once; what it got is the only thing of interest.
GenerateRequest got_of(const ModelInferRequest& message) {
  FakeService service;
  const Loopback loopback(service);
  const grpc::Status status = infer(*stub_of(loopback), message);
  EXPECT_TRUE(status.ok()) << status.error_message();
  const auto call = service.num_calls() > 0 ? service.wait_for_call() : nullptr;
  return call ? call->request() : GenerateRequest{};
}

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

TEST(Kserve, AbsentParametersStayAbsent) {
  const GenerateRequest got = got_of(text_request("text"));
  EXPECT_EQ(got.prompt, "text");
  EXPECT_EQ(got.model, "tiny");
  EXPECT_FALSE(got.token_ids || got.chat || got.max_tokens || got.min_tokens || got.n);
  EXPECT_FALSE(got.temperature || got.top_p || got.top_k || got.min_p || got.seed);
  EXPECT_FALSE(got.repetition_penalty || got.presence_penalty || got.frequency_penalty);
  EXPECT_FALSE(got.ignore_eos || got.echo || got.logprobs || got.prompt_logprobs);
  EXPECT_TRUE(got.skip_special_tokens);
  EXPECT_TRUE(got.stop.empty() && got.stop_token_ids.empty() && got.logit_bias.empty());
}

// What the three ways to send parameters must all become.
void expect_all_parameters(const GenerateRequest& got) {
  EXPECT_EQ(got.max_tokens, 7);
  EXPECT_EQ(got.min_tokens, 2);
  EXPECT_EQ(got.temperature, 0.7);
  EXPECT_EQ(got.top_p, 0.9);
  EXPECT_EQ(got.top_k, 40);
  EXPECT_EQ(got.min_p, 0.05);
  EXPECT_EQ(got.repetition_penalty, 1.1);
  EXPECT_EQ(got.presence_penalty, 0.5);
  EXPECT_EQ(got.frequency_penalty, -0.5);
  EXPECT_EQ(got.seed, 18446744073709551615u);
  EXPECT_TRUE(got.ignore_eos);
  EXPECT_TRUE(got.echo);
  EXPECT_FALSE(got.skip_special_tokens);
}
const std::map<std::string, std::string> kParameterTexts = {{"max_tokens", "7"},
                                                            {"min_tokens", "2"},
                                                            {"temperature", "0.7"},
                                                            {"top_p", "0.9"},
                                                            {"top_k", "40"},
                                                            {"min_p", "0.05"},
                                                            {"repetition_penalty", "1.1"},
                                                            {"presence_penalty", "0.5"},
                                                            {"frequency_penalty", "-0.5"},
                                                            {"random_seed", "18446744073709551615"},
                                                            {"ignore_eos", "true"},
                                                            {"exclude_input_in_output", "false"},
                                                            {"skip_special_tokens", "false"}};

TEST(Kserve, ParametersComeAsText) {
  ModelInferRequest request = text_request();
  for (const auto& [name, text] : kParameterTexts) {
    (*request.mutable_parameters())[name].set_string_param(text);
  }
  expect_all_parameters(got_of(request));
}

TEST(Kserve, ParametersComeAsJsonInBothWaysOfVllmAtOnce) {
  std::string json = "{\"stop\": [\"a\", \"b\"], \"logit_bias\": {\"5\": -100}, \"n\": null";
  for (const auto& [name, text] : kParameterTexts) json += ", \"" + name + "\": " + text;
  ModelInferRequest request = text_request();
  add_input(request, "sampling_parameters", json + "}");
  (*request.mutable_parameters())["ignore_eos"].set_bool_param(true);
  const GenerateRequest got = got_of(request);
  expect_all_parameters(got);
  EXPECT_THAT(got.stop, ElementsAre("a", "b"));
  ASSERT_EQ(got.logit_bias.size(), 1u);
  EXPECT_EQ(got.logit_bias[0].token_id, 5);
  EXPECT_EQ(got.logit_bias[0].bias, -100);
}

TEST(Kserve, ParametersComeAsTensorsOfAnyFittingType) {
  ModelInferRequest request;
  const auto tensor = [&](const std::string& name, const std::string& type, int64_t size) {
    auto& input = *request.add_inputs();
    input.set_name(name);
    input.set_datatype(type);
    input.add_shape(1);
    input.add_shape(size);
    return input.mutable_contents();
  };
  auto* ids = tensor("input_ids", "INT64", 3);
  for (const int64_t id : {5, 6, 7}) ids->add_int64_contents(id);
  tensor("max_tokens", "UINT8", 1)->add_uint_contents(7);
  tensor("temperature", "FP64", 1)->add_fp64_contents(0.7);
  tensor("top_p", "FP32", 1)->add_fp32_contents(0.9F);
  tensor("top_k", "INT16", 1)->add_int_contents(-1);
  tensor("random_seed", "UINT64", 1)->add_uint64_contents(3);
  auto* words = tensor("stop_words", "BYTES", 3);
  for (const char* word : {"end", "", "stop"}) words->add_bytes_contents(word);
  tensor("bad_words", "BYTES", 1)->add_bytes_contents("");
  tensor("end_id", "INT32", 1)->add_int_contents(2);
  tensor("pad_id", "INT32", 1)->add_int_contents(2);
  tensor("beam_width", "INT32", 1)->add_int_contents(1);
  tensor("return_log_probs", "BOOL", 1)->add_bool_contents(true);
  const GenerateRequest got = got_of(request);
  EXPECT_FALSE(got.prompt);
  EXPECT_EQ(got.token_ids, (std::vector<int64_t>{5, 6, 7}));
  EXPECT_EQ(got.max_tokens, 7);
  EXPECT_EQ(got.temperature, 0.7);
  EXPECT_EQ(got.top_p, static_cast<double>(0.9F));
  EXPECT_EQ(got.top_k, -1);
  EXPECT_EQ(got.seed, 3u);
  EXPECT_THAT(got.stop, ElementsAre("end", "stop"));
  EXPECT_THAT(got.stop_token_ids, ElementsAre(2));
  EXPECT_EQ(got.logprobs, 0);
}

TEST(Kserve, RefusesByName) {
  FakeService service;
  const Loopback loopback(service);
  const auto stub = stub_of(loopback);
  const auto expect = [&](const ModelInferRequest& request, grpc::StatusCode code,
                          const std::string& words) {
    const grpc::Status status = infer(*stub, request);
    EXPECT_EQ(status.error_code(), code) << words << ": " << status.error_message();
    EXPECT_THAT(status.error_message(), HasSubstr(words));
  };
  const auto with = [](const std::string& name, const std::string& text) {
    ModelInferRequest request = text_request();
    (*request.mutable_parameters())[name].set_string_param(text);
    return request;
  };
  constexpr auto kInvalid = grpc::StatusCode::INVALID_ARGUMENT;
  constexpr auto kUnimplemented = grpc::StatusCode::UNIMPLEMENTED;
  expect(with("temprature", "1"), kInvalid, "unknown parameter \"temprature\"");
  expect(with("temperature", "warm"), kInvalid, "temperature must be a number");
  expect(with("max_tokens", "1.5"), kInvalid, "max_tokens must be a whole number");
  expect(with("max_tokens", "9223372036854775808"), kInvalid, "max_tokens must be a whole number");
  expect(with("seed", "-1"), kInvalid, "seed must be a whole number from 0");
  expect(with("ignore_eos", "1"), kInvalid, "ignore_eos must be true or false");
  expect(with("stream", "true"), kInvalid, "use ModelStreamInfer");
  expect(with("timeout", "-1"), kInvalid, "timeout must be from 0");
  expect(with("lora_name", "x"), kUnimplemented, "lora_name");
  expect(with("bad_words", "x"), kUnimplemented, "bad_words");
  expect(with("beam_width", "4"), kUnimplemented, "beam_width");
  expect(with("return_context_logits", "true"), kUnimplemented, "return_context_logits");
  expect(with("sequence_id", "3"), kUnimplemented, "sequence_id");
  expect(with("priority", "1"), kUnimplemented, "priority");
  expect(with("sampling_parameters", "{"), kInvalid, "sampling_parameters: not valid JSON");
  expect(with("sampling_parameters", "[1]"), kInvalid, "sampling_parameters must be a JSON object");
  expect(with("sampling_parameters", R"({"top_p": {}})"), kInvalid, "top_p must be a single value");
  expect(with("sampling_parameters", R"({"x": 1})"), kInvalid, "unknown parameter \"x\"");
  expect(with("sampling_parameters", R"({"logit_bias": {"a": 1}})"), kInvalid,
         "logit_bias must be");

  ModelInferRequest request = with("n", "2");
  (*request.mutable_parameters())["num_return_sequences"].set_int64_param(2);
  expect(request, kInvalid, "n and num_return_sequences are both given");
  request = with("top_p", "0.5");
  add_input(request, "top_p", "0.6");
  expect(request, kInvalid, "top_p is given twice");
  request = text_request();
  (*request.mutable_parameters())["top_p"];
  expect(request, kInvalid, "parameter \"top_p\" must be set");
  request = text_request();
  request.set_model_version("2");
  expect(request, grpc::StatusCode::NOT_FOUND, "model_version");
  request = text_request();
  request.add_outputs()->set_name("logits");
  expect(request, kInvalid, "unknown output \"logits\"");
  (*request.mutable_outputs(0)->mutable_parameters())["classification"].set_int64_param(1);
  request.mutable_outputs(0)->set_name("text_output");
  expect(request, kUnimplemented, "text_output is asked for with parameters");
  request = with("n", "2");
  request.add_outputs()->set_name("output_ids");
  expect(request, kInvalid, "output_ids of several completions needs stream");
  EXPECT_EQ(service.num_calls(), 0u);
}

TEST(Kserve, RefusesTensorsThatDoNotFit) {
  FakeService service;
  const Loopback loopback(service);
  const auto stub = stub_of(loopback);
  const auto expect = [&](const std::function<void(ModelInferRequest&)>& change,
                          const std::string& words) {
    ModelInferRequest request = text_request();
    change(request);
    const grpc::Status status = infer(*stub, request);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << status.error_message();
    EXPECT_THAT(status.error_message(), HasSubstr(words));
  };
  using M = ModelInferRequest;
  expect([](M& m) { m.mutable_inputs(0)->set_datatype("FP16"); }, "text_input has a datatype");
  expect([](M& m) { m.mutable_inputs(0)->set_datatype("INT32"); }, "another datatype than INT32");
  expect([](M& m) { m.mutable_inputs(0)->set_shape(0, 2); }, "shape of text_input");
  expect([](M& m) { m.mutable_inputs(0)->set_shape(0, -1); }, "shape of text_input");
  expect([](M& m) { m.mutable_inputs(0)->mutable_contents()->clear_bytes_contents(); },
         "shape of text_input");
  expect(
      [](M& m) {
        for (int i = 0; i < 4; ++i) m.mutable_inputs(0)->add_shape(int64_t{1} << 62);
      },
      "shape of text_input");
  expect(
      [](M& m) {
        m.mutable_inputs(0)->set_shape(0, 2);
        m.mutable_inputs(0)->mutable_contents()->add_bytes_contents("second");
      },
      "text_input must be one text");
  expect([](M& m) { m.add_raw_input_contents("x"); }, "contents beside raw_input_contents");
  const auto raw = [](const std::string& type, const std::string& bytes) {
    return [type, bytes](M& m) {
      m.mutable_inputs(0)->set_datatype(type);
      m.mutable_inputs(0)->clear_contents();
      m.add_raw_input_contents(bytes);
    };
  };
  expect(raw("BYTES", "\x01\0"), "are no BYTES elements");
  expect(raw("BYTES", std::string("\xff\xff\xff\xff", 4)), "are no BYTES elements");
  expect(raw("BYTES", std::string("\x03\0\0\0Hi", 6)), "are no BYTES elements");
  expect(raw("INT64", "1234567"), "7 bytes are no INT64 elements");
  expect(raw("BYTES", ""), "shape of text_input is not that of its 0 elements");
  expect(
      [&](M& m) {
        raw("BYTES", "")(m);
        m.add_raw_input_contents("");
      },
      "raw_input_contents has 2 elements for 1 inputs");
  EXPECT_EQ(service.num_calls(), 0u);
}

TEST(Kserve, ErrorsOfTheValidatorHaveTheClientsNames) {
  FakeService service;
  service.generate_error = Error{ErrorCode::kInvalidArgument, "stop has 17 entries, limit is 16"};
  const Loopback loopback(service);
  ModelInferRequest request = text_request();
  add_input(request, "stop_words", "x");
  EXPECT_EQ(infer(*stub_of(loopback), request).error_message(),
            "stop_words has 17 entries, limit is 16");
  service.generate_error->message = "prompt is empty";
  EXPECT_EQ(infer(*stub_of(loopback), request).error_message(), "text_input is empty");
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
}

}  // namespace
}  // namespace sluice::server
