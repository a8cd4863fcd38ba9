// The body of a completion or a chat of OpenAI's interface, and what it asks for through the
// validator.
#include <algorithm>
#include <array>
#include <string>

#include "base/json.h"
#include "server/http/http_error.h"
#include "server/http/openai_request.h"
#include "tests/fuzz/driver.h"
#include "tests/fuzz/requests.h"

namespace sluice::fuzz {

std::span<const std::string_view> dictionary() {
  static constexpr std::array<std::string_view, 56> kWords = {
      R"("prompt":)",
      R"("messages":)",
      R"("role":"user")",
      R"("role":"</s>")",
      R"("content":"PRIVATE</s>")",
      R"("content":[{"type":"text","text":"PRIVATE</s>"}])",
      R"("content":null)",
      R"("tool_calls":[])",
      R"("tools":[{"type":"</s>"}])",
      R"("tool_choice":"none")",
      R"("chat_template_kwargs":{"extra":"</s>"})",
      R"("chat_template_kwargs":{"extra":["</s>",{"</s>":1}]})",
      R"("add_generation_prompt":false)",
      R"("continue_final_message":true)",
      R"("parse_special_tokens":false)",
      R"("max_tokens":)",
      R"("max_completion_tokens":)",
      R"("min_tokens":)",
      R"("n":)",
      R"("temperature":)",
      R"("top_p":)",
      R"("top_k":)",
      R"("min_p":)",
      R"("repetition_penalty":)",
      R"("presence_penalty":)",
      R"("frequency_penalty":)",
      R"("logit_bias":{"7":-100})",
      R"("seed":)",
      R"("stop":)",
      R"("stop_token_ids":)",
      R"("ttft_ms":)",
      R"("total_ms":)",
      R"("echo":true)",
      R"("logprobs":)",
      R"("logprobs":true)",
      R"("top_logprobs":)",
      R"("stream":true)",
      R"("stream_options":{"include_usage":true})",
      R"("user":"PRIVATE")",
      R"("best_of":1)",
      R"("suffix":"")",
      R"("response_format":{"type":"text"})",
      R"("\u0000\u001b\u0085":1)",
      R"(["PRIVATE","b"])",
      "[[1,2],[3]]",
      "[1,2,3]",
      "\\ud83e\\udd96",
      "\xEF\xB7\x90",
      "null",
      "true",
      "{}",
      "[]",
      "{",
      "}",
      ",",
      "1e308"};
  return kWords;
}

namespace {

using server::FieldError;
using server::OpenAiCall;
using server::OpenAiRoute;

void require_answer(const FieldError& error) {
  require_refusal(error.error);
  const auto body = parse_json(server::error_response(error.error, error.param).body);
  require(body.has_value() && (*body)["error"]["message"] == error.error.message,
          "a refusal is answered in JSON");
}

// The parts that the template reads reach it as they stood.
void require_parts(const ChatPrompt& chat, const Json& body) {
  const auto is_same = [&](const std::string& text, const char* name) {
    if (text.empty()) return !body.contains(name) || body[name].is_null();
    const auto part = parse_json(text);
    return part.has_value() && *part == body[name];
  };
  require(is_same(chat.messages, "messages"), "messages are as they came");
  require(body.value("tool_choice", Json()) == "none" ? chat.tools.empty()
                                                      : is_same(chat.tools, "tools"),
          "tools are as they came");
  require(is_same(chat.template_kwargs, "chat_template_kwargs"), "variables are as they came");
}

void read(OpenAiRoute route, std::string_view body) {
  auto call = server::read_openai_call(route, body);
  if (!call) {
    require(call.error().param.empty() || body.find(call.error().param) != std::string_view::npos ||
                call.error().error.message.ends_with("is missing"),
            "a refusal is about a field of the body");
    require_answer(call.error());
    return;
  }
  const auto json = parse_json(body);
  require(json.has_value() && json->is_object() && json->size() == call->names.size(),
          "every field has been read");
  const size_t num_prompts = call->num_prompts();
  require(num_prompts >= 1 && num_prompts <= server::kMaxPrompts, "prompts are few");
  if (call->common.chat) require_parts(*call->common.chat, *json);
  for (size_t i = 0; i < num_prompts; ++i) {
    GenerateRequest request = call->take_request(i);
    require(
        request.prompt.has_value() + request.token_ids.has_value() + request.chat.has_value() == 1,
        "a request has one prompt");
    auto checked = check(std::move(request));
    if (checked) continue;
    const FieldError named = server::name_field(*call, std::move(checked.error()));
    require(named.param.empty() || std::ranges::find(call->names, named.param) != call->names.end(),
            "a refusal is about a field of the body");
    require_answer(named);
    return;  // as the server does
  }
}

}  // namespace
}  // namespace sluice::fuzz

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view body = sluice::fuzz::as_text(data, size);
  sluice::fuzz::read(sluice::server::OpenAiRoute::kCompletions, body);
  sluice::fuzz::read(sluice::server::OpenAiRoute::kChat, body);
  return 0;
}
