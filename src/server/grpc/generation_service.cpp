#include "server/grpc/generation_service.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "server/grpc/caller.h"
#include "server/grpc/convert.h"
#include "server/grpc/convert_chat.h"
#include "server/grpc/unary_answer.h"
#include "server/model_lookup.h"

namespace sluice::server {
namespace {

Result<v1::ModelInfo> describe_model(const std::vector<ModelInfo>& models,
                                     const std::string& name) {
  if (const ModelInfo* model = find_model(models, name)) return to_proto(*model);
  if (name.empty()) {
    return invalid_argument("model is empty, and this server has " + std::to_string(models.size()) +
                            " models: name one");
  }
  return fail(ErrorCode::kNotFound, "unknown model: ListModels names those that are served");
}

}  // namespace

template <typename Request, typename Handle>
grpc::ServerUnaryReactor* GenerationService::answer(Context* context, const Bytes& request,
                                                    Bytes& response, Handle handle) {
  return answer_unary<Request>(context, request, response, failed_,
                               client_of(*context, keys_.get()), std::move(handle));
}

grpc::ServerUnaryReactor* GenerationService::Tokenize(Context* context, const Bytes* request,
                                                      Bytes* response) {
  return answer<v1::TokenizeRequest>(
      context, *request, *response,
      [this](const v1::TokenizeRequest& message) -> Result<v1::TokenizeResponse> {
        const bool add_special_tokens =
            !message.has_add_special_tokens() || message.add_special_tokens();
        const auto ids = service_.tokenize(message.model(), message.text(), add_special_tokens);
        if (!ids) return std::unexpected(ids.error());
        v1::TokenizeResponse tokenized;
        tokenized.mutable_token_ids()->Add(ids->begin(), ids->end());
        return tokenized;
      });
}

grpc::ServerUnaryReactor* GenerationService::RenderChat(Context* context, const Bytes* request,
                                                        Bytes* response) {
  return answer<v1::RenderChatRequest>(
      context, *request, *response,
      [this](v1::RenderChatRequest& message) -> Result<v1::RenderChatResponse> {
        const auto chat = chat_from_proto(std::move(*message.mutable_chat()));
        if (!chat) return std::unexpected(chat.error());
        auto rendered = service_.render_chat(message.model(), *chat);
        if (!rendered) return std::unexpected(rendered.error());
        v1::RenderChatResponse prompt;
        prompt.set_text(std::move(rendered->text));
        prompt.mutable_token_ids()->Add(rendered->token_ids.begin(), rendered->token_ids.end());
        return prompt;
      });
}

grpc::ServerUnaryReactor* GenerationService::Detokenize(Context* context, const Bytes* request,
                                                        Bytes* response) {
  return answer<v1::DetokenizeRequest>(
      context, *request, *response,
      [this](const v1::DetokenizeRequest& message) -> Result<v1::DetokenizeResponse> {
        const bool skip_special_tokens =
            !message.has_skip_special_tokens() || message.skip_special_tokens();
        const std::vector<int64_t> ids(message.token_ids().begin(), message.token_ids().end());
        auto text = service_.detokenize(message.model(), ids, skip_special_tokens);
        if (!text) return std::unexpected(text.error());
        v1::DetokenizeResponse detokenized;
        detokenized.set_text(*std::move(text));
        return detokenized;
      });
}

grpc::ServerUnaryReactor* GenerationService::GetModel(Context* context, const Bytes* request,
                                                      Bytes* response) {
  return answer<v1::GetModelRequest>(context, *request, *response,
                                     [this](const v1::GetModelRequest& message) {
                                       return describe_model(service_.models(), message.model());
                                     });
}

grpc::ServerUnaryReactor* GenerationService::ListModels(Context* context, const Bytes* request,
                                                        Bytes* response) {
  return answer<v1::ListModelsRequest>(
      context, *request, *response,
      [this](const v1::ListModelsRequest&) -> Result<v1::ListModelsResponse> {
        v1::ListModelsResponse list;
        for (const ModelInfo& model : service_.models()) *list.add_models() = to_proto(model);
        return list;
      });
}

grpc::ServerUnaryReactor* GenerationService::GetServerInfo(Context* context, const Bytes* request,
                                                           Bytes* response) {
  return answer<v1::GetServerInfoRequest>(
      context, *request, *response,
      [this](const v1::GetServerInfoRequest&) -> Result<v1::ServerInfo> {
        return to_proto(service_.server_info());
      });
}

}  // namespace sluice::server
