// A chat template, rendered over a conversation with tools.
#include <array>
#include <nlohmann/json.hpp>

#include "tests/fuzz/driver.h"
#include "tokenizer/chat/chat_template.h"

namespace sluice::fuzz {

std::span<const std::string_view> dictionary() {
  static constexpr std::array<std::string_view, 56> kWords = {"{%",
                                                              "%}",
                                                              "{{",
                                                              "}}",
                                                              "{%-",
                                                              "-%}",
                                                              "{#",
                                                              "#}",
                                                              "if ",
                                                              "elif ",
                                                              "else",
                                                              "endif",
                                                              "for ",
                                                              "endfor",
                                                              " in ",
                                                              "set ",
                                                              "macro ",
                                                              "endmacro",
                                                              "call",
                                                              "filter ",
                                                              "with ",
                                                              "namespace(",
                                                              "loop.index0",
                                                              "loop.previtem",
                                                              "messages",
                                                              "message['content']",
                                                              "message.role",
                                                              "tools",
                                                              "bos_token",
                                                              "add_generation_prompt",
                                                              "| tojson",
                                                              "| trim",
                                                              "| length",
                                                              "| map(attribute='x')",
                                                              "| join(', ')",
                                                              "| selectattr('role')",
                                                              "| items",
                                                              "| default('')",
                                                              "is defined",
                                                              "is string",
                                                              "is mapping",
                                                              "not ",
                                                              " and ",
                                                              " or ",
                                                              "raise_exception('x')",
                                                              "strftime_now('%Y')",
                                                              "[::-1]",
                                                              "[1:]",
                                                              ".split('x')",
                                                              ".startswith('x')",
                                                              "range(9)",
                                                              "~",
                                                              "**",
                                                              "//",
                                                              "'a' * 9",
                                                              "dict(a=1)"};
  return kWords;
}

}  // namespace sluice::fuzz

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using sluice::fuzz::require;
  using sluice::tokenizer::OrderedJson;
  static const OrderedJson kMessages = OrderedJson::parse(R"([
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi \u00e9 <b>"},
    {"role": "assistant", "content": null, "tool_calls": [{"type": "function", "id": "c1",
      "function": {"name": "f", "arguments": {"x": 1, "y": [true, null, 1.5]}}}]},
    {"role": "tool", "tool_call_id": "c1", "name": "f", "content": "4"},
    {"role": "user", "content": [{"type": "text", "text": "So?"}]}])");
  static const OrderedJson kVariables = OrderedJson::parse(R"({
    "bos_token": "<s>", "eos_token": "</s>", "tools": [{"type": "function", "function": {
      "name": "f", "description": "d", "parameters": {"type": "object", "properties": {}}}}]})");
  // Steps bound the time, so there are fewer here than in the product, for the sanitizer's sake.
  const sluice::tokenizer::ChatLimits limits{
      .max_template_bytes = 1 << 16, .max_output_bytes = 1 << 20, .max_steps = 100'000};
  const auto compiled =
      sluice::tokenizer::ChatTemplate::compile(sluice::fuzz::as_text(data, size), limits);
  if (!compiled) {
    require(!compiled.error().message.empty(), "a refusal says why");
    return 0;
  }
  const auto text = compiled->render(kMessages, {.variables = &kVariables});
  require(text ? text->size() <= limits.max_output_bytes : !text.error().message.empty(),
          "an answer is bounded, a refusal says why");
  return 0;
}
