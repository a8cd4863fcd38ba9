#pragma once

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "observability/metrics.h"
#include "sluice/service.h"

namespace sluice::server {

// A hang, not a speed, is what a wait of this length finds.
inline constexpr std::chrono::seconds kTestPatience(60);

// A request as a script sees it. The script plays the engine on a thread of its own.
class FakeCall final : public GenerateCall {
 public:
  FakeCall(GenerateRequest request, std::shared_ptr<GenerateObserver> observer,
           int64_t max_undelivered_tokens)
      : request_(std::move(request)),
        observer_(std::move(observer)),
        max_undelivered_tokens_(max_undelivered_tokens) {}

  const GenerateRequest& request() const { return request_; }

  // Waits as long as max_undelivered_tokens are not taken, as the engine does. False if cancelled.
  bool send(GenerateChunk chunk) {
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock,
                    [&] { return is_cancelled_ || sent_ - taken_ < max_undelivered_tokens_; });
      if (is_cancelled_) return false;
      sent_ += static_cast<int64_t>(chunk.token_ids.size());
      changed_.notify_all();
    }
    observer_->on_chunk(std::move(chunk));
    return true;
  }
  // One token whose text is `text`.
  bool send(int32_t token_id, std::string text, int32_t index = 0) {
    GenerateChunk chunk;
    chunk.index = index;
    chunk.token_ids = {token_id};
    chunk.text = std::move(text);
    return send(std::move(chunk));
  }
  void send_finish(FinishReason reason, int32_t index = 0) {
    GenerateChunk chunk;
    chunk.index = index;
    chunk.finish_reason = reason;
    observer_->on_chunk(std::move(chunk));
  }
  void end(Result<GenerateSummary> end) { observer_->on_end(std::move(end)); }
  void end(Result<GenerateSummary> end, const Usage& usage, FinishReason reason) {
    observer_->on_usage(usage, reason);
    observer_->on_end(std::move(end));
  }
  void finish(FinishReason reason = FinishReason::kLength) {
    send_finish(reason);
    end(GenerateSummary{});
  }
  // The engine's answer to cancel().
  void end_cancelled() { end(fail(ErrorCode::kCancelled, "cancelled")); }

  bool wait_for_cancel() {
    return wait([&] { return is_cancelled_; });
  }
  // Until the reader has taken `tokens` in all.
  bool wait_for_delivered(int64_t tokens) {
    return wait([&] { return taken_ >= tokens; });
  }
  // Until send() waits for the reader.
  bool wait_for_pause() {
    return wait([&] { return sent_ - taken_ >= max_undelivered_tokens_; });
  }
  int64_t num_sent() const {
    std::scoped_lock lock(mutex_);
    return sent_;
  }
  int64_t num_taken() const {
    std::scoped_lock lock(mutex_);
    return taken_;
  }
  bool is_cancelled() const {
    std::scoped_lock lock(mutex_);
    return is_cancelled_;
  }

  void cancel() override {
    std::scoped_lock lock(mutex_);
    is_cancelled_ = true;
    changed_.notify_all();
  }
  void delivered(int32_t num_tokens) override {
    std::scoped_lock lock(mutex_);
    taken_ += num_tokens;
    changed_.notify_all();
  }
  int32_t num_prompt_tokens() const override {
    return request_.token_ids ? static_cast<int32_t>(request_.token_ids->size()) : 1;
  }

 private:
  template <typename Condition>
  bool wait(Condition condition) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, kTestPatience, condition);
  }

  const GenerateRequest request_;
  const std::shared_ptr<GenerateObserver> observer_;
  const int64_t max_undelivered_tokens_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  int64_t sent_ = 0;
  int64_t taken_ = 0;
  bool is_cancelled_ = false;
};

// A script: one token, then nothing until the request is cancelled.
inline void send_and_hang(FakeCall& call) {
  call.send(0, "a");
  call.wait_for_cancel();
  call.end_cancelled();
}

