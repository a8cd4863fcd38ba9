// Bad input through gRPC, on a real model. After every case the server is alive, and a stream that
// ran beside it has the bits of an undisturbed one.
#include <gmock/gmock.h>
#include <google/protobuf/util/json_util.h>
#include <gtest/gtest.h>

#include <bit>
#include <fstream>
#include <functional>
#include <sstream>

#include "base/json.h"
#include "server/grpc/generation_client.h"
#include "server/grpc/status.h"
#include "sluice/runtime.h"
#include "tests/server/loopback.h"
#include "tests/server/raw_call.h"
#include "tests/server/raw_http2.h"

namespace sluice::server {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kMaxMessageBytes = 4 << 20;
const std::string kGeneratePath = "/sluice.v1.Generation/Generate";

// Token ids and the bits of their logprobs.
using Trace = std::vector<std::pair<int32_t, uint32_t>>;

class BadInput : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    RuntimeOptions options;
    options.models = {{"llama-tiny", std::string(SLUICE_SOURCE_DIR) + "/models/llama-tiny"}};
    options.device = "cpu";
    options.num_threads = 1;
    options.kv_cache_bytes = int64_t{64} << 20;
    auto created = create_service(options);
    ASSERT_TRUE(created) << created.error().message;
    service_ = created->release();
    loopback_ = new Loopback(*service_, {.max_message_bytes = kMaxMessageBytes});
    model_ = new ModelInfo(service_->models().front());
    grpc::ClientContext context;
    undisturbed_ = new Trace(finish_neighbour(*start_neighbour(context)));
    ASSERT_EQ(undisturbed_->size(), 24u);
  }
  static void TearDownTestSuite() {
    // What the cases left behind ends by itself.
    if (service_ != nullptr) EXPECT_TRUE(service_->drain(kTestPatience));
    delete undisturbed_;
    delete model_;
    delete loopback_;
    delete service_;
    std::printf("%d bad inputs through gRPC\n", num_cases_);
  }
  void SetUp() override { ASSERT_TRUE(service_ != nullptr && loopback_ != nullptr); }

  static std::unique_ptr<grpc::ClientReader<v1::GenerateResponse>> start_neighbour(
      grpc::ClientContext& context) {
    v1::GenerateRequest request = prompt_request("The weather");
    request.set_max_tokens(24);
    request.set_temperature(0.9);
    request.set_seed(7);
    request.set_ignore_eos(true);
    request.set_logprobs(1);
    return loopback_->stub().Generate(&context, request);
  }
  static Trace finish_neighbour(grpc::ClientReader<v1::GenerateResponse>& reader) {
    Trace trace;
    const Stream stream = read_all(reader);
    EXPECT_TRUE(stream.status.ok()) << stream.status.error_message();
    for (const auto& message : stream.messages) append(message, trace);
    return trace;
  }
  static void append(const v1::GenerateResponse& message, Trace& trace) {
    for (const auto& at : message.logprobs()) {
      trace.emplace_back(at.token().token_id(), std::bit_cast<uint32_t>(at.token().logprob()));
    }
  }

  // Runs one case while a neighbour is streaming.
  static void beside_a_neighbour(const std::string& name, const std::function<void()>& run_case) {
    SCOPED_TRACE(name);
    ++num_cases_;
    grpc::ClientContext context;
    const auto neighbour = start_neighbour(context);
    Trace trace;
    v1::GenerateResponse first;
    ASSERT_TRUE(neighbour->Read(&first));
    append(first, trace);
    run_case();
    const Trace rest = finish_neighbour(*neighbour);
    trace.insert(trace.end(), rest.begin(), rest.end());
    EXPECT_EQ(trace, *undisturbed_) << "the neighbour's bits changed";
  }

  static void expect_error(const grpc::Status& status, ErrorCode code, const std::string& words) {
    ASSERT_FALSE(status.ok());
    const Error error = from_status(status);
    EXPECT_STREQ(to_string(error.code), to_string(code)) << error.message;
    EXPECT_THAT(error.message, HasSubstr(words));
  }

  static inline Service* service_ = nullptr;
  static inline Loopback* loopback_ = nullptr;
  static inline ModelInfo* model_ = nullptr;
  static inline Trace* undisturbed_ = nullptr;
  static inline int num_cases_ = 0;
};

