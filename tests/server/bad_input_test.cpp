// Bad input through sluice.v1.Generation that no table row can say: bytes, times, other methods.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/grpc/generation_client.h"
#include "tests/server/bad_input.h"
#include "tests/server/raw_call.h"
#include "tests/server/raw_http2.h"

namespace sluice::server {
namespace {

using ::testing::HasSubstr;

TEST_F(BadInput, ChatsOfTheWire) {
  const auto expect_refused = [](const std::string& name, const v1::Chat& chat,
                                 const std::string& words) {
    beside_a_neighbour(name, [&] {
      v1::GenerateRequest request;
      *request.mutable_chat() = chat;
      expect_error(generate(loopback_->stub(), request).status, ErrorCode::kInvalidArgument, words);
    });
  };
  v1::Chat chat;
  expect_refused("an empty chat", chat, "chat.messages is empty");
  v1::ChatMessage& message = *chat.add_messages();
  expect_refused("an empty message", chat, "chat.messages[0].role is 0");
  message.set_role("assistant");
  expect_refused("no content", chat, "chat.messages[0] has no content");
  for (const char* calls : {"[", "[], \"role\": \"system\"", "]", "}], [{", "\"x"}) {
    message.set_tool_calls_json(calls);
    expect_refused(std::string("tool calls ") + calls, chat,
                   "chat.messages[0].tool_calls_json: not valid JSON");
  }
  message.set_tool_calls_json("{}");
  expect_refused("tool calls are an object", chat, "chat.messages[0].tool_calls must be an array");
  message.clear_tool_calls_json();
  message.set_content("Hi");
  chat.set_messages_json("[]");
  expect_refused("messages and messages_json", chat, "both set");
  beside_a_neighbour("a chat's text that is not UTF-8", [&] {
    const std::string bytes = string_field(24, string_field(1, string_field(2, "a\x80")));
    expect_error(call_raw(*loopback_, "Generate", bytes), ErrorCode::kInvalidArgument,
                 "chat.messages.content is not UTF-8: byte 1");
  });
  beside_a_neighbour("RenderChat without a chat", [&] {
    grpc::ClientContext context;
    v1::RenderChatResponse response;
    expect_error(loopback_->stub().RenderChat(&context, {}, &response), ErrorCode::kInvalidArgument,
                 "chat.messages is empty");
  });
}

TEST_F(BadInput, TextThatIsNotUtf8) {
  const std::vector<std::string> texts = {
      "a\x80", "\xC0\xAF", "\xE0\x80\xAF", "\xED\xA0\x80", "\xFF", "\xF4\x90\x80\x80", "\xE4\xBA"};
  const std::vector<std::pair<std::string, int>> fields = {
      {"model", 1}, {"request_id", 2}, {"prompt", 3}};
  for (const std::string& text : texts) {
    for (const auto& [field, number] : fields) {
      beside_a_neighbour(field + " " + ::testing::PrintToString(text), [&] {
        const auto status = call_raw(*loopback_, "Generate", string_field(number, text));
        expect_error(status, ErrorCode::kInvalidArgument, field + " is not UTF-8");
      });
    }
    beside_a_neighbour("text of Tokenize", [&] {
      const auto status = call_raw(*loopback_, "Tokenize", string_field(2, text));
      expect_error(status, ErrorCode::kInvalidArgument, "text is not UTF-8");
    });
  }
}

TEST_F(BadInput, BytesThatAreNoRequest) {
  const std::vector<std::string> cases = {std::string("\x1A\x7F") + "short",
                                          "\x1A\xFF\xFF\xFF\xFF\x0F",
                                          std::string(1, '\0'),
                                          std::string(1, '\x28'),
                                          std::string(200, '\x0B'),
                                          "\x0F\x01\x02"};
  for (const std::string& bytes : cases) {
    beside_a_neighbour(::testing::PrintToString(bytes), [&] {
      expect_error(call_raw(*loopback_, "Generate", bytes), ErrorCode::kInternal,
                   "is not a sluice.v1.GenerateRequest");
    });
  }
  beside_a_neighbour("an unknown field", [&] {
    const std::string four_tokens = "\x28\x04";
    const auto status = call_raw(*loopback_, "Generate",
                                 string_field(3, "prompt") + four_tokens + "\xC2\x3E\x03new");
    EXPECT_TRUE(status.ok()) << status.error_message();
  });
  beside_a_neighbour("an unknown method", [&] {
    expect_error(call_raw(*loopback_, "Abort", ""), ErrorCode::kUnimplemented, "");
  });
}

TEST_F(BadInput, MessagesAndMetadataOverTheirLimits) {
  beside_a_neighbour("one byte over the message limit", [&] {
    v1::GenerateRequest request = prompt_request(std::string(kMaxMessageBytes - 100, 'x'));
    request.mutable_prompt()->append(kMaxMessageBytes + 1 - request.ByteSizeLong(), 'x');
    expect_error(generate(loopback_->stub(), request).status, ErrorCode::kResourceExhausted, "");
  });
  beside_a_neighbour("a message of the limit", [&] {
    v1::GenerateRequest request = prompt_request(std::string(kMaxMessageBytes - 100, 'x'));
    request.mutable_prompt()->append(kMaxMessageBytes - request.ByteSizeLong(), 'x');
    expect_error(generate(loopback_->stub(), request).status, ErrorCode::kInvalidArgument, "limit");
  });
  beside_a_neighbour("ten million token ids", [&] {
    v1::GenerateRequest request;
    request.mutable_token_ids()->Resize(10'000'000, 1);
    expect_error(generate(loopback_->stub(), request).status, ErrorCode::kResourceExhausted, "");
  });
  beside_a_neighbour("a million combining marks", [&] {
    std::string marks;
    for (int i = 0; i < 1'000'000; ++i) marks += "\xCC\x81";
    expect_error(generate(loopback_->stub(), prompt_request(marks)).status,
                 ErrorCode::kInvalidArgument, "limit is 1048576");
  });
  beside_a_neighbour("a million entries of logit_bias", [&] {
    v1::GenerateRequest request = prompt_request();
    for (int i = 0; i < 1'000'000; ++i) request.add_logit_bias()->set_token_id(1);
    expect_error(generate(loopback_->stub(), request).status, ErrorCode::kInvalidArgument,
                 "logit_bias");
  });
  const auto call_with = [&](const std::string& key, const std::string& value, int count) {
    const auto client = std::make_unique<Loopback>(*service_);  // gRPC may close its connection
    grpc::ClientContext context;
    for (int i = 0; i < count; ++i) context.AddMetadata(key + std::to_string(i), value);
    v1::ServerInfo info;
    return client->stub().GetServerInfo(&context, {}, &info);
  };
  beside_a_neighbour("a value over the metadata limit", [&] {
    EXPECT_FALSE(call_with("x-padding", std::string(20'000, 'x'), 1).ok());
  });
  beside_a_neighbour("a thousand keys", [&] { EXPECT_FALSE(call_with("x-key", "v", 1000).ok()); });
  beside_a_neighbour("a malformed traceparent is ignored", [&] {
    grpc::ClientContext context;
    context.AddMetadata("traceparent", "00-zz-zz-1");
    v1::ServerInfo info;
    EXPECT_TRUE(loopback_->stub().GetServerInfo(&context, {}, &info).ok());
  });
}

TEST_F(BadInput, OtherMethodsOfTheService) {
  const auto client = GenerationClient::create(loopback_->target());
  const int64_t vocabulary = model_->vocabulary_size;
  for (const int64_t id : {int64_t{-1}, vocabulary, int64_t{1} << 31, (int64_t{1} << 32) - 1}) {
    beside_a_neighbour("detokenize " + std::to_string(id), [&] {
      const auto text = client->detokenize("", {1, id});
      ASSERT_FALSE(text);
      EXPECT_EQ(text.error().code, ErrorCode::kInvalidArgument);
      EXPECT_THAT(text.error().message, HasSubstr("token_ids[1]"));
    });
  }
  beside_a_neighbour("text over the byte limit", [&] {
    const auto ids = client->tokenize("", std::string((1 << 20) + 1, 'x'), true);
    ASSERT_FALSE(ids);
    EXPECT_EQ(ids.error().code, ErrorCode::kInvalidArgument);
    EXPECT_THAT(ids.error().message, HasSubstr("1048577"));
  });
  for (const std::string& name :
       {std::string("nobody"), std::string("../llama-tiny"), std::string(1 << 20, 'n'),
        std::string("llama-tiny\0", 11), std::string("\x1B[31m\r\n")}) {
    beside_a_neighbour("unknown model " + name.substr(0, 20), [&] {
      for (const std::string method : {"GetModel", "Tokenize", "Detokenize"}) {
        v1::GetModelRequest request;
        request.set_model(name);
        const auto status = call_raw(*loopback_, method, request.SerializeAsString());
        expect_error(status, ErrorCode::kNotFound, "");
        EXPECT_LE(status.error_message().size(), 200u);
        EXPECT_EQ(status.error_message().find_first_of("\r\n\x1B"), std::string::npos);
      }
    });
  }
}

TEST_F(BadInput, ClientsThatGoAwayOrHaveNoTime) {
  v1::GenerateRequest request = prompt_request("A long");
  request.set_max_tokens(200);
  request.set_ignore_eos(true);
  for (int num_messages = 0; num_messages < 8; ++num_messages) {
    beside_a_neighbour("cancel after " + std::to_string(num_messages) + " messages", [&] {
      grpc::ClientContext context;
      const auto reader = loopback_->stub().Generate(&context, request);
      v1::GenerateResponse message;
      for (int i = 0; i < num_messages; ++i) reader->Read(&message);
      context.TryCancel();
      expect_error(read_all(*reader).status, ErrorCode::kCancelled, "");
    });
    beside_a_neighbour("cut after " + std::to_string(num_messages) + " frames", [&] {
      RawHttp2 raw(loopback_->server().port());
      raw.open(1, kGeneratePath);
      raw.send_message(1, request.SerializeAsString());
      RawHttp2::Frame frame;
      for (int i = 0; i < num_messages; ++i) raw.read_frame(frame);
    });
  }
  for (const auto time : {std::chrono::milliseconds(-1000), std::chrono::milliseconds(0),
                          std::chrono::milliseconds(1), std::chrono::milliseconds(5)}) {
    beside_a_neighbour("deadline in " + std::to_string(time.count()) + " ms", [&] {
      grpc::ClientContext context;
      context.set_deadline(std::chrono::system_clock::now() + time);
      v1::GenerateRequest endless = request;
      endless.set_n(8);
      const Stream stream = read_all(*loopback_->stub().Generate(&context, endless));
      expect_error(stream.status, ErrorCode::kDeadlineExceeded, "");
    });
  }
  for (const char* timeout : {"0n", "0m", "0H"}) {
    beside_a_neighbour(std::string("grpc-timeout ") + timeout, [&] {
      RawHttp2 raw(loopback_->server().port());
      raw.open(1, kGeneratePath, {{"grpc-timeout", timeout}});
      raw.send_message(1, request.SerializeAsString());
      EXPECT_NE(raw.read_status(1), grpc::StatusCode::OK);
    });
  }
}

TEST_F(BadInput, AnIdThatIsAlive) {
  beside_a_neighbour("a live request id again", [&] {
    v1::GenerateRequest request = prompt_request("A long");
    request.set_request_id("twice");
    request.set_max_tokens(400);
    request.set_ignore_eos(true);
    grpc::ClientContext context;
    const auto elder = loopback_->stub().Generate(&context, request);
    v1::GenerateResponse message;
    ASSERT_TRUE(elder->Read(&message));
    request.set_max_tokens(1);
    expect_error(generate(loopback_->stub(), request).status, ErrorCode::kAlreadyExists, "");
    EXPECT_TRUE(read_all(*elder).status.ok());
    EXPECT_TRUE(generate(loopback_->stub(), request).status.ok()) << "free again after its end";
  });
}

}  // namespace
}  // namespace sluice::server
