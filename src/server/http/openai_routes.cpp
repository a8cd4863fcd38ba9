#include "server/http/openai_routes.h"

#include <algorithm>
#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include "base/json_read.h"
#include "base/random_id.h"
#include "server/field_names.h"
#include "server/header_value.h"
#include "server/http/http_caller.h"
#include "server/http/http_error.h"
#include "server/http/http_text.h"
#include "server/http/openai_answer.h"
#include "server/model_lookup.h"

namespace sluice::server {
namespace {

// Bodies up to this size are read on the connection's thread: about a millisecond of tokenizing.
constexpr size_t kInlineBytes = 16 << 10;
constexpr int kNumWorkers = 2;

int64_t unix_seconds() {
  return std::chrono::duration_cast<std::chrono::seconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

// Only what a page of another site cannot send without asking first: the server may listen on a
// person's own machine, where every page can reach it.
bool is_json(const HttpRequest& request) {
  std::string_view type = request.header("content-type");
  type = type.substr(0, type.find(';'));
  while (type.ends_with(' ')) type.remove_suffix(1);
  return equal_ignoring_case(type, "application/json");
}

Json describe(const ModelInfo& model, int64_t created) {
  return {{"id", model.name},
          {"object", "model"},
          {"created", created},
          {"owned_by", "sluice"},
          {"max_model_len", model.context_length},
          {"family", model.family},
          {"dtype", model.dtype},
          {"profile", model.profile},
          {"digest", model.digest},
          {"num_parameters", model.num_parameters},
          {"vocabulary_size", model.vocabulary_size},
          {"has_tokenizer", model.has_tokenizer},
          {"has_chat_template", model.has_chat_template}};
}

HttpResponse json_response(const Json& json) {
  HttpResponse response;
  response.body = json.dump(-1, ' ', false, Json::error_handler_t::replace);
  return response;
}

// The members of a small JSON object. Errors name the member.
class JsonBody {
 public:
  // `text` must outlive the result.
  static Result<JsonBody> read(std::string_view text, std::vector<std::string_view> names) {
    auto members = parse_json_members(text);
    if (!members) return std::unexpected(std::move(members.error()));
    for (const JsonMember& member : *members) {
      if (std::ranges::find(names, member.name) == names.end()) {
        return invalid_argument("unknown field \"" + echoed_name(member.name) + "\"");
      }
    }
    return JsonBody(*std::move(members));
  }
  template <typename T>
  Result<void> get(std::string_view name, T& target) const {
    const JsonMember* member = find(name);
    if (member == nullptr) return {};
    if (auto read = read_json(member->value, target); !read) {
      return invalid_argument(std::string(name) + " must be " + read.error().message);
    }
    return {};
  }
  // JSON text with the keys in order; empty if there is none.
  std::string text(std::string_view name) const {
    const JsonMember* member = find(name);
    return member == nullptr ? "" : std::string(member->text);
  }

 private:
  explicit JsonBody(std::vector<JsonMember> members) : members_(std::move(members)) {}
  const JsonMember* find(std::string_view name) const {
    const auto found = std::ranges::find(members_, name, &JsonMember::name);
    return found == members_.end() || found->value.is_null() ? nullptr : &*found;
  }
  std::vector<JsonMember> members_;
};

Result<std::vector<int32_t>> tokenize_body(Service& service, const JsonBody& body,
                                           std::string* model) {
  std::optional<std::string> prompt;
  std::optional<bool> add_special_tokens;
  ChatPrompt chat;
  Result<void> read = body.get("model", *model);
  if (read) read = body.get("prompt", prompt);
  if (read) read = body.get("add_special_tokens", add_special_tokens);
  if (read) read = body.get("add_generation_prompt", chat.add_generation_prompt);
  if (read) read = body.get("continue_final_message", chat.continue_final_message);
  if (!read) return std::unexpected(std::move(read.error()));
  chat.messages = body.text("messages");
  chat.tools = body.text("tools");
  chat.template_kwargs = body.text("chat_template_kwargs");
  if (prompt.has_value() == !chat.messages.empty()) {
    return invalid_argument("prompt or messages must be there, and only one of them");
  }
  if (prompt) return service.tokenize(*model, *prompt, add_special_tokens.value_or(true));
  auto rendered = service.render_chat(*model, chat);
  if (!rendered) return std::unexpected(std::move(rendered.error()));
  return std::move(rendered->token_ids);
}

}  // namespace

OpenAiRoutes::OpenAiRoutes(Service& service, std::shared_ptr<const ApiKeys> keys, Router& router)
    : service_(service), keys_(std::move(keys)), workers_(kNumWorkers) {
  const auto add = [&](const char* method, const char* path,
                       void (OpenAiRoutes::*call)(const Exchange&)) {
    add_keyed(router, method, path,
              [this, call](const Exchange& exchange, const Client&) { (this->*call)(exchange); });
  };
  const auto add_completions = [&](const char* path, OpenAiRoute route) {
    add_keyed(router, "POST", path, [this, route](const Exchange& exchange, const Client& client) {
      complete(route, exchange, client);
    });
  };
  add("GET", "/v1/models", &OpenAiRoutes::list_models);
  add("GET", "/v1/models/*", &OpenAiRoutes::show_model);
  add_completions("/v1/completions", OpenAiRoute::kCompletions);
  add_completions("/v1/chat/completions", OpenAiRoute::kChat);
  add("POST", "/tokenize", &OpenAiRoutes::tokenize);
  add("POST", "/detokenize", &OpenAiRoutes::detokenize);
  router.add("GET", "/health", [this](const Exchange& exchange) {
    if (!service_.health().ready) {
      return exchange->respond(error_response(503, "the server does not accept work now"));
    }
    exchange->respond(json_response({{"status", "ok"}}));
  });
  router.add("GET", "/version", [this](const Exchange& exchange) {
    exchange->respond(json_response({{"version", service_.server_info().version}}));
  });
}

void OpenAiRoutes::add_keyed(Router& router, const char* method, const char* path,
                             Handler handler) {
  router.add(method, path, [this, handler = std::move(handler)](Exchange exchange) {
    Result<Client> client = client_of(exchange->request(), keys_.get());
    if (!client) return exchange->respond(error_response(client.error()));
    handle(std::move(exchange), *std::move(client), handler);
  });
}

void OpenAiRoutes::handle(Exchange exchange, Client client, const Handler& handler) {
  const HttpRequest& request = exchange->request();
  if (request.method == "POST" && !is_json(request)) {
    return exchange->respond(error_response(415, "Content-Type must be application/json"));
  }
  // A small compressed body may be huge when unpacked.
  if (const std::string_view encoding = request.header("Content-Encoding");
      !encoding.empty() && encoding != "identity") {
    return exchange->respond(error_response(415, "Content-Encoding must be identity"));
  }
  if (request.body.size() <= kInlineBytes) return handler(exchange, client);
  workers_.post([exchange = std::move(exchange), client = std::move(client), handler] {
    handler(exchange, client);
  });
}

void OpenAiRoutes::list_models(const Exchange& exchange) {
  const int64_t created = unix_seconds();
  Json list = Json::array();
  for (const ModelInfo& model : service_.models()) list.push_back(describe(model, created));
  exchange->respond(json_response({{"object", "list"}, {"data", std::move(list)}}));
}

void OpenAiRoutes::show_model(const Exchange& exchange) {
  constexpr size_t kPrefix = std::char_traits<char>::length("/v1/models/");
  const std::vector<ModelInfo> models = service_.models();
  const ModelInfo* model = find_model(models, exchange->request().path.substr(kPrefix));
  if (model == nullptr) {
    return exchange->respond(error_response(404, "unknown model: /v1/models lists those served"));
  }
  exchange->respond(json_response(describe(*model, unix_seconds())));
}

void OpenAiRoutes::complete(OpenAiRoute route, const Exchange& exchange, const Client& client) {
  const HttpRequest& request = exchange->request();
  std::string request_id(request.header("x-request-id"));
  if (request_id.empty()) request_id = random_id(kRequestIdDigits);
  std::vector<HttpHeader> headers = {{"x-request-id", header_value(request_id)}};

  auto call = read_openai_call(route, exchange->take_body());
  if (!call) {
    HttpResponse response = error_response(call.error().error, call.error().param);
    response.headers.push_back(headers.front());
    return exchange->respond(std::move(response));
  }
  call->common.client = client.name;
  call->common.request_id = request_id;
  call->common.traceparent = request.header("traceparent");
  OpenAiHeading heading;
  heading.route = route;
  heading.id = (route == OpenAiRoute::kChat ? "chatcmpl-" : "cmpl-") + request_id;
  heading.created = unix_seconds();
  heading.return_token_ids = call->return_token_ids;
  heading.include_usage = call->include_usage;
  const std::vector<ModelInfo> models = service_.models();
  if (const ModelInfo* model = find_model(models, call->common.model)) {
    constexpr size_t kDigestDigits = 12;
    heading.model = model->name;
    heading.fingerprint = model->profile + ":" + model->digest.substr(0, kDigestDigits);
    headers.push_back({"sluice-profile", header_value(model->profile)});
    headers.push_back({"sluice-digest", header_value(model->digest)});
  }
  OpenAiAnswer::start(service_, exchange, *std::move(call), std::move(heading), std::move(headers));
}

void OpenAiRoutes::tokenize(const Exchange& exchange) {
  const std::string json = exchange->take_body();
  const auto body = JsonBody::read(
      json, {"model", "prompt", "messages", "tools", "chat_template_kwargs", "add_special_tokens",
             "add_generation_prompt", "continue_final_message"});
  if (!body) return exchange->respond(error_response(body.error()));
  std::string name;
  const auto ids = tokenize_body(service_, *body, &name);
  if (!ids) return exchange->respond(error_response(ids.error()));
  const std::vector<ModelInfo> models = service_.models();
  const ModelInfo* model = find_model(models, name);
  Json answer = {{"count", ids->size()}, {"tokens", *ids}};
  if (model != nullptr) answer["max_model_len"] = model->context_length;
  exchange->respond(json_response(answer));
}

void OpenAiRoutes::detokenize(const Exchange& exchange) {
  const std::string json = exchange->take_body();
  const auto body = JsonBody::read(json, {"model", "tokens", "skip_special_tokens"});
  if (!body) return exchange->respond(error_response(body.error()));
  std::string model;
  std::vector<int64_t> tokens;
  bool skip_special_tokens = false;  // as vLLM has it: every id shows
  Result<void> read = body->get("model", model);
  if (read) read = body->get("tokens", tokens);
  if (read) read = body->get("skip_special_tokens", skip_special_tokens);
  if (!read) return exchange->respond(error_response(read.error()));
  const auto text = service_.detokenize(model, tokens, skip_special_tokens);
  if (!text) return exchange->respond(error_response(text.error()));
  exchange->respond(json_response({{"prompt", *text}}));
}

}  // namespace sluice::server
