#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/live_request.h"
#include "sluice/error.h"

namespace sluice::engine {

// What a request that finds the queue full is told to wait.
inline constexpr std::chrono::nanoseconds kRetryAfter = std::chrono::seconds(1);

// The requests that were accepted and have not ended: finds duplicates, bounds their number, keeps
// each alive until it is removed, and tells when none is left.
//
// Threads: any. The lock is held for a look-up, never while a request is served.
class LiveRequests final {
 public:
  // `max_sequences[m]`: completions that model m may have live at once.
  explicit LiveRequests(std::vector<int32_t> max_sequences);

  // kAlreadyExists: a live request of the same client has this id. kResourceExhausted: too many
  // completions are live. kInvalidArgument: it has more completions than may ever live.
  // kUnavailable: closed.
  Result<void> add(std::shared_ptr<LiveRequest> request);
  // Frees the request's id and places, so that its owner may use them again as soon as it hears of
  // the end. settle() follows when it has heard.
  // Requires: the request is here.
  std::shared_ptr<LiveRequest> take(const LiveRequest& request);
  void settle();

  std::vector<std::shared_ptr<LiveRequest>> all() const;

  // Refuses every later add().
  void close();
  bool is_closed() const;
  // Waits until there are none and all are settled, at most `limit`. True if so.
  bool wait_until_empty(std::chrono::nanoseconds limit);

 private:
  // Whose it is, and its id, both in the request: clients know nothing of each other's ids.
  using Key = std::pair<std::string_view, std::string_view>;
  static Key key_of(const LiveRequest& request) {
    return {request.checked.client, request.checked.id};
  }

  mutable std::mutex mutex_;
  std::condition_variable emptied_;
  std::map<Key, std::shared_ptr<LiveRequest>> by_key_;
  const std::vector<int32_t> max_sequences_;
  std::vector<int32_t> num_sequences_;
  int32_t num_unsettled_ = 0;
  bool is_closed_ = false;
};

}  // namespace sluice::engine
