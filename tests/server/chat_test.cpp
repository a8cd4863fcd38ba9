// Chats over loopback: what the service gets of a message, and what a client gets back.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/grpc/generation_client.h"
#include "tests/server/fake_service.h"
#include "tests/server/loopback.h"
#include "tests/server/raw_call.h"

namespace sluice::server {
namespace {

using ::testing::HasSubstr;

// What reaches the service of a call with `chat`.
ChatPrompt send_chat(const v1::Chat& chat) {
  FakeService service;
  Loopback loopback(service);
  v1::GenerateRequest request;
  *request.mutable_chat() = chat;
  const Stream stream = generate(loopback.stub(), request);
  EXPECT_TRUE(stream.status.ok()) << stream.status.error_message();
  const auto call = service.wait_for_call();
  EXPECT_TRUE(call != nullptr && call->request().chat.has_value());
  EXPECT_FALSE(call->request().prompt || call->request().token_ids);
  return call->request().chat.value_or(ChatPrompt());
}

TEST(Chat, MessagesBecomeTheValidatorsJson) {
  v1::Chat chat;
  v1::ChatMessage& user = *chat.add_messages();
  user.set_role("user");
  user.set_content("a \"b\"\n\\ 人\x01");
  user.set_name("Ada");
  v1::ChatMessage& assistant = *chat.add_messages();
  assistant.set_role("assistant");
  assistant.set_tool_calls_json(
      "\xEF\xBB\xBF"
      R"([{"z": 1.0, "a": [2]}])");  // a byte order mark
  v1::ChatMessage& tool = *chat.add_messages();
  tool.set_role("tool");
  tool.set_content("");
  tool.set_tool_call_id("7");
  const ChatPrompt got = send_chat(chat);
  EXPECT_EQ(got.messages, R"([{"role": "user", "content": "a \"b\"\n\\ 人\u0001", "name": "Ada"}, )"
                          R"({"role": "assistant", "tool_calls": [{"z": 1.0, "a": [2]}]}, )"
                          R"({"role": "tool", "content": "", "tool_call_id": "7"}])");
  EXPECT_EQ(got.tools, "");
  EXPECT_EQ(got.template_kwargs, "");
  EXPECT_FALSE(got.add_generation_prompt.has_value());
  EXPECT_FALSE(got.continue_final_message);
  EXPECT_TRUE(got.parse_special_tokens);
}

TEST(Chat, JsonTextsAndSwitchesArriveAsTheyAre) {
  v1::Chat chat;
  chat.set_messages_json(R"([ {"role":"user", "content":"Hi", "z":1, "a":1e2} ])");
  chat.set_tools_json(R"([{"z": 1, "a": 2}])");
  chat.set_template_kwargs_json(R"({"enable_thinking": false})");
  chat.set_add_generation_prompt(false);
  chat.set_continue_final_message(true);
  chat.set_parse_special_tokens(false);
  const ChatPrompt got = send_chat(chat);
  EXPECT_EQ(got.messages, chat.messages_json());
  EXPECT_EQ(got.tools, chat.tools_json());
  EXPECT_EQ(got.template_kwargs, chat.template_kwargs_json());
  EXPECT_EQ(got.add_generation_prompt, false);
  EXPECT_TRUE(got.continue_final_message);
  EXPECT_FALSE(got.parse_special_tokens);
}

TEST(Chat, TheClientSendsWhatItGot) {
  FakeService service;
  Loopback loopback(service);
  const auto client = GenerationClient::create(loopback.target());
  GenerateRequest request;
  request.chat = {.messages = R"([{"role": "user", "content": "Hi"}])",
                  .tools = "[]",
                  .template_kwargs = "{}",
                  .add_generation_prompt = true,
                  .continue_final_message = true,
                  .parse_special_tokens = false};
  ASSERT_TRUE(client->generate(request, [](GenerateChunk) { return true; }));
  const ChatPrompt got = service.wait_for_call()->request().chat.value_or(ChatPrompt());
  EXPECT_EQ(got.messages, request.chat->messages);
  EXPECT_EQ(got.tools, "[]");
  EXPECT_EQ(got.template_kwargs, "{}");
  EXPECT_EQ(got.add_generation_prompt, true);
  EXPECT_TRUE(got.continue_final_message);
  EXPECT_FALSE(got.parse_special_tokens);

  const auto rendered = client->render_chat("tiny", *request.chat);
  ASSERT_TRUE(rendered) << rendered.error().message;
  EXPECT_EQ(rendered->text, request.chat->messages);
  EXPECT_EQ(rendered->token_ids.size(), request.chat->messages.size());
  EXPECT_EQ(client->render_chat("other", *request.chat).error().code, ErrorCode::kNotFound);
  const auto models = client->list_models();
  ASSERT_TRUE(models);
  EXPECT_TRUE(models->front().has_chat_template);
}

TEST(Chat, WhatIsNoChatIsRefusedBeforeTheService) {
  FakeService service;
  Loopback loopback(service);
  v1::GenerateRequest request;
  v1::ChatMessage& message = *request.mutable_chat()->add_messages();
  message.set_role("assistant");
  const auto refused = [&](const std::string& words) {
    const Stream stream = generate(loopback.stub(), request);
    EXPECT_EQ(stream.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    EXPECT_THAT(stream.status.error_message(), HasSubstr(words));
  };
  message.set_tool_calls_json(R"([], "role": "system")");
  refused("chat.messages[0].tool_calls_json: not valid JSON");
  message.set_tool_calls_json(std::string(1000, '['));
  refused("chat.messages[0].tool_calls_json: JSON is nested");
  message.clear_tool_calls_json();
  request.mutable_chat()->set_messages_json("[]");
  refused("chat.messages and chat.messages_json are both set");
  EXPECT_EQ(service.num_calls(), 0u);
}

TEST(Chat, TextInsideThatIsNotUtf8IsNamed) {
  FakeService service;
  Loopback loopback(service);
  const std::string content = string_field(1, string_field(2, "ab\xff"));
  const std::vector<std::pair<std::string, std::string>> cases = {
      {string_field(24, content), "chat.messages.content is not UTF-8: byte 2"},
      {string_field(24, string_field(2, "\xff")), "chat.messages_json is not UTF-8: byte 0"},
      {string_field(24, string_field(3, "[\xff]")), "chat.tools_json is not UTF-8: byte 1"}};
  for (const auto& [bytes, words] : cases) {
    const grpc::Status status = call_raw(loopback, "Generate", bytes);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    EXPECT_THAT(status.error_message(), HasSubstr(words));
  }
  // Cut off inside the chat: no message at all.
  EXPECT_EQ(call_raw(loopback, "Generate", "\xC2\x01\x0A\x0A\x7Fx").error_code(),
            grpc::StatusCode::INTERNAL);
}

}  // namespace
}  // namespace sluice::server
