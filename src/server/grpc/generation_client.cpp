#include "server/grpc/generation_client.h"

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>

#include <optional>
#include <utility>

#include "grpc/health/v1/health.grpc.pb.h"
#include "server/grpc/client_channel.h"
#include "server/grpc/convert.h"
#include "server/grpc/convert_chat.h"
#include "server/grpc/status.h"
#include "sluice/v1/generation.grpc.pb.h"

namespace sluice::server {
namespace {

class GenerationClientImpl final : public GenerationClient {
 public:
  GenerationClientImpl(const std::shared_ptr<grpc::Channel>& channel, const std::string& api_key)
      : authorization_(bearer(api_key)),
        generation_(v1::Generation::NewStub(channel)),
        health_(grpc::health::v1::Health::NewStub(channel)) {}

  Result<GenerateSummary> generate(const GenerateRequest& request,
                                   const std::function<bool(GenerateChunk)>& on_chunk) override {
    grpc::ClientContext context;
    authorize(context);
    if (request.deadline) {
      const auto left = *request.deadline - std::chrono::steady_clock::now();
      context.set_deadline(std::chrono::system_clock::now() + left);
    }
    const auto reader = generation_->Generate(&context, to_proto(request));
    std::optional<GenerateSummary> summary;
    v1::GenerateResponse message;
    while (reader->Read(&message)) {
      if (message.has_usage()) summary = summary_from_proto(message);
      if (!on_chunk(chunk_from_proto(std::move(message)))) context.TryCancel();
    }
    const grpc::Status status = reader->Finish();
    if (!status.ok()) return std::unexpected(from_status(status));
    if (!summary) return fail(ErrorCode::kInternal, "the stream ended without its usage");
    return *std::move(summary);
  }

  Result<std::vector<ModelInfo>> list_models() override {
    grpc::ClientContext context;
    authorize(context);
    v1::ListModelsResponse response;
    const grpc::Status status = generation_->ListModels(&context, {}, &response);
    if (!status.ok()) return std::unexpected(from_status(status));
    std::vector<ModelInfo> models;
    for (const v1::ModelInfo& model : response.models()) models.push_back(from_proto(model));
    return models;
  }

  Result<ServerInfo> server_info() override {
    grpc::ClientContext context;
    authorize(context);
    v1::ServerInfo response;
    const grpc::Status status = generation_->GetServerInfo(&context, {}, &response);
    if (!status.ok()) return std::unexpected(from_status(status));
    return from_proto(response);
  }

  Result<std::vector<int32_t>> tokenize(const std::string& model, const std::string& text,
                                        bool add_special_tokens) override {
    grpc::ClientContext context;
    authorize(context);
    v1::TokenizeRequest request;
    request.set_model(model);
    request.set_text(text);
    request.set_add_special_tokens(add_special_tokens);
    v1::TokenizeResponse response;
    const grpc::Status status = generation_->Tokenize(&context, request, &response);
    if (!status.ok()) return std::unexpected(from_status(status));
    return std::vector<int32_t>(response.token_ids().begin(), response.token_ids().end());
  }

  Result<RenderedChat> render_chat(const std::string& model, const ChatPrompt& chat) override {
    grpc::ClientContext context;
    authorize(context);
    v1::RenderChatRequest request;
    request.set_model(model);
    *request.mutable_chat() = to_proto(chat);
    v1::RenderChatResponse response;
    const grpc::Status status = generation_->RenderChat(&context, request, &response);
    if (!status.ok()) return std::unexpected(from_status(status));
    return RenderedChat{std::move(*response.mutable_text()),
                        {response.token_ids().begin(), response.token_ids().end()}};
  }

  Result<std::string> detokenize(const std::string& model,
                                 const std::vector<int64_t>& token_ids) override {
    grpc::ClientContext context;
    authorize(context);
    v1::DetokenizeRequest request;
    request.set_model(model);
    request.mutable_token_ids()->Add(token_ids.begin(), token_ids.end());
    v1::DetokenizeResponse response;
    const grpc::Status status = generation_->Detokenize(&context, request, &response);
    if (!status.ok()) return std::unexpected(from_status(status));
    return std::move(*response.mutable_text());
  }

  Result<bool> healthy() override {
    grpc::ClientContext context;
    grpc::health::v1::HealthCheckResponse response;
    const grpc::Status status = health_->Check(&context, {}, &response);
    if (!status.ok()) return std::unexpected(from_status(status));
    return response.status() == grpc::health::v1::HealthCheckResponse::SERVING;
  }

 private:
  void authorize(grpc::ClientContext& context) const {
    if (!authorization_.empty()) context.AddMetadata("authorization", authorization_);
  }

  const std::string authorization_;  // empty: none
  std::unique_ptr<v1::Generation::Stub> generation_;
  std::unique_ptr<grpc::health::v1::Health::Stub> health_;
};

}  // namespace

std::unique_ptr<GenerationClient> GenerationClient::create(const std::string& target,
                                                           const ClientOptions& options) {
  return std::make_unique<GenerationClientImpl>(make_channel(target, options), options.api_key);
}

}  // namespace sluice::server
