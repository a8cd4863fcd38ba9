// Every row of tests/bad_inputs/cases.json through every front end that can say it, with the same
// answer in each one's own words.
#include <google/protobuf/util/json_util.h>

#include <array>
#include <cmath>
#include <fstream>
#include <limits>
#include <map>
#include <optional>
#include <sstream>

#include "base/json.h"
#include "tests/server/bad_input.h"
#include "tests/server/raw_http.h"

namespace sluice::server {
namespace {

using ::testing::HasSubstr;

// The chat of a row as proto's JSON has it; null if it has none.
Json chat_of(const Json& row) {
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
Json request_of(const Json& row, const ModelInfo& model) {
  Json request = row["request"];
  if (Json chat = chat_of(row); !chat.is_null()) request["chat"] = std::move(chat);
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
  return request;
}

// What a front end made of a request: its error in gRPC's terms, if it is one.
struct Answer {
  bool is_served = false;
  std::string code;     // the name of the gRPC code
  std::string message;  // of an error
};
// Nothing: the front end has no way to say it.
using Said = std::optional<Answer>;

Answer answer_of(const grpc::Status& status) {
  if (status.ok()) return {.is_served = true, .code = "OK", .message = ""};
  const Error error = from_status(status);
  return {.is_served = false, .code = to_string(error.code), .message = error.message};
}

bool has_number_text(const Json& value) {
  return value == "NaN" || value == "Infinity" || value == "-Infinity";
}
double number_of(const Json& value) {
  if (value == "NaN") return std::numeric_limits<double>::quiet_NaN();
  if (value == "Infinity") return std::numeric_limits<double>::infinity();
  if (value == "-Infinity") return -std::numeric_limits<double>::infinity();
  return value.get<double>();
}

Said say_in_grpc(v1::Generation::Stub& stub, const Json& request) {
  v1::GenerateRequest message;
  const auto status = google::protobuf::util::JsonStringToMessage(request.dump(), &message);
  EXPECT_TRUE(status.ok()) << status.ToString();
  const Stream stream = generate(stub, message);
  if (stream.status.ok()) {
    EXPECT_TRUE(stream.messages.back().has_usage());
  } else {
    EXPECT_TRUE(stream.messages.empty()) << "refused, and yet something was sent";
  }
  return answer_of(stream.status);
}

// {"5": -100}. Text, since a list may name a token twice; with 1e999 for what JSON has no word for.
std::string logit_bias_text(const Json& list) {
  std::string text;
  for (const Json& entry : list) {
    text += text.empty() ? "{\"" : ", \"";
    text += std::to_string(entry["token_id"].get<int64_t>()) + "\": ";
    text += has_number_text(entry["bias"]) ? "1e999" : entry["bias"].dump();
  }
  return text + "}";
}

// A JSON body, member by member, so that a member may be what no library writes.
class Body {
 public:
  void add(const std::string& name, const std::string& json) {
    text_ += (text_.empty() ? "{\"" : ", \"") + name + "\": " + json;
  }
  std::string text() const { return text_.empty() ? "{}" : text_ + "}"; }

 private:
  std::string text_;
};

// The chat's members under OpenAI's names; false if a prompt stands beside it, which the route of
// chats does not have.
bool add_chat(const Json& request, Body& body) {
  if (request.contains("prompt") || request.contains("token_ids")) return false;
  for (const auto& [name, value] : request["chat"].items()) {
    const bool is_text = name.ends_with("_json");  // JSON in a string, perhaps not well-formed
    const std::string member = name == "template_kwargs_json" ? "chat_template_kwargs"
                               : is_text                      ? name.substr(0, name.size() - 5)
                                                              : name;
    body.add(member, is_text ? value.get<std::string>() : value.dump());
  }
  return true;
}

Said say_in_openai(int port, const Json& request) {
  // A header holds no line break and no megabyte; prompt_logprobs is not OpenAI's.
  if (request.contains("request_id") || request.contains("prompt_logprobs")) return std::nullopt;
  if (request.contains("prompt") && request.contains("token_ids")) return std::nullopt;
  const bool is_chat = request.contains("chat");
  Body body;
  if (is_chat && !add_chat(request, body)) return std::nullopt;
  for (const auto& [name, value] : request.items()) {
    if (name == "chat") continue;
    if (name == "logit_bias") {
      body.add(name, logit_bias_text(value));
    } else {
      body.add(name == "token_ids" ? "prompt" : name,
               has_number_text(value) ? "1e999" : value.dump());
    }
  }
  const RawResponse response =
      http_post(port, is_chat ? "/v1/chat/completions" : "/v1/completions", body.text());
  Answer answer{response.status == 200, code_of(response.status), ""};
  const Json json = response.json();
  if (!answer.is_served) {
    answer.message = json.at("error").at("message");
    EXPECT_EQ(json["error"]["code"], response.status);
  } else {
    EXPECT_GE(json.at("choices").size(), 1u);
  }
  return answer;
}

// Numbers as parameters, lists and the prompt as tensors, logit_bias in vLLM's JSON.
std::optional<inference::ModelInferRequest> kserve_request(const Json& request) {
  if (request.contains("chat")) return std::nullopt;
  inference::ModelInferRequest message;
  const auto add_input = [&](const std::string& name, const std::string& type, size_t size) {
    auto& input = *message.add_inputs();
    input.set_name(name);
    input.set_datatype(type);
    input.add_shape(static_cast<int64_t>(size));
    return input.mutable_contents();
  };
  for (const auto& [name, value] : request.items()) {
    if (name == "model") {
      message.set_model_name(value.get<std::string>());
    } else if (name == "request_id") {
      message.set_id(value.get<std::string>());
    } else if (name == "prompt") {
      add_input("text_input", "BYTES", 1)->add_bytes_contents(value.get<std::string>());
    } else if (name == "stop") {
      auto* words = add_input("stop", "BYTES", value.size());
      for (const Json& word : value) words->add_bytes_contents(word.get<std::string>());
    } else if (name == "token_ids" || name == "stop_token_ids") {
      auto* ids = add_input(name == "token_ids" ? "input_ids" : name, "INT64", value.size());
      for (const Json& id : value) ids->add_int64_contents(id.get<int64_t>());
    } else if (name == "logit_bias") {
      const std::string json = "{\"logit_bias\": " + logit_bias_text(value) + "}";
      add_input("sampling_parameters", "BYTES", 1)->add_bytes_contents(json);
    } else {
      auto& parameter = (*message.mutable_parameters())[name];
      if (value.is_number_unsigned()) {
        parameter.set_uint64_param(value.get<uint64_t>());
      } else if (value.is_number_integer()) {
        parameter.set_int64_param(value.get<int64_t>());
      } else {
        parameter.set_double_param(number_of(value));
      }
    }
  }
  return message;
}

Said say_in_kserve(inference::GRPCInferenceService::Stub& stub, const Json& request) {
  const auto message = kserve_request(request);
  if (!message || request.contains("prompt_logprobs")) return std::nullopt;
  grpc::ClientContext context;
  inference::ModelInferResponse response;
  const grpc::Status status = stub.ModelInfer(&context, *message, &response);
  if (status.ok()) {
    EXPECT_TRUE(response.parameters().contains("sluice_seed"));
  }
  return answer_of(status);
}

Said say_in_a_kserve_stream(inference::GRPCInferenceService::Stub& stub, const Json& request) {
  auto message = kserve_request(request);
  if (!message || request.contains("prompt_logprobs")) return std::nullopt;
  (*message->mutable_parameters())["stream"].set_bool_param(true);
  grpc::ClientContext context;
  const auto stream = stub.ModelStreamInfer(&context);
  EXPECT_TRUE(stream->Write(*message));
  stream->WritesDone();
  inference::ModelStreamInferResponse last;
  for (inference::ModelStreamInferResponse response; stream->Read(&response);) last = response;
  EXPECT_TRUE(stream->Finish().ok()) << "an error ends its request, not the stream";
  EXPECT_TRUE(last.infer_response().parameters().at("triton_final_response").bool_param());
  const std::string& error = last.error_message();
  if (error.empty()) return Answer{.is_served = true, .code = "OK", .message = ""};
  const size_t colon = error.find(": ");
  return Answer{.is_served = false,
                .code = error.substr(0, colon),
                .message = colon == std::string::npos ? "" : error.substr(colon + 2)};
}

// True if the message names `words`, or the field in them by the front end's own name.
bool names(const std::string& message, std::string words, const std::string& front_end) {
  if (message.find(words) != std::string::npos) return true;
  const std::map<std::string, std::string> own =
      front_end == "OpenAI" ? std::map<std::string, std::string>{{"token_ids", "prompt"}}
                            : std::map<std::string, std::string>{{"token_ids", "input_ids"},
                                                                 {"prompt", "text_input"}};
  for (const auto& [ours, theirs] : own) {
    if (!words.starts_with(ours)) continue;
    words.replace(0, ours.size(), theirs);
    return message.find(words) != std::string::npos;
  }
  return false;
}

// What JSON cannot hold, its reader refuses before anybody looks at the field.
bool is_beyond_json(const Json& request) {
  for (const auto& [name, value] : request.items()) {
    if (has_number_text(value)) return true;
    if (name != "logit_bias") continue;
    std::map<int64_t, int> counts;
    for (const Json& entry : value) {
      if (has_number_text(entry["bias"]) || ++counts[entry["token_id"].get<int64_t>()] > 1) {
        return true;
      }
    }
  }
  return false;
}

TEST_F(BadInput, EveryRowOfTheTableThroughEveryFrontEnd) {
  std::ifstream file(std::string(SLUICE_SOURCE_DIR) + "/tests/bad_inputs/cases.json");
  std::stringstream text;
  text << file.rdbuf();
  const Json rows = Json::parse(text.str());
  ASSERT_GE(rows.size(), 150u);
  struct FrontEnd {
    std::string name;
    std::function<Said(const Json&)> say;
    bool is_json;  // a field of the request comes as JSON
  };
  const std::vector<FrontEnd> front_ends = {
      {"gRPC", [](const Json& r) { return say_in_grpc(loopback_->stub(), r); }, false},
      {"OpenAI", [](const Json& r) { return say_in_openai(http_->port(), r); }, true},
      {"KServe", [](const Json& r) { return say_in_kserve(*kserve_, r); }, false},
      {"KServe stream", [](const Json& r) { return say_in_a_kserve_stream(*kserve_, r); }, false}};
  std::map<std::string, int> counts;
  for (const Json& row : rows) {
    const Json request = request_of(row, *model_);
    for (const FrontEnd& front_end : front_ends) {
      beside_a_neighbour(front_end.name + ": " + row["name"].get<std::string>(), [&] {
        const Said said = front_end.say(request);
        if (!said) {
          --num_cases_;
          return;
        }
        ++counts[front_end.name];
        const bool is_json =
            front_end.is_json || (front_end.name != "gRPC" && request.contains("logit_bias"));
        if (is_json && is_beyond_json(request)) {
          EXPECT_EQ(said->code, "INVALID_ARGUMENT") << said->message;
          return;
        }
        EXPECT_EQ(said->code, row["code"]) << said->message;
        if (said->is_served) return;
        const Json message_has = row.value("message_has", Json::array());
        for (const Json& words : message_has) {
          EXPECT_TRUE(names(said->message, words, front_end.name))
              << words << " is not in: " << said->message;
        }
        EXPECT_LE(said->message.size(), 400u);
      });
    }
  }
  int total = 0;
  for (const auto& [name, count] : counts) {
    std::printf("%d rows through %s\n", count, name.c_str());
    EXPECT_GE(count, 140) << name;
    total += count;
  }
  EXPECT_GE(total, 600);
}

}  // namespace
}  // namespace sluice::server
