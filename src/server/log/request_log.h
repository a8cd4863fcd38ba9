#pragma once

#include <memory>
#include <string>
#include <vector>

#include "server/service_decorator.h"
#include "sluice/service.h"

namespace sluice::server {

// A service that writes one line for each request of the one behind it: when it has ended, or was
// refused. The line has ids, counts, times and reasons; nothing of a prompt or of an answer.
//
// | field                                          | there                              |
// |------------------------------------------------|------------------------------------|
// | id                                             | always; drawn if it brings none    |
// | model                                          | if it is served here               |
// | client, trace_id, parent_id                    | if known                           |
// | prompt_tokens, cached_tokens, completion_tokens | unless it was refused             |
// | queue_seconds, prefill_seconds, decode_seconds | unless it was refused              |
// | seconds, finish_reason                         | unless it was refused              |
// | error                                          | code of the failure or the refusal |
//
// Texts have at most 128 bytes. The finish reason is the first completion's, or the failed one's.
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
  std::vector<std::string> models_;
};

}  // namespace sluice::server
