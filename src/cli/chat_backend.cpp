#include "cli/chat_backend.h"

#include <algorithm>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <variant>

#include "cli/event_queue.h"
#include "cli/parse.h"
#include "server/grpc/generation_client.h"

namespace sluice::cli {
namespace {

class LocalBackend final : public ChatBackend {
 public:
  explicit LocalBackend(std::unique_ptr<Service> service) : service_(std::move(service)) {}

  Result<ModelInfo> model() override { return service_->models().front(); }

  Result<GenerateSummary> generate(const GenerateRequest& request,
                                   const std::function<bool(GenerateChunk)>& on_chunk) override {
    // A queue of its own: what is left of an answer that was stopped stays there.
    const auto queue = std::make_shared<EventQueue>();
    {
      const std::lock_guard lock(mutex_);
      queue_ = queue;
    }
    auto call = service_->generate(request, std::make_shared<QueueObserver>(queue, 0));
    if (!call) return std::unexpected(call.error());
    while (true) {
      std::optional<Event> event = queue->pop();
      if (!event) {
        (*call)->cancel();
        continue;
      }
      if (auto* chunk = std::get_if<GenerateChunk>(&event->what)) {
        const auto num_tokens = static_cast<int32_t>(chunk->token_ids.size());
        if (!on_chunk(std::move(*chunk))) (*call)->cancel();
        (*call)->delivered(num_tokens);
        continue;
      }
      return std::get<Result<GenerateSummary>>(std::move(event->what));
    }
  }

  void interrupt() override {
    const std::lock_guard lock(mutex_);
    if (queue_) queue_->interrupt();
  }

 private:
  std::unique_ptr<Service> service_;
  std::mutex mutex_;
  std::shared_ptr<EventQueue> queue_;  // of the newest answer; under mutex_
};

class RemoteBackend final : public ChatBackend {
 public:
  RemoteBackend(std::unique_ptr<server::GenerationClient> client, std::string model)
      : client_(std::move(client)), model_(std::move(model)) {}

  Result<ModelInfo> model() override {
    auto models = client_->list_models();
    if (!models) return std::unexpected(models.error());
    if (model_.empty() && models->size() == 1) return models->front();
    if (model_.empty()) {
      return invalid_argument("the server has " + std::to_string(models->size()) +
                              " models: name one with --model");
    }
    const auto found = std::ranges::find(*models, model_, &ModelInfo::name);
    if (found == models->end()) {
      return fail(ErrorCode::kNotFound, "the server has no model " + quote(model_));
    }
    return *found;
  }

  Result<GenerateSummary> generate(const GenerateRequest& request,
                                   const std::function<bool(GenerateChunk)>& on_chunk) override {
    return client_->generate(request, on_chunk);
  }

 private:
  std::unique_ptr<server::GenerationClient> client_;
  std::string model_;
};

}  // namespace

std::unique_ptr<ChatBackend> make_local_backend(std::unique_ptr<Service> service) {
  return std::make_unique<LocalBackend>(std::move(service));
}

std::unique_ptr<ChatBackend> make_remote_backend(std::unique_ptr<server::GenerationClient> client,
                                                 std::string model) {
  return std::make_unique<RemoteBackend>(std::move(client), std::move(model));
}

}  // namespace sluice::cli