// A service without a model: every request runs `script`, which must call end(). Its tokenizer
// makes one token of each byte. Set everything before the server starts, but for health.
class FakeService final : public Service {
 public:
  using Script = std::function<void(FakeCall&)>;
  explicit FakeService(Script script = [](FakeCall& call) { call.finish(); })
      : script_(std::move(script)) {
    ModelInfo& model = models_.emplace_back();
    model.name = "tiny";
    model.family = "fake";
    model.digest = "00ff";
    model.dtype = "f32";
    model.profile = "test/1";
    model.num_parameters = int64_t{1} << 40;
    model.vocabulary_size = 256;
    model.context_length = 4096;
    model.has_tokenizer = true;
    model.end_token_ids = {2, 7};
    model.kv_capacity_tokens = int64_t{1} << 33;
    model.kv_bytes_per_token = 512;
    model.has_chat_template = true;
  }
  ~FakeService() override {
    std::vector<std::thread> threads;
    {
      std::scoped_lock lock(mutex_);
      threads.swap(threads_);
    }
    for (std::thread& thread : threads) thread.join();
  }

  Result<std::shared_ptr<GenerateCall>> generate(
      GenerateRequest request, std::shared_ptr<GenerateObserver> observer) override {
    if (on_generate) on_generate(request);
    if (generate_error) return std::unexpected(*generate_error);
    std::scoped_lock lock(mutex_);
    auto call = std::make_shared<FakeCall>(std::move(request), std::move(observer),
                                           limits_.max_undelivered_tokens);
    calls_.push_back(call);
    threads_.emplace_back([this, call] { script_(*call); });
    changed_.notify_all();
    return call;
  }

  Result<std::vector<int32_t>> tokenize(std::string_view model, std::string_view text,
                                        bool add_special_tokens) override {
    if (!is_known(model)) return fail(ErrorCode::kNotFound, "unknown model");
    std::vector<int32_t> ids;
    if (add_special_tokens) ids.push_back(1);
    for (const char c : text) ids.push_back(static_cast<uint8_t>(c));
    return ids;
  }
  // Its template is the messages' JSON itself.
  Result<RenderedChat> render_chat(std::string_view model, const ChatPrompt& chat) override {
    if (!is_known(model)) return fail(ErrorCode::kNotFound, "unknown model");
    return RenderedChat{chat.messages, *tokenize(model, chat.messages, false)};
  }
  Result<std::string> detokenize(std::string_view model, const std::vector<int64_t>& token_ids,
                                 bool skip_special_tokens) override {
    if (!is_known(model)) return fail(ErrorCode::kNotFound, "unknown model");
    std::string text;
    for (const int64_t id : token_ids) {
      if (id < 0 || id >= 256) {
        return invalid_argument("token id " + std::to_string(id) + " is not in [0, 256)");
      }
      if (id > 2 || !skip_special_tokens) text += static_cast<char>(id);
    }
    return text;
  }

  std::vector<ModelInfo> models() const override { return models_; }
  ServerInfo server_info() const override {
    return {.version = "1.2.3",
            .device = "fake",
            .num_threads = 3,
            .uptime = std::chrono::milliseconds(1'500),
            .requests_running = 4,
            .requests_waiting = 5,
            .kv_blocks_used = 6,
            .kv_blocks_total = 7,
            .prefix_cache_queries = 8,
            .prefix_cache_hits = 9,
            .preemptions = 10};
  }
  Health health() const override {
    std::scoped_lock lock(mutex_);
    return health_;
  }
  const ServiceLimits& limits() const override { return limits_; }
  observability::Registry& metrics() override { return metrics_; }
  void set_not_ready() override {}
  void begin_drain() override {}
  DrainEnd drain(std::chrono::nanoseconds) override { return DrainEnd::kFinished; }

  void set_health(Health health) {
    std::scoped_lock lock(mutex_);
    health_ = health;
  }
  // The call of this number from 0; null if it does not come in time.
  std::shared_ptr<FakeCall> wait_for_call(size_t number = 0) {
    std::unique_lock lock(mutex_);
    const bool has_come =
        changed_.wait_for(lock, kTestPatience, [&] { return calls_.size() > number; });
    return has_come ? calls_[number] : nullptr;
  }
  size_t num_calls() const {
    std::scoped_lock lock(mutex_);
    return calls_.size();
  }

  ServiceLimits limits_;
  observability::Registry metrics_;
  std::optional<Error> generate_error;
  std::function<void(const GenerateRequest&)> on_generate;  // on gRPC's thread

 private:
  bool is_known(std::string_view model) const { return model.empty() || model == "tiny"; }

  const Script script_;
  std::vector<ModelInfo> models_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  Health health_{.live = true, .ready = true};
  std::vector<std::shared_ptr<FakeCall>> calls_;
  std::vector<std::thread> threads_;
};

}  // namespace sluice::server
