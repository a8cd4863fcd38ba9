#include "server/grpc/health_service.h"

#include <chrono>
#include <optional>
#include <utility>

namespace sluice::server {

using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;

namespace {

constexpr std::chrono::milliseconds kHealthPollTime(100);

constexpr const char* kLiveness = "live";

bool is_known(const std::string& service) {
  return service.empty() || service == "sluice.v1.Generation" || service == kLiveness;
}

}  // namespace

// One Watch call; writes a status when it differs from the last one sent. gRPC holds it through
// self_ until OnDone, the health service looks at it weakly.
class HealthWatch final : public grpc::ServerWriteReactor<HealthCheckResponse> {
 public:
  using Status = HealthCheckResponse::ServingStatus;

  static std::shared_ptr<HealthWatch> create(const std::string& service) {
    std::shared_ptr<HealthWatch> watch(new HealthWatch(service));
    std::scoped_lock lock(watch->mutex_);
    watch->self_ = watch;
    return watch;
  }

  bool is_of_liveness() const { return is_of_liveness_; }

  void update(Status status) {
    {
      std::scoped_lock lock(mutex_);
      wanted_ = is_known_ ? status : HealthCheckResponse::SERVICE_UNKNOWN;
    }
    advance();
  }

  void end() {
    {
      std::scoped_lock lock(mutex_);
      if (!ending_) ending_ = grpc::Status(grpc::StatusCode::UNAVAILABLE, "server shuts down");
    }
    advance();
  }

  void OnWriteDone(bool ok) override {
    {
      std::scoped_lock lock(mutex_);
      is_write_in_flight_ = false;
      if (!ok) ending_ = grpc::Status::CANCELLED;
    }
    advance();
  }

  void OnCancel() override {
    {
      std::scoped_lock lock(mutex_);
      ending_ = grpc::Status::CANCELLED;
    }
    advance();
  }

  void OnDone() override {
    std::shared_ptr<HealthWatch> self;  // goes after the lock
    std::scoped_lock lock(mutex_);
    self = std::exchange(self_, nullptr);
  }

 private:
  explicit HealthWatch(const std::string& service)
      : is_known_(is_known(service)), is_of_liveness_(service == kLiveness) {}

  void advance() {
    std::unique_lock lock(mutex_);
    if (is_write_in_flight_ || is_finished_) return;
    if (ending_) {
      is_finished_ = true;
      const grpc::Status status = *ending_;
      lock.unlock();
      Finish(status);
      return;
    }
    if (!wanted_ || wanted_ == sent_) return;
    sent_ = wanted_;
    message_.set_status(*wanted_);
    is_write_in_flight_ = true;
    lock.unlock();
    StartWrite(&message_);
  }

  const bool is_known_;
  const bool is_of_liveness_;
  std::mutex mutex_;
  std::shared_ptr<HealthWatch> self_;
  std::optional<Status> wanted_;
  std::optional<Status> sent_;
  std::optional<grpc::Status> ending_;
  HealthCheckResponse message_;
  bool is_write_in_flight_ = false;
  bool is_finished_ = false;
};

HealthService::HealthService(sluice::Service& service)
    : service_(service), poller_([this](const std::stop_token& stop) { poll(stop); }) {}

HealthService::~HealthService() {
  poller_.request_stop();
  poller_.join();
}

void HealthService::set_not_serving() {
  std::scoped_lock lock(mutex_);
  is_not_serving_ = true;
  changed_.notify_all();
}

void HealthService::end_watches() {
  std::list<std::weak_ptr<HealthWatch>> watches;
  {
    std::scoped_lock lock(mutex_);
    is_not_serving_ = true;
    has_ended_ = true;
    watches.swap(watches_);
  }
  for (const auto& weak : watches) {
    if (const auto watch = weak.lock()) {
      watch->update(HealthCheckResponse::NOT_SERVING);
      watch->end();
    }
  }
}

HealthService::Status HealthService::status(bool of_liveness) const {
  const Health health = service_.health();
  bool is_serving = health.live;
  if (!of_liveness) {
    std::scoped_lock lock(mutex_);
    is_serving = is_serving && health.ready && !is_not_serving_;
  }
  return is_serving ? HealthCheckResponse::SERVING : HealthCheckResponse::NOT_SERVING;
}

grpc::ServerUnaryReactor* HealthService::Check(grpc::CallbackServerContext* context,
                                               const HealthCheckRequest* request,
                                               HealthCheckResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  if (!is_known(request->service())) {
    reactor->Finish({grpc::StatusCode::NOT_FOUND, "unknown service"});
    return reactor;
  }
  response->set_status(status(request->service() == kLiveness));
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

grpc::ServerWriteReactor<HealthCheckResponse>* HealthService::Watch(
    grpc::CallbackServerContext*, const HealthCheckRequest* request) {
  const std::shared_ptr<HealthWatch> watch = HealthWatch::create(request->service());
  HealthWatch* const reactor = watch.get();
  reactor->update(status(reactor->is_of_liveness()));
  bool has_ended = false;
  {
    std::scoped_lock lock(mutex_);
    has_ended = has_ended_;
    if (!has_ended) watches_.push_back(watch);
    changed_.notify_all();
  }
  if (has_ended) reactor->end();
  return reactor;
}

void HealthService::poll(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  while (!stop.stop_requested()) {
    changed_.wait(lock, stop, [this] { return !watches_.empty(); });
    std::erase_if(watches_, [](const auto& watch) { return watch.expired(); });
    const std::list<std::weak_ptr<HealthWatch>> watches = watches_;
    const bool was_not_serving = is_not_serving_;
    lock.unlock();
    const Status ready = status(false);
    const Status live = status(true);
    for (const auto& weak : watches) {
      if (const auto watch = weak.lock()) watch->update(watch->is_of_liveness() ? live : ready);
    }
    lock.lock();
    changed_.wait_for(lock, stop, kHealthPollTime,
                      [&] { return is_not_serving_ != was_not_serving; });
  }
}

}  // namespace sluice::server