// The chat of a row as proto's JSON has it; null if it has none.
Json make_chat(const Json& row) {
  const auto with_messages = [](const std::string& text) { return Json{{"messages_json", text}}; };
  if (row.contains("chat_text")) return with_messages(row["chat_text"]);
  Json message = {{"role", "user"}, {"content", "Hi"}};
  if (row.contains("chat_messages")) {
    return with_messages(Json(row["chat_messages"].get<size_t>(), message).dump());
  }
  if (row.contains("chat_content")) {
    std::string content;
    for (auto left = row["chat_content"][1].get<size_t>(); left > 0; --left) {
      content += row["chat_content"][0].get<std::string>();
    }
    message["content"] = content;
    return with_messages(Json::array({message}).dump());
  }
  if (row.contains("chat_depth")) {
    const auto depth = row["chat_depth"].get<size_t>();
    return with_messages(R"([{"role": "user", "content": )" + std::string(depth, '[') +
                         std::string(depth, ']') + "}]");
  }
  if (!row.contains("chat")) return nullptr;
  Json chat = row["chat"];
  for (const auto& [name, field] :
       {std::pair("messages", "messages_json"), std::pair("tools", "tools_json"),
        std::pair("chat_template_kwargs", "template_kwargs_json")}) {
    if (!chat.contains(name)) continue;
    chat[field] = chat[name].dump();
    chat.erase(name);
  }
  return chat;
}

// tests/bad_inputs/README.md defines the keys.
v1::GenerateRequest make_request(const Json& row, const ModelInfo& model) {
  Json request = row["request"];
  if (Json chat = make_chat(row); !chat.is_null()) request["chat"] = std::move(chat);
  const Json repeat_of = row.value("repeat", Json::object());
  for (const auto& [field, repeat] : repeat_of.items()) {
    const auto count = repeat[1].get<size_t>();
    if (repeat[0].is_string() && field != "stop") {
      std::string text;
      for (size_t i = 0; i < count; ++i) text += repeat[0].get<std::string>();
      request[field] = text;
    } else {
      request[field] = Json(count, repeat[0]);
    }
  }
  const Json vocabulary_of = row.value("vocabulary_plus", Json::object());
  for (const auto& [field, plus] : vocabulary_of.items()) {
    const int64_t value = model.vocabulary_size + plus.get<int64_t>();
    request[field] = value;
    if (field.ends_with("token_ids")) request[field] = Json::array({value});
  }
  const Json context_of = row.value("context_plus", Json::object());
  for (const auto& [field, plus] : context_of.items()) {
    const int64_t value = model.context_length + plus.get<int64_t>();
    request[field] = value;
    if (field == "token_ids") request[field] = Json(static_cast<size_t>(value), 1);
  }
  v1::GenerateRequest message;
  const auto status = google::protobuf::util::JsonStringToMessage(request.dump(), &message);
  EXPECT_TRUE(status.ok()) << status.ToString();
  return message;
}

TEST_F(BadInput, EveryRowOfTheTable) {
  std::ifstream file(std::string(SLUICE_SOURCE_DIR) + "/tests/bad_inputs/cases.json");
  std::stringstream text;
  text << file.rdbuf();
  const Json rows = Json::parse(text.str());
  ASSERT_GE(rows.size(), 100u);
  for (const Json& row : rows) {
    beside_a_neighbour(row["name"], [&] {
      const Stream stream = generate(loopback_->stub(), make_request(row, *model_));
      if (row["code"] == "OK") {
        EXPECT_TRUE(stream.status.ok()) << stream.status.error_message();
        EXPECT_TRUE(stream.messages.back().has_usage());
        return;
      }
      ASSERT_FALSE(stream.status.ok());
      EXPECT_EQ(row["code"], to_string(from_status(stream.status).code));
      const Json message_has = row.value("message_has", Json::array());
      for (const Json& words : message_has) {
        EXPECT_THAT(stream.status.error_message(), HasSubstr(words.get<std::string>()));
      }
      EXPECT_TRUE(stream.messages.empty()) << "refused, and yet something was sent";
      EXPECT_LE(stream.status.error_message().size(), 400u);
    });
  }
}

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
