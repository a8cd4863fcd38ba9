#include "engine/engine_service.h"

#include <algorithm>
#include <future>
#include <utility>

#include "base/utf8.h"
#include "engine/validator.h"

namespace sluice::engine {
namespace {

constexpr size_t kMaxEchoedCharacters = 64;

// Generated tokens that a request with penalties counts without growing.
constexpr int32_t kMaxReservedCounts = 1024;

class EngineCall final : public GenerateCall {
 public:
  EngineCall(std::shared_ptr<LiveRequest> request, std::shared_ptr<EngineQueue> queue)
      : request_(std::move(request)), queue_(std::move(queue)) {}

  void cancel() override {
    for (const auto& signals : request_->signals) {
      signals->request_stop(sequence::StopSignal::kCancelled);
    }
    queue_->wake();
  }

  void delivered(int32_t num_tokens) override {
    if (request_->untaken.take(num_tokens, request_->signals, request_->max_undelivered)) {
      queue_->wake();
    }
  }

  int32_t num_prompt_tokens() const override {
    return static_cast<int32_t>(request_->checked.prompt.size());
  }

 private:
  std::shared_ptr<LiveRequest> request_;
  std::shared_ptr<EngineQueue> queue_;
};

// The beginning of a client's string, fit for a message.
std::string echoed(std::string_view text) {
  std::string shown;
  size_t num_characters = 0;
  while (!text.empty() && num_characters++ < kMaxEchoedCharacters) {
    const Utf8Head head = read_utf8_head(text);
    const bool is_plain = head.kind == Utf8Head::Kind::kCharacter &&
                          static_cast<unsigned char>(text[0]) >= 0x20 && text[0] != 0x7f;
    shown += is_plain ? std::string(text.substr(0, head.length)) : "?";
    text.remove_prefix(head.length);
  }
  return text.empty() ? shown : shown + "...";
}

// Completions that one model may have live: those that run and those that wait.
int32_t max_live(const ServiceParts& parts) {
  const int64_t sum = int64_t{parts.limits.max_queued_requests} + parts.max_num_seqs;
  return static_cast<int32_t>(std::min<int64_t>(sum, INT32_MAX));
}

// Whether the generated text stands at the start: nothing of the prompt shows before it.
bool starts_text(const CheckedRequest& checked, const tokenizer::Tokenizer& tokenizer) {
  return std::ranges::all_of(checked.prompt, [&](int32_t id) {
    return (checked.skip_special_tokens && tokenizer.is_special(id)) ||
           tokenizer.stays_at_start(id);
  });
}

std::shared_ptr<LiveRequest> make_live(CheckedRequest checked, const ServedModel& model,
                                       const ServiceLimits& limits,
                                       std::shared_ptr<GenerateObserver> observer) {
  auto live = std::make_shared<LiveRequest>();
  live->checked = std::move(checked);
  live->observer = std::move(observer);
  live->max_undelivered = limits.max_undelivered_tokens;
  const CheckedRequest& request = live->checked;
  live->delivery.streams.resize(static_cast<size_t>(request.n));
  for (DeliveryStream& stream : live->delivery.streams) {
    live->signals.push_back(std::make_shared<sequence::Signals>());
    stream.is_prompt_due = request.wants_prompt_chunk();
    if (model.tokenizer == nullptr) continue;
    stream.text.emplace(*model.tokenizer, request.skip_special_tokens, request.stop_strings,
                        request.stop.min_tokens, starts_text(request, *model.tokenizer));
  }
  return live;
}

std::vector<std::unique_ptr<sequence::Sequence>> make_sequences(
    const std::shared_ptr<LiveRequest>& live, uint64_t number) {
  const CheckedRequest& checked = live->checked;
  std::vector<std::unique_ptr<sequence::Sequence>> completions;
  for (int32_t index = 0; index < checked.n; ++index) {
    sequence::SequenceSpec spec;
    spec.request = number;
    spec.index = index;
    spec.prompt = checked.prompt;
    spec.sampling = checked.sampling;
    if (index > 0) spec.sampling.num_prompt_logprobs = -1;  // the delivery side copies them
    spec.stop = checked.stop;
    spec.client = checked.client;
    spec.arrival = checked.arrival;
    spec.deadline = checked.deadline;
    spec.first_token_by = checked.first_token_by;
    spec.last_token_by = checked.last_token_by;
    spec.max_undelivered = live->max_undelivered;
    auto state = std::make_unique<SequenceState>();
    state->request = live;
    if (sampling::uses_counts(spec.sampling)) {
      const int32_t num_reserved = std::clamp(spec.stop.max_tokens, 0, kMaxReservedCounts);
      state->counts.reserve(spec.prompt.size(), static_cast<size_t>(num_reserved));
      state->counts.add_prompt(spec.prompt);
    }
    completions.push_back(std::make_unique<sequence::Sequence>(
        std::move(spec), live->signals[static_cast<size_t>(index)]));
    completions.back()->attach(std::move(state));
  }
  return completions;
}

}  // namespace

EngineService::EngineService(ServiceParts parts, const base::Clock& clock)
    : clock_(clock),
      start_time_(clock.now()),
      limits_(parts.limits),
      live_within_(parts.live_within),
      models_(std::move(parts.models)),
      info_(parts.info),
      registry_(parts.metrics ? std::move(parts.metrics)
                              : std::make_shared<observability::Registry>()),
      metrics_(*registry_, models_),
      gauges_(*registry_, models_, info_),
      live_(std::vector<int32_t>(models_.size(), max_live(parts))),
      profiler_(std::move(parts.profiler)),
      delivery_(models_, live_, metrics_),
      queue_(std::make_shared<EngineQueue>(models_.size() * static_cast<size_t>(max_live(parts)))),
      loop_(std::move(parts.lanes), queue_, clock, delivery_,
            {.profiler = profiler_.get(),
             .metrics = &metrics_,
             .on_lost = std::move(parts.on_device_lost)}),
      collection_(registry_->add_collector(
          [this] { gauges_.update(loop_, metrics_, health(), clock_.now()); })) {}

EngineService::~EngineService() {
  collection_.reset();
  shut_down(std::chrono::nanoseconds::max());
}

Result<void> EngineService::start(const std::function<Result<void>()>& prepare) {
  std::promise<Result<void>> prepared;
  std::future<Result<void>> is_prepared = prepared.get_future();
  engine_thread_ = std::thread([this, &prepare, prepared = std::move(prepared)]() mutable {
    Result<void> result = prepare();
    const bool runs = result.has_value();
    prepared.set_value(std::move(result));
    if (runs) loop_.run();
    engine_has_ended_.release();
  });
  Result<void> result = is_prepared.get();
  if (!result) return result;
  delivery_thread_ = std::thread([this] { delivery_.run(); });
  is_started_.store(true, std::memory_order_release);
  return {};
}

bool EngineService::tick() {
  const bool has_run = loop_.tick();
  return delivery_.deliver_pending() || has_run;
}

Result<size_t> EngineService::find_model(std::string_view name) const {
  if (name.empty()) {
    if (models_.size() == 1) return size_t{0};
    return invalid_argument("model is absent, and this server has " +
                            std::to_string(models_.size()) + " models");
  }
  const auto place =
      std::ranges::find_if(models_, [&](const ServedModel& m) { return m.info.name == name; });
  if (place == models_.end()) {
    return fail(ErrorCode::kNotFound, "model \"" + echoed(name) + "\" is not served here");
  }
  return static_cast<size_t>(place - models_.begin());
}

Result<std::shared_ptr<GenerateCall>> EngineService::generate(
    GenerateRequest request, std::shared_ptr<GenerateObserver> observer) {
  auto accepted = accept(std::move(request), std::move(observer));
  if (!accepted) metrics_.refuse(accepted.error().code);
  return accepted;
}

Result<std::shared_ptr<GenerateCall>> EngineService::accept(
    GenerateRequest request, std::shared_ptr<GenerateObserver> observer) {
  if (live_.is_closed()) {
    return fail(ErrorCode::kUnavailable, "the server is draining and takes no new requests");
  }
  const auto model = find_model(request.model);
  if (!model) return std::unexpected(model.error());
  auto checked = check_request(std::move(request), models_[*model], limits_, clock_.now());
  if (!checked) return std::unexpected(checked.error());
  checked->model_idx = *model;
  auto live = make_live(std::move(*checked), models_[*model], limits_, std::move(observer));
  NewSequences sequences{*model, make_sequences(live, next_request_.fetch_add(1))};
  if (auto added = live_.add(live); !added) return std::unexpected(added.error());
  if (auto queued = enqueue(*live, std::move(sequences)); !queued) {
    live_.take(*live);
    live_.settle();
    return std::unexpected(queued.error());
  }
  return std::make_shared<EngineCall>(std::move(live), queue_);
}

Result<void> EngineService::enqueue(const LiveRequest& live, NewSequences sequences) {
  const CheckedRequest& checked = live.checked;
  const int64_t num_tokens = checked.num_prompt_tokens();
  std::atomic<int64_t>& queued_tokens = loop_.lanes()[checked.model_idx]->queued_tokens();
  // Added only if it fits: one that is refused must not count against another one meanwhile.
  int64_t num_before = queued_tokens.load(std::memory_order_relaxed);
  do {
    if (num_before > 0 && num_before + num_tokens > limits_.max_queued_tokens) {
      return std::unexpected(Error{
          ErrorCode::kResourceExhausted,
          "queue is full: " + std::to_string(num_before) + " prompt tokens wait, and " +
              std::to_string(num_tokens) + " more are beyond the limit of " +
              std::to_string(limits_.max_queued_tokens) + " (--max-queued-tokens), try again later",
          kRetryAfter});
    }
  } while (!queued_tokens.compare_exchange_weak(num_before, num_before + num_tokens,
                                                std::memory_order_relaxed));
  ModelMetrics& metrics = metrics_.model(checked.model_idx);
  const auto num_prompt_tokens = std::ssize(checked.prompt);
  metrics.num_arriving.fetch_add(checked.n, std::memory_order_relaxed);
  if (!queue_->try_push(std::move(sequences))) {
    metrics.num_arriving.fetch_sub(checked.n, std::memory_order_relaxed);
    queued_tokens.fetch_sub(num_tokens, std::memory_order_relaxed);
    return fail(ErrorCode::kUnavailable, loop_.is_lost()
                                             ? "the server has lost the device that it computes on"
                                             : "the server is shutting down");
  }
  metrics.prompt_tokens.add(num_prompt_tokens);
  return {};
}

Result<std::vector<int32_t>> EngineService::tokenize(std::string_view model, std::string_view text,
                                                     bool add_special_tokens) {
  const auto found = find_model(model);
  if (!found) return std::unexpected(found.error());
  const tokenizer::Tokenizer* tokenizer = models_[*found].tokenizer.get();
  if (tokenizer == nullptr) {
    return fail(ErrorCode::kFailedPrecondition, "the model has no tokenizer");
  }
  if (auto checked = check_text("text", text, limits_); !checked)
    return std::unexpected(checked.error());
  return tokenizer->encode(text, add_special_tokens);
}

Result<std::string> EngineService::detokenize(std::string_view model,
                                              const std::vector<int64_t>& token_ids,
                                              bool skip_special_tokens) {
  const auto found = find_model(model);
  if (!found) return std::unexpected(found.error());
  const tokenizer::Tokenizer* tokenizer = models_[*found].tokenizer.get();
  if (tokenizer == nullptr) {
    return fail(ErrorCode::kFailedPrecondition, "the model has no tokenizer");
  }
  if (token_ids.size() > static_cast<size_t>(limits_.max_prompt_bytes)) {
    return invalid_argument("token_ids has " + std::to_string(token_ids.size()) +
                            " entries, limit is " + std::to_string(limits_.max_prompt_bytes));
  }
  const auto ids = check_token_ids(token_ids, "token_ids", models_[*found].info.vocabulary_size);
  if (!ids) return std::unexpected(ids.error());
  return tokenizer->decode(*ids, skip_special_tokens);
}

Result<RenderedChat> EngineService::render_chat(std::string_view model, const ChatPrompt& chat) {
  const auto found = find_model(model);
  if (!found) return std::unexpected(found.error());
  const ServedModel& served = models_[*found];
  if (served.chat == nullptr) return fail(ErrorCode::kFailedPrecondition, served.no_chat_reason);
  return served.chat->render(chat, limits_);
}

std::vector<ModelInfo> EngineService::models() const {
  std::vector<ModelInfo> infos;
  infos.reserve(models_.size());
  for (const ServedModel& model : models_) infos.push_back(model.info);
  return infos;
}

ServerInfo EngineService::server_info() const {
  ServerInfo info = info_;
  info.uptime = clock_.now() - start_time_;
  for (const auto& lane : loop_.lanes()) {
    const Lane::Gauges& gauges = lane->gauges();
    info.requests_running += gauges.running.load(std::memory_order_relaxed);
    info.requests_waiting += gauges.waiting.load(std::memory_order_relaxed);
    info.kv_blocks_used += gauges.blocks_used.load(std::memory_order_relaxed);
    info.kv_blocks_total += gauges.blocks_total.load(std::memory_order_relaxed);
    info.prefix_cache_queries += gauges.prefix_queries.load(std::memory_order_relaxed);
    info.prefix_cache_hits += gauges.prefix_hits.load(std::memory_order_relaxed);
    info.preemptions += gauges.preemptions.load(std::memory_order_relaxed);
  }
  info.requests_waiting += static_cast<int64_t>(queue_->size());
  return info;
}

Health EngineService::health() const {
  Health health;
  health.live = clock_.now() - loop_.heartbeat() < live_within_ && !loop_.is_lost();
  health.ready = health.live && is_started_.load(std::memory_order_acquire) &&
                 !is_leaving_.load(std::memory_order_acquire) && !live_.is_closed();
  return health;
}

int64_t EngineService::num_preemptions() const {
  int64_t sum = 0;
  for (const auto& lane : loop_.lanes()) {
    sum += lane->gauges().preemptions.load(std::memory_order_relaxed);
  }
  return sum;
}

DrainEnd EngineService::drain(std::chrono::nanoseconds limit) {
  begin_drain();
  const bool finished = live_.wait_until_empty(limit);
  if (!shut_down(kLastStepTime)) return DrainEnd::kStuck;
  return finished ? DrainEnd::kFinished : DrainEnd::kCutOff;
}

bool EngineService::shut_down(std::chrono::nanoseconds last_step_time) {
  live_.close();
  is_started_.store(false, std::memory_order_release);
  loop_.stop();
  const bool has_ended = join_engine(last_step_time);
  has_ended ? join_delivery() : abandon_engine();
  return has_ended;
}

bool EngineService::join_engine(std::chrono::nanoseconds limit) {
  if (!engine_thread_.joinable()) {
    loop_.run();  // never started: ends what was accepted
    return true;
  }
  const bool waits_forever = limit == std::chrono::nanoseconds::max();
  if (!waits_forever && !engine_has_ended_.try_acquire_for(limit)) return false;
  engine_thread_.join();
  return true;
}

// What the engine has said comes first, and what it says later is for nobody.
void EngineService::abandon_engine() {
  delivery_.close();
  join_delivery();
  delivery_.end(live_.all(), {ErrorCode::kUnavailable, "the server is shutting down"},
                clock_.now());
}

void EngineService::join_delivery() {
  delivery_.stop();
  if (delivery_thread_.joinable()) {
    delivery_thread_.join();
  } else {
    delivery_.run();
  }
}

StepStatistics EngineService::take_step_statistics() {
  StepStatistics statistics;
  statistics.steps = loop_.num_steps() - std::exchange(num_steps_taken_, loop_.num_steps());
  statistics.tokens = loop_.num_tokens() - std::exchange(num_tokens_taken_, loop_.num_tokens());
  std::vector<float> step_ms = loop_.take_step_ms();
  std::vector<float> engine_us = loop_.take_engine_us();
  statistics.step_ms_p50 = observability::percentile(step_ms, 0.5);
  statistics.step_ms_p99 = observability::percentile(step_ms, 0.99);
  statistics.engine_us_p50 = observability::percentile(engine_us, 0.5);
  statistics.engine_us_p99 = observability::percentile(engine_us, 0.99);
  if (profiler_ != nullptr) statistics.profiles = profiler_->take();
  return statistics;
}

}  // namespace sluice::engine

namespace sluice {

StepStatistics take_step_statistics(Service& service) {
  auto* own = dynamic_cast<engine::EngineService*>(&service);
  return own == nullptr ? StepStatistics{} : own->take_step_statistics();
}

}  // namespace sluice
