#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/clock.h"
#include "server/access/api_keys.h"
#include "server/service_decorator.h"

namespace sluice::server {

// Holds each client (GenerateRequest::client) to its ClientLimits, before the service it decorates
// sees the request. What is counted, and when:
// - requests: one for each generate() that these limits let through; given back if the service
//   refuses it for want of room (kResourceExhausted, kUnavailable), kept if the request was wrong.
// - tokens: those of the prompt, once for all completions, when the service has taken the request;
//   then each generated token as it reaches the observer. A request starts while at least one token
//   is left, and may overdraw: then the next one waits until the minute's rate has made up for it.
//   So nothing that has begun is cut off, and no estimate is made.
// - concurrency: from generate() to the observer's end.
// A refusal is kResourceExhausted with the limit's name and value, and the time after which a
// request would be let through.
//
// Threads: any. One lock, held for a few sums. A client without limits costs nothing.
class LimitedService final : public ServiceDecorator {
 public:
  using LimitsOf = std::function<ClientLimits(const std::string& client)>;
  // `inner` and `clock` must outlive this and every observer that it was given. `limits_of` is
  // asked at each request, so that limits may change.
  LimitedService(Service& inner, LimitsOf limits_of, const base::Clock& clock);

  Result<std::shared_ptr<GenerateCall>> generate(
      GenerateRequest request, std::shared_ptr<GenerateObserver> observer) override;

  class Ledger;

 private:
  const LimitsOf limits_of_;
  const std::shared_ptr<Ledger> ledger_;
};

}  // namespace sluice::server
