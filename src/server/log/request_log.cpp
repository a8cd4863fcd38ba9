#include "server/log/request_log.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/random_id.h"
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

// Who asks for what. A model that is not served is the client's text, which no log has.
std::vector<LogField> describe(const GenerateRequest& request,
                               const std::vector<std::string>& models) {
  std::vector<LogField> fields;
  const auto add = [&](const char* name, std::string_view value) {
    if (!value.empty()) fields.push_back(text_field(name, value.substr(0, kMaxTextBytes)));
  };
  add("id", request.request_id);
  const bool is_only = request.model.empty() && models.size() == 1;
  const auto model = is_only ? models.begin() : std::ranges::find(models, request.model);
  if (model != models.end()) add("model", *model);
  add("client", request.client);
  const TraceContext trace = read_traceparent(request.traceparent);
  add("trace_id", trace.trace_id);
  add("parent_id", trace.parent_id);
  return fields;
}

// Hands everything on and remembers what the line needs.
class LoggingObserver final : public GenerateObserver {
 public:
  LoggingObserver(std::shared_ptr<GenerateObserver> observer, std::vector<LogField> fields,
                  bool is_json)
      : observer_(std::move(observer)), fields_(std::move(fields)), is_json_(is_json) {}

  void on_chunk(GenerateChunk chunk) override { observer_->on_chunk(std::move(chunk)); }

  void on_usage(const Usage& usage, FinishReason reason) override {
    const auto seconds = [](std::chrono::nanoseconds time) { return base::in_seconds(time); };
    fields_.insert(fields_.end(),
                   {number_field("prompt_tokens", int64_t{usage.prompt_tokens}),
                    number_field("cached_tokens", int64_t{usage.cached_tokens}),
                    number_field("completion_tokens", int64_t{usage.completion_tokens}),
                    number_field("queue_seconds", seconds(usage.queue_time)),
                    number_field("prefill_seconds", seconds(usage.prefill_time)),
                    number_field("decode_seconds", seconds(usage.decode_time)),
                    text_field("finish_reason", to_string(reason))});
    observer_->on_usage(usage, reason);
  }

  void on_end(Result<GenerateSummary> end) override {
    std::optional<Error> error;
    if (!end) {
      error = Error{end.error().code, ""};
      fields_.push_back(text_field("error", to_string(error->code)));
    }
    fields_.push_back(number_field("seconds", base::in_seconds(steady_clock::now() - start_)));
    observer_->on_end(std::move(end));
    observer_.reset();
    write(fields_, is_json_, error);
  }

 private:
  std::shared_ptr<GenerateObserver> observer_;
  std::vector<LogField> fields_;
  const bool is_json_;
  const steady_clock::time_point start_ = steady_clock::now();
};

}  // namespace

RequestLog::RequestLog(Service& service, bool is_json)
    : ServiceDecorator(service), is_json_(is_json) {
  for (const ModelInfo& model : service.models()) models_.push_back(model.name);
}

Result<std::shared_ptr<GenerateCall>> RequestLog::generate(
    GenerateRequest request, std::shared_ptr<GenerateObserver> observer) {
  if (request.request_id.empty()) request.request_id = random_id(kRequestIdDigits);
  std::vector<LogField> fields = describe(request, models_);
  auto accepted = inner().generate(
      std::move(request), std::make_shared<LoggingObserver>(std::move(observer), fields, is_json_));
  if (!accepted) {
    fields.push_back(text_field("error", to_string(accepted.error().code)));
    write(fields, is_json_, accepted.error());
  }
  return accepted;
}

}  // namespace sluice::server
