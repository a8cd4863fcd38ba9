#include "server/grpc/generate_loop.h"

#include <grpc/support/time.h>

#include <utility>

#include "server/grpc/generate_stream.h"

namespace sluice::server {
namespace {

constexpr int kNumWorkers = 2;

}  // namespace

class GenerateLoop::Woken final : public GenerateEvent {
 public:
  explicit Woken(GenerateLoop& loop) : loop_(loop) {}
  void complete(bool /*ok*/) override { loop_.look_at_woken(); }

 private:
  GenerateLoop& loop_;
};

GenerateLoop::~GenerateLoop() {
  stop();
}

void GenerateLoop::start(std::unique_ptr<grpc::ServerCompletionQueue> queue,
                         AskForCall ask_for_call) {
  queue_ = std::move(queue);
  ask_for_call_ = std::move(ask_for_call);
  woken_event_ = std::make_unique<Woken>(*this);
  workers_ = std::make_unique<WorkerPool>(kNumWorkers);
  {
    const std::scoped_lock lock(mutex_);
    is_stopped_ = false;
  }
  take_next_call();  // before the thread, which alone may do it afterwards
  thread_ = std::thread([this] { run(); });
}

void GenerateLoop::stop() {
  if (!thread_.joinable()) return;
  workers_.reset();  // what they hold may hold this
  {
    const std::scoped_lock lock(mutex_);
    is_stopped_ = true;
  }
  queue_->Shutdown();
  thread_.join();
}

void GenerateLoop::wake(std::shared_ptr<GenerateStream> stream) {
  const std::scoped_lock lock(mutex_);
  if (is_stopped_) return;
  woken_.push_back(std::move(stream));
  if (std::exchange(is_alarm_set_, true)) return;
  alarm_.Set(queue_.get(), gpr_time_0(GPR_CLOCK_MONOTONIC), woken_event_.get());
}

void GenerateLoop::look_at_woken() {
  std::vector<std::shared_ptr<GenerateStream>> woken;
  {
    const std::scoped_lock lock(mutex_);
    is_alarm_set_ = false;
    woken.swap(woken_);
  }
  for (const auto& stream : woken) stream->advance();
}

void GenerateLoop::take_next_call() {
  GenerateStream::wait_for_call(shared_from_this());
}

void GenerateLoop::ask_for_call(grpc::ServerContext& context, grpc::ByteBuffer& request,
                                Writer& writer, GenerateEvent& event) {
  ask_for_call_(&context, &request, &writer, queue_.get(), &event);
}

void GenerateLoop::run() {
  void* tag = nullptr;
  bool ok = false;
  while (queue_->Next(&tag, &ok)) static_cast<GenerateEvent*>(tag)->complete(ok);
}

}  // namespace sluice::server
