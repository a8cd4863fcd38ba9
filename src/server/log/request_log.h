#pragma once

#include <memory>
#include <string>

#include "server/service_decorator.h"
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
class RequestLog final : public ServiceDecorator {
 public:
  // `service` must outlive this. `is_json`: as the log's formatter.
  RequestLog(Service& service, bool is_json);

  Result<std::shared_ptr<GenerateCall>> generate(
      GenerateRequest request, std::shared_ptr<GenerateObserver> observer) override;

 private:
  const bool is_json_;
  std::string only_model_;  // what an absent name means; empty if there are several
};

}  // namespace sluice::server
