#pragma once

#include <grpcpp/alarm.h>
#include <grpcpp/completion_queue.h>

#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "base/in_flight.h"
#include "server/access/api_keys.h"
#include "server/grpc/failed_calls.h"
#include "server/grpc/open_connections.h"
#include "server/worker_pool.h"
#include "sluice/service.h"

namespace sluice::server {

class LoopCall;

// What gRPC's completion queue gives back: the rest of an operation.
class LoopEvent {
 public:
  virtual ~LoopEvent() = default;
  virtual void complete(bool ok) = 0;
};

// The thread that all streaming calls live on: it takes them in, reads and writes their messages
// and hears what became of those.
//
// A step brings output for every stream at once. gRPC's callback API wakes a thread of its own for
// every write that is done, which costs more than the write (decision 21); here the delivery thread
// wakes this one once, and the writes and their ends join.
// Of calls that share a connection the messages leave together.
// Long requests are parsed on a few workers, so that they hold up nobody.
// Threads: any. All but wake() until stop() returns only.
class CallLoop final {
 public:
  CallLoop(Service& service, std::shared_ptr<const ApiKeys> keys,
           std::shared_ptr<const OpenConnections> connections)
      : service_(service),
        keys_(std::move(keys)),
        connections_(std::move(connections)),
        failed_(service.metrics()) {}
  ~CallLoop();

  // Once, when the server has started. Calls may be asked for from now on.
  void start(std::unique_ptr<grpc::ServerCompletionQueue> queue);
  // Once the server is shut down. It does not wait for what its calls are told last: this does.
  void stop();

  // Has the call look at what it may do now, on the loop's thread. Does nothing once stopped.
  void wake(std::shared_ptr<LoopCall> call);
  // Runs on a worker.
  void post(std::function<void()> work) { workers_->post(std::move(work)); }
  // Around the time in which gRPC may use a call.
  void begin_call() { calls_.begin(); }
  void end_call() { calls_.end(); }

  // Where operations are told of, on the loop's thread. Their tags are LoopEvents.
  grpc::ServerCompletionQueue* queue() const { return queue_.get(); }
  Service& service() const { return service_; }
  const ApiKeys* keys() const { return keys_.get(); }
  const OpenConnections& connections() const { return *connections_; }
  FailedCalls& failed() { return failed_; }

 private:
  class Woken;
  void run();
  void look_at_woken();

  Service& service_;
  const std::shared_ptr<const ApiKeys> keys_;
  const std::shared_ptr<const OpenConnections> connections_;
  FailedCalls failed_;
  std::unique_ptr<grpc::ServerCompletionQueue> queue_;
  std::unique_ptr<WorkerPool> workers_;
  std::unique_ptr<LoopEvent> woken_event_;
  std::thread thread_;
  base::InFlight calls_;

  std::mutex mutex_;
  std::vector<std::shared_ptr<LoopCall>> woken_;
  grpc::Alarm alarm_;  // brings woken_event_
  bool is_alarm_set_ = false;
  bool is_stopped_ = true;
};

}  // namespace sluice::server
