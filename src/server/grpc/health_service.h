#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <condition_variable>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "grpc/health/v1/health.grpc.pb.h"
#include "sluice/service.h"

namespace sluice::server {

class HealthWatch;

// grpc.health.v1 for the server as a whole ("") and for "sluice.v1.Generation": SERVING while the
// service is live and ready; and for "live": SERVING while it is live. Check asks the service
// itself; Watch is told of changes within kHealthPollTime, by one thread that sleeps while nobody
// watches.
//
// Threads: any. `service` must outlive it.
class HealthService final : public grpc::health::v1::Health::CallbackService {
 public:
  explicit HealthService(sluice::Service& service);
  ~HealthService() override;

  // Not ready from now on, whatever the service says.
  void set_not_serving();
  // Ends all watches with UNAVAILABLE, as new ones from now on: a server that waits for its
  // streams to end must not wait for these.
  void end_watches();

  grpc::ServerUnaryReactor* Check(grpc::CallbackServerContext* context,
                                  const grpc::health::v1::HealthCheckRequest* request,
                                  grpc::health::v1::HealthCheckResponse* response) override;
  grpc::ServerWriteReactor<grpc::health::v1::HealthCheckResponse>* Watch(
      grpc::CallbackServerContext* context,
      const grpc::health::v1::HealthCheckRequest* request) override;

 private:
  using Status = grpc::health::v1::HealthCheckResponse::ServingStatus;
  Status status(bool of_liveness) const;
  void poll(const std::stop_token& stop);

  sluice::Service& service_;
  mutable std::mutex mutex_;
  std::condition_variable_any changed_;
  bool is_not_serving_ = false;
  bool has_ended_ = false;
  std::list<std::weak_ptr<HealthWatch>> watches_;
  std::jthread poller_;
};

}  // namespace sluice::server
