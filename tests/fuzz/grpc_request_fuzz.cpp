// Requests of our own gRPC interface and of KServe's, and what they ask for through the validator.
//
// An input is a message in protobuf's text format, since chance seldom leaves the lengths of the
// wire format right, whose reader is protobuf's.
#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/text_format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <string>

#include "base/json.h"
#include "server/grpc/convert.h"
#include "server/grpc/kserve_request.h"
#include "tests/fuzz/driver.h"
#include "tests/fuzz/requests.h"

namespace sluice::fuzz {

std::span<const std::string_view> dictionary() {
  static constexpr std::array<std::string_view, 68> kWords = {
      // sluice.v1
      R"(prompt: "PRIVATE")", "token_ids: [1, 2]", "max_tokens: 5", "min_tokens: 1", "n: 2",
      "temperature: 0.5", "top_p: nan", "top_k: -1", "logit_bias { token_id: 1 bias: -inf }",
      "seed: 18446744073709551615", R"(stop: "PRIVATE")", "stop_token_ids: 256", "echo: true",
      "logprobs: 20", "prompt_logprobs: 0", "ttft_ms: 9223372036854775807",
      "total_ms: -9223372036854775808",
      R"(chat { messages { role: "user" content: "PRIVATE</s>" } })",
      R"(messages { role: "assistant" tool_calls_json: "[{\"a\": {}}]" })",
      R"(messages_json: "[{\"role\": \"user\", \"content\": \"</s>\"}]")",
      R"(tool_calls_json: "\357\273\277[]")", R"(tool_call_id: "{")", R"(tools_json: "[{}]")",
      R"(template_kwargs_json: "{\"extra\": \"</s>\"}")", "parse_special_tokens: false",
      "continue_final_message: true",
      // KServe
      R"(model_version: "1")",
      R"(inputs { name: "text_input" datatype: "BYTES" shape: 1 contents { bytes_contents: "PRIVATE" } })",
      R"(inputs { name: "input_ids" datatype: "INT32" shape: [1, 2] contents { int_contents: [1, 2] } })",
      R"(inputs { name: "max_tokens" datatype: "INT32" shape: 1 contents { int_contents: 7 } })",
      R"(parameters { key: "stream" value { bool_param: true } })",
      R"(parameters { key: "logprobs" value { string_param: "2" } })",
      R"(parameters { key: "timeout" value { int64_param: 1 } })",
      R"(parameters { key: "n" value { uint64_param: 2 } })",
      R"(parameters { key: "seed" value { double_param: 1 } })",
      R"(parameters { key: "sampling_parameters" value { string_param: "{\"top_k\": 3}" } })",
      R"(outputs { name: "text_output" })", R"(outputs { name: "output_ids" })",
      R"(outputs { name: "logprobs" })", R"(raw_input_contents: "\003\000\000\000abc")",
      R"("sampling_parameters")", R"("num_return_sequences")", R"("stop_words")", R"("bad_words")",
      R"("end_id")", R"("beam_width")", R"("exclude_input_in_output")", R"("return_log_probs")",
      R"("return_finish_reason")", R"("BOOL")", R"("INT8")", R"("INT64")", R"("UINT8")",
      R"("UINT32")", R"("UINT64")", R"("FP32")", R"("FP64")", "int64_contents: ", "uint_contents: ",
      "uint64_contents: ", "fp32_contents: ", "fp64_contents: ", "bool_contents: ", "contents { }",
      "\\377", "\\000", "\\033", "\\302\\205"};
  return kWords;
}

namespace {

using inference::ModelInferRequest;
using server::KserveCall;

class Silent final : public google::protobuf::io::ErrorCollector {
 public:
  void AddError(int, int, const std::string&) override {}
};

// The message as a server receives it. Nothing if protobuf refuses it.
template <typename Message>
std::optional<Message> receive(std::string_view text) {
  google::protobuf::TextFormat::Parser parser;
  Silent silent;
  parser.RecordErrorsTo(&silent);
  parser.SetRecursionLimit(32);
  Message message;
  if (!parser.ParseFromString(std::string(text), &message)) return std::nullopt;
  Message received;
  if (!received.ParseFromString(message.SerializeAsString())) return std::nullopt;
  return received;
}

std::string wire(const GenerateRequest& request) {
  return server::to_proto(request).SerializeAsString();
}

// Each message becomes one of the list, with its own texts.
void require_messages(const v1::Chat& sent, const ChatPrompt& chat) {
  constexpr int kDepthAround = 2;
  const auto messages = parse_json(chat.messages, 64 + kDepthAround);
  require(messages.has_value() && messages->is_array() &&
              messages->size() == static_cast<size_t>(sent.messages_size()),
          "messages become a list");
  for (int i = 0; i < sent.messages_size(); ++i) {
    const v1::ChatMessage& message = sent.messages(i);
    const Json& read = (*messages)[static_cast<size_t>(i)];
    require(read["role"] == message.role(), "a message keeps its role");
    require(
        message.has_content() ? read["content"] == message.content() : !read.contains("content"),
        "a message keeps its content");
    require(message.has_tool_call_id() ? read["tool_call_id"] == message.tool_call_id()
                                       : !read.contains("tool_call_id"),
            "a message keeps its call");
  }
}

void read_generate_request(const v1::GenerateRequest& message) {
  auto request = server::from_proto(v1::GenerateRequest(message));
  if (!request) return require_refusal(request.error());
  if (message.chat().messages_size() > 0) require_messages(message.chat(), *request->chat);
  const std::string written = wire(*request);
  v1::GenerateRequest again;
  require(again.ParseFromString(written), "a request can be sent on");
  const auto reread = server::from_proto(std::move(again));
  require(reread.has_value() && wire(*reread) == written, "a request is sent on as it came");
  if (const auto checked = check(*std::move(request)); !checked) require_refusal(checked.error());
}

// Elements as they are in raw_input_contents.
template <typename Element>
std::string raw(const google::protobuf::RepeatedField<Element>& elements) {
  return {reinterpret_cast<const char*>(elements.data()), elements.size() * sizeof(Element)};
}
std::string raw_texts(const google::protobuf::RepeatedPtrField<std::string>& texts) {
  std::string bytes;
  for (const std::string& text : texts) {
    const auto size = static_cast<uint32_t>(text.size());
    bytes.append(reinterpret_cast<const char*>(&size), sizeof(size));
    bytes += text;
  }
  return bytes;
}

// Nothing for the datatypes whose contents are wider than their raw elements.
std::optional<std::string> raw(const ModelInferRequest::InferInputTensor& tensor) {
  const auto& contents = tensor.contents();
  if (tensor.datatype() == "BOOL") return raw(contents.bool_contents());
  if (tensor.datatype() == "INT32") return raw(contents.int_contents());
  if (tensor.datatype() == "INT64") return raw(contents.int64_contents());
  if (tensor.datatype() == "UINT32") return raw(contents.uint_contents());
  if (tensor.datatype() == "UINT64") return raw(contents.uint64_contents());
  if (tensor.datatype() == "FP32") return raw(contents.fp32_contents());
  if (tensor.datatype() == "FP64") return raw(contents.fp64_contents());
  if (tensor.datatype() == "BYTES") return raw_texts(contents.bytes_contents());
  return std::nullopt;
}

void require_same_raw(ModelInferRequest message, const KserveCall& call) {
  if (message.inputs_size() == 0 || message.raw_input_contents_size() > 0) return;
  for (auto& tensor : *message.mutable_inputs()) {
    auto bytes = raw(tensor);
    if (!bytes) return;
    message.add_raw_input_contents(*std::move(bytes));
    tensor.clear_contents();
  }
  const auto same = server::read_kserve_call(message);
  require(same.has_value() && same->is_raw && same->outputs == call.outputs &&
              same->stream == call.stream && wire(same->request) == wire(call.request),
          "raw tensors say the same");
}

void read_infer_request(const ModelInferRequest& message) {
  auto call = server::read_kserve_call(message);
  const ModelInferRequest copy = message;  // its maps have an order of their own
  const auto again = server::read_kserve_call(copy);
  require(call.has_value() == again.has_value(), "what is read once is read again");
  if (!call) {
    require(call.error().message == again.error().message, "the first fault is always the same");
    return require_refusal(call.error());
  }
  require(!call->outputs.empty(), "an answer has an output");
  for (size_t i = 0; i < call->outputs.size(); ++i) {
    require(std::ranges::count(call->outputs, call->outputs[i]) == 1, "an output comes once");
  }
  require(!call->timeout || call->timeout->count() > 0, "a timeout lies ahead");
  require_same_raw(message, *call);
  auto checked = check(call->request);
  if (!checked) require_refusal(server::name_input(*call, std::move(checked.error())));
}

}  // namespace
}  // namespace sluice::fuzz

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  [[maybe_unused]] static const auto kLog = google::protobuf::SetLogHandler(nullptr);
  const std::string_view text = sluice::fuzz::as_text(data, size);
  if (const auto message = sluice::fuzz::receive<sluice::v1::GenerateRequest>(text)) {
    sluice::fuzz::read_generate_request(*message);
  }
  if (const auto message = sluice::fuzz::receive<inference::ModelInferRequest>(text)) {
    sluice::fuzz::read_infer_request(*message);
  }
  return 0;
}
