#include "server/log/request_log.h"

#include <spdlog/spdlog.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "server/log/log_format.h"
#include "server/log/trace_context.h"

namespace sluice::server {
namespace {

using std::chrono::steady_clock;

constexpr size_t kMaxTextBytes = 128;

void write(const std::vector<LogField>& fields, bool is_json, const std::optional<Error>& error) {
  const std::shared_ptr<spdlog::logger> logger = spdlog::get(kStructuredLogger);
  if (logger == nullptr) return;
  const bool is_our_fault = error && error->code == ErrorCode::kInternal;
  logger->log(is_our_fault ? spdlog::level::err : spdlog::level::info,
              spdlog::string_view_t(join_fields(fields, is_json)));
}

// Who asks for what, as the request says it.
std::vector<LogField> describe(const GenerateRequest& request, const std::string& only_model) {
  std::vector<LogField> fields;
  const auto add = [&](const char* name, std::string_view value) {
    if (!value.empty()) fields.push_back(text_field(name, value.substr(0, kMaxTextBytes)));
  };
  add("id", request.request_id);
  add("model", request.model.empty() ? only_model : request.model);
  add("client", request.client);
  add("trace_id", trace_id_of(request.traceparent));
  return fields;
}

// Hands everything on and remembers what the line needs.
class LoggingObserver final : public GenerateObserver {
 public:
  LoggingObserver(std::shared_ptr<GenerateObserver> observer, std::vector<LogField> fields,
                  bool has_id, bool is_json)
      : observer_(std::move(observer)),
        fields_(std::move(fields)),
        has_id_(has_id),
        is_json_(is_json) {}

  void on_chunk(GenerateChunk chunk) override {
    if (!chunk.is_prompt) num_tokens_ += static_cast<int64_t>(chunk.token_ids.size());
    if (chunk.finish_reason && chunk.index == 0) reason_ = chunk.finish_reason;
    observer_->on_chunk(std::move(chunk));
  }

  void on_end(Result<GenerateSummary> end) override {
    std::optional<Error> error;
    if (end) {
      add_summary(*end);
    } else {
      error = Error{end.error().code, ""};
      fields_.push_back(number_field("completion_tokens", num_tokens_));
      fields_.push_back(text_field("error", to_string(error->code)));
    }
    fields_.push_back(number_field("seconds", base::in_seconds(steady_clock::now() - start_)));
    observer_->on_end(std::move(end));
    observer_.reset();
    write(fields_, is_json_, error);
  }

 private:
  void add_summary(const GenerateSummary& summary) {
    const Usage& usage = summary.usage;
    if (!has_id_) fields_.insert(fields_.begin(), text_field("id", summary.request_id));
    fields_.push_back(number_field("prompt_tokens", int64_t{usage.prompt_tokens}));
    fields_.push_back(number_field("cached_tokens", int64_t{usage.cached_tokens}));
    fields_.push_back(number_field("completion_tokens", int64_t{usage.completion_tokens}));
    fields_.push_back(number_field("queue_seconds", base::in_seconds(usage.queue_time)));
    fields_.push_back(number_field("prefill_seconds", base::in_seconds(usage.prefill_time)));
    fields_.push_back(number_field("decode_seconds", base::in_seconds(usage.decode_time)));
    if (reason_) fields_.push_back(text_field("finish_reason", to_string(*reason_)));
  }

  std::shared_ptr<GenerateObserver> observer_;
  std::vector<LogField> fields_;
  const bool has_id_;
  const bool is_json_;
  const steady_clock::time_point start_ = steady_clock::now();
  int64_t num_tokens_ = 0;
  std::optional<FinishReason> reason_;
};

}  // namespace

RequestLog::RequestLog(Service& service, bool is_json)
    : ServiceDecorator(service), is_json_(is_json) {
  const std::vector<ModelInfo> models = service.models();
  if (models.size() == 1) only_model_ = models.front().name;
}

Result<std::shared_ptr<GenerateCall>> RequestLog::generate(
    GenerateRequest request, std::shared_ptr<GenerateObserver> observer) {
  std::vector<LogField> fields = describe(request, only_model_);
  const bool has_id = !request.request_id.empty();
  auto accepted = inner().generate(
      std::move(request),
      std::make_shared<LoggingObserver>(std::move(observer), fields, has_id, is_json_));
  if (!accepted) {
    fields.push_back(text_field("error", to_string(accepted.error().code)));
    write(fields, is_json_, accepted.error());
  }
  return accepted;
}

}  // namespace sluice::server
