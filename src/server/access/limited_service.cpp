#include "server/access/limited_service.h"

#include <atomic>
#include <mutex>
#include <unordered_map>
#include <utility>

#include "observability/metrics.h"
#include "server/access/token_bucket.h"

namespace sluice::server {
namespace {

// What a client with too many requests under way is told to wait: nobody knows when one ends.
constexpr base::Duration kConcurrencyRetry = std::chrono::seconds(1);

// A limit by its name in the file of keys, and how often it refused a request.
class Limit final {
 public:
  Limit(const char* name, observability::Registry& metrics)
      : name_(name),
        num_refused_(
            metrics.counter({"sluice_requests_limited_total",
                             "Requests that a limit of their API key refused before the engine.",
                             {{"limit", name}}})) {}

  std::unexpected<Error> refuse(int64_t value, base::Duration retry_after) {
    num_refused_.add();
    return std::unexpected(Error{ErrorCode::kResourceExhausted,
                                 "the limit of this API key is reached: " + std::string(name_) +
                                     " is " + std::to_string(value),
                                 retry_after});
  }

 private:
  const char* const name_;
  observability::Counter& num_refused_;
};

}  // namespace

// What each client has taken lately. Threads: any.
class LimitedService::Ledger final {
 public:
  Ledger(const base::Clock& clock, observability::Registry& metrics)
      : clock_(clock),
        concurrency_("concurrent_requests", metrics),
        token_rate_("tokens_per_minute", metrics),
        request_rate_("requests_per_minute", metrics) {}

  // Takes one request and one place, or says which limit is reached.
  Result<void> begin(const std::string& client, const ClientLimits& limits) {
    const base::TimePoint now = clock_.now();
    const std::scoped_lock lock(mutex_);
    Account& account = account_of(client, now);
    if (limits.concurrent_requests && account.num_live >= *limits.concurrent_requests) {
      return concurrency_.refuse(*limits.concurrent_requests, kConcurrencyRetry);
    }
    if (const auto rate = limits.tokens_per_minute) {
      account.tokens.fill(now, *rate);
      if (!account.tokens.has(1, *rate)) {
        return token_rate_.refuse(*rate, account.tokens.time_until(1, *rate));
      }
    }
    if (const auto rate = limits.requests_per_minute) {
      account.requests.fill(now, *rate);
      if (!account.requests.has(1, *rate)) {
        return request_rate_.refuse(*rate, account.requests.time_until(1, *rate));
      }
      account.requests.take(1);
    }
    ++account.num_live;
    return {};
  }
  // Each of the following comes between a begin() and its end().
  void give_back_request(const std::string& client) {
    const std::scoped_lock lock(mutex_);
    accounts_.at(client).requests.take(-1);
  }
  void take_tokens(const std::string& client, int64_t num_tokens) {
    const std::scoped_lock lock(mutex_);
    accounts_.at(client).tokens.take(num_tokens);
  }
  void end(const std::string& client) {
    const std::scoped_lock lock(mutex_);
    --accounts_.at(client).num_live;
  }

 private:
  struct Account {
    explicit Account(base::TimePoint now) : requests(now), tokens(now) {}
    TokenBucket requests;
    TokenBucket tokens;
    int64_t num_live = 0;  // an account with live requests stays
  };

  Account& account_of(const std::string& client, base::TimePoint now) {
    const auto place = accounts_.find(client);
    if (place != accounts_.end()) return place->second;
    // Names come from the file of keys; those that it had once must not stay for ever.
    if (accounts_.size() >= 2 * KeySet::kMaxKeys) {
      std::erase_if(accounts_, [now](const auto& entry) {
        const Account& account = entry.second;
        return account.num_live == 0 && account.requests.is_full(now) &&
               account.tokens.is_full(now);
      });
    }
    return accounts_.try_emplace(client, now).first->second;
  }

  const base::Clock& clock_;
  Limit concurrency_;
  Limit token_rate_;
  Limit request_rate_;
  std::mutex mutex_;
  std::unordered_map<std::string, Account> accounts_;
};

namespace {

// Counts what a client's request gives it. The account's part ends once the request has ended and
// release() was called, whichever comes later: until then the account stays.
class CountingObserver final : public GenerateObserver {
 public:
  CountingObserver(std::shared_ptr<LimitedService::Ledger> ledger, std::string client,
                   bool counts_tokens, std::shared_ptr<GenerateObserver> inner)
      : ledger_(std::move(ledger)),
        client_(std::move(client)),
        counts_tokens_(counts_tokens),
        inner_(std::move(inner)) {}

  void on_chunk(GenerateChunk chunk) override {
    if (counts_tokens_ && !chunk.is_prompt && !chunk.token_ids.empty()) {
      ledger_->take_tokens(client_, std::ssize(chunk.token_ids));
    }
    inner_->on_chunk(std::move(chunk));
  }
  void on_usage(const Usage& usage, FinishReason reason) override {
    inner_->on_usage(usage, reason);
  }
  void on_end(Result<GenerateSummary> end) override {
    release();  // before its owner hears of the end, and asks again
    inner_->on_end(std::move(end));
  }
  void release() {
    if (num_holders_.fetch_sub(1, std::memory_order_acq_rel) == 1) ledger_->end(client_);
  }

 private:
  const std::shared_ptr<LimitedService::Ledger> ledger_;
  const std::string client_;
  const bool counts_tokens_;
  const std::shared_ptr<GenerateObserver> inner_;
  std::atomic<int> num_holders_{2};
};

}  // namespace

LimitedService::LimitedService(Service& inner, LimitsOf limits_of, const base::Clock& clock)
    : ServiceDecorator(inner),
      limits_of_(std::move(limits_of)),
      ledger_(std::make_shared<Ledger>(clock, inner.metrics())) {}

Result<std::shared_ptr<GenerateCall>> LimitedService::generate(
    GenerateRequest request, std::shared_ptr<GenerateObserver> observer) {
  const std::string client = request.client;
  const ClientLimits limits = limits_of_(client);
  if (limits == ClientLimits{}) return inner().generate(std::move(request), std::move(observer));
  if (auto begun = ledger_->begin(client, limits); !begun) {
    return std::unexpected(std::move(begun.error()));
  }
  const bool counts_tokens = limits.tokens_per_minute.has_value();
  const auto counting =
      std::make_shared<CountingObserver>(ledger_, client, counts_tokens, std::move(observer));
  auto call = inner().generate(std::move(request), counting);
  if (!call) {
    const ErrorCode code = call.error().code;
    const bool had_no_room =
        code == ErrorCode::kResourceExhausted || code == ErrorCode::kUnavailable;
    if (had_no_room && limits.requests_per_minute) ledger_->give_back_request(client);
    ledger_->end(client);
    return call;
  }
  // Until here the account is held by this call, even if the request has ended meanwhile.
  if (counts_tokens) ledger_->take_tokens(client, (*call)->num_prompt_tokens());
  counting->release();
  return call;
}

}  // namespace sluice::server
