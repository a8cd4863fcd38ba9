#include "engine/live_requests.h"

#include <utility>

namespace sluice::engine {

LiveRequests::LiveRequests(std::vector<int32_t> max_sequences)
    : max_sequences_(std::move(max_sequences)), num_sequences_(max_sequences_.size(), 0) {}

Result<void> LiveRequests::add(std::shared_ptr<LiveRequest> request) {
  const size_t model = request->checked.model_idx;
  const std::lock_guard lock(mutex_);
  if (is_closed_) {
    return fail(ErrorCode::kUnavailable, "the server is draining and takes no new requests");
  }
  const Key key = key_of(*request);
  if (by_key_.contains(key)) {
    return fail(ErrorCode::kAlreadyExists, "a live request has this request_id already");
  }
  if (request->checked.n > max_sequences_[model]) {
    return invalid_argument("n is " + std::to_string(request->checked.n) + ", but no more than " +
                            std::to_string(max_sequences_[model]) +
                            " completions may run and wait (--max-queued-requests and"
                            " --max-num-seqs)");
  }
  if (request->checked.n > max_sequences_[model] - num_sequences_[model]) {
    return std::unexpected(Error{ErrorCode::kResourceExhausted,
                                 "queue is full: " + std::to_string(num_sequences_[model]) +
                                     " completions run or wait, limit is " +
                                     std::to_string(max_sequences_[model]) +
                                     " (--max-queued-requests and --max-num-seqs), try again later",
                                 kRetryAfter});
  }
  num_sequences_[model] += request->checked.n;
  by_key_.emplace(key, std::move(request));
  return {};
}

std::shared_ptr<LiveRequest> LiveRequests::take(const LiveRequest& request) {
  const std::lock_guard lock(mutex_);
  const auto place = by_key_.find(key_of(request));
  num_sequences_[request.checked.model_idx] -= request.checked.n;
  ++num_unsettled_;
  std::shared_ptr<LiveRequest> taken = std::move(place->second);
  by_key_.erase(place);
  return taken;
}

void LiveRequests::settle() {
  const std::lock_guard lock(mutex_);
  --num_unsettled_;
  if (by_key_.empty() && num_unsettled_ == 0) emptied_.notify_all();
}

std::vector<std::shared_ptr<LiveRequest>> LiveRequests::all() const {
  const std::lock_guard lock(mutex_);
  std::vector<std::shared_ptr<LiveRequest>> requests;
  for (const auto& entry : by_key_) requests.push_back(entry.second);
  return requests;
}

void LiveRequests::close() {
  const std::lock_guard lock(mutex_);
  is_closed_ = true;
}

bool LiveRequests::is_closed() const {
  const std::lock_guard lock(mutex_);
  return is_closed_;
}

bool LiveRequests::wait_until_empty(std::chrono::nanoseconds limit) {
  std::unique_lock lock(mutex_);
  return emptied_.wait_until(lock, base::after(std::chrono::steady_clock::now(), limit),
                             [&] { return by_key_.empty() && num_unsettled_ == 0; });
}

}  // namespace sluice::engine
