// What goes into KServe v2: parameters in each of their ways, and what is refused by which name.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <string>

#include "tests/server/kserve_support.h"

namespace sluice::server {
namespace {

using inference::ModelInferRequest;
using inference::ModelInferResponse;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(KserveParameters, AbsentParametersStayAbsent) {
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

TEST(KserveParameters, ParametersComeAsText) {
  ModelInferRequest request = text_request();
  for (const auto& [name, text] : kParameterTexts) {
    (*request.mutable_parameters())[name].set_string_param(text);
  }
  expect_all_parameters(got_of(request));
}

TEST(KserveParameters, ParametersComeAsJsonInBothWaysOfVllmAtOnce) {
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

TEST(KserveParameters, ParametersComeAsTensorsOfAnyFittingType) {
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

TEST(KserveParameters, RefusesByName) {
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

TEST(KserveParameters, RefusesTensorsThatDoNotFit) {
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

TEST(KserveParameters, ErrorsOfTheValidatorHaveTheClientsNames) {
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

}  // namespace
}  // namespace sluice::server
