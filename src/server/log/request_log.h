#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "sluice/service.h"

namespace sluice::server {

// A service that writes one line for each request of the one behind it: when it has ended, or was
// refused. The line has ids, counts, times and reasons; nothing of a prompt or of an answer.
//
// | field                                      | there |
// |--------------------------------------------|-----------------------------------------|
// | id, model, client, trace_id                | if known; at most 128 bytes each        |
// | prompt_tokens, cached_tokens               | unless it failed                        |
// | completion_tokens, seconds                 | unless it was refused                   |
// | queue_seconds, prefill_seconds, decode_seconds | unless it failed                    |
// | finish_reason                              | of the first completion, unless it failed |
// | error                                      | code of the failure or of the refusal   |
//
// Threads: any.
class RequestLog final : public Service {
 public:
  // `service` must outlive this. `is_json`: as the log's formatter.
  RequestLog(Service& service, bool is_json);

  Result<std::shared_ptr<GenerateCall>> generate(
      GenerateRequest request, std::shared_ptr<GenerateObserver> observer) override;

  Result<std::vector<int32_t>> tokenize(std::string_view model, std::string_view text,
                                        bool add_special_tokens) override {
    return service_.tokenize(model, text, add_special_tokens);
  }
  Result<std::string> detokenize(std::string_view model, const std::vector<int64_t>& token_ids,
                                 bool skip_special_tokens) override {
    return service_.detokenize(model, token_ids, skip_special_tokens);
  }
  Result<RenderedChat> render_chat(std::string_view model, const ChatPrompt& chat) override {
    return service_.render_chat(model, chat);
  }
  std::vector<ModelInfo> models() const override { return service_.models(); }
  ServerInfo server_info() const override { return service_.server_info(); }
  Health health() const override { return service_.health(); }
  const ServiceLimits& limits() const override { return service_.limits(); }
  observability::Registry& metrics() override { return service_.metrics(); }
  void set_not_ready() override { service_.set_not_ready(); }
  void begin_drain() override { service_.begin_drain(); }
  bool drain(std::chrono::nanoseconds limit) override { return service_.drain(limit); }

 private:
  Service& service_;
  const bool is_json_;
  std::string only_model_;  // what an absent name means; empty if there are several
};

}  // namespace sluice::server
