#include "server/call_handle.h"

#include <utility>

namespace sluice::server {

void CallHandle::set(std::shared_ptr<GenerateCall> call) {
  bool is_cancelled = false;
  int32_t early_tokens = 0;
  {
    const std::scoped_lock lock(mutex_);
    if (is_released_) return;
    is_cancelled = is_cancelled_;
    early_tokens = std::exchange(early_tokens_, 0);
    call_ = call;
  }
  if (is_cancelled) call->cancel();
  if (early_tokens > 0) call->delivered(early_tokens);
}

void CallHandle::delivered(int32_t num_tokens) {
  std::shared_ptr<GenerateCall> call;
  {
    const std::scoped_lock lock(mutex_);
    if (!call_) early_tokens_ += num_tokens;
    call = call_;
  }
  if (call && num_tokens > 0) call->delivered(num_tokens);
}

void CallHandle::cancel() {
  std::shared_ptr<GenerateCall> call;
  {
    const std::scoped_lock lock(mutex_);
    is_cancelled_ = true;
    call = call_;
  }
  if (call) call->cancel();
}

void CallHandle::release() {
  std::shared_ptr<GenerateCall> call;  // let go outside the lock
  const std::scoped_lock lock(mutex_);
  is_released_ = true;
  call = std::exchange(call_, nullptr);
}

}  // namespace sluice::server
