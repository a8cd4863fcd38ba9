#include "server/grpc/call_loop.h"

#include <grpc/support/time.h>

#include <algorithm>
#include <cstddef>
#include <utility>

#include "server/grpc/loop_call.h"

namespace sluice::server {
namespace {

constexpr int kNumWorkers = 2;
// Messages of a connection that leave together: the first of them waits for the last.
constexpr std::ptrdiff_t kMostTogether = 64;

}  // namespace

class CallLoop::Woken final : public LoopEvent {
 public:
  explicit Woken(CallLoop& loop) : loop_(loop) {}
  void complete(bool /*ok*/) override { loop_.look_at_woken(); }

 private:
  CallLoop& loop_;
};

CallLoop::~CallLoop() {
  stop();
}

void CallLoop::start(std::unique_ptr<grpc::ServerCompletionQueue> queue) {
  queue_ = std::move(queue);
  woken_event_ = std::make_unique<Woken>(*this);
  workers_ = std::make_unique<WorkerPool>(kNumWorkers);
  {
    const std::scoped_lock lock(mutex_);
    is_stopped_ = false;
  }
  thread_ = std::thread([this] { run(); });
}

void CallLoop::stop() {
  if (!thread_.joinable()) return;
  calls_.wait_for_none();
  workers_.reset();  // what they hold may hold this
  {
    const std::scoped_lock lock(mutex_);
    is_stopped_ = true;
  }
  queue_->Shutdown();
  thread_.join();
}

void CallLoop::wake(std::shared_ptr<LoopCall> call) {
  const std::scoped_lock lock(mutex_);
  if (is_stopped_) return;
  woken_.push_back(std::move(call));
  if (std::exchange(is_alarm_set_, true)) return;
  alarm_.Set(queue_.get(), gpr_time_0(GPR_CLOCK_MONOTONIC), woken_event_.get());
}

void CallLoop::look_at_woken() {
  std::vector<std::shared_ptr<LoopCall>> woken;
  {
    const std::scoped_lock lock(mutex_);
    is_alarm_set_ = false;
    woken.swap(woken_);
  }
  const auto fd_of = [](const auto& call) { return call->socket().fd; };
  std::ranges::stable_sort(woken, {}, fd_of);
  for (auto first = woken.begin(); first != woken.end();) {
    const auto most = first + std::min(woken.end() - first, kMostTogether);
    const auto last =
        std::find_if(first, most, [&](const auto& call) { return fd_of(call) != fd_of(*first); });
    const Cork cork(last - first > 1 ? (*first)->socket() : OpenSocket{});
    for (; first != last; ++first) (*first)->resume();
  }
}

void CallLoop::run() {
  void* tag = nullptr;
  bool ok = false;
  while (queue_->Next(&tag, &ok)) static_cast<LoopEvent*>(tag)->complete(ok);
}

}  // namespace sluice::server
