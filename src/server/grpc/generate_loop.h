#pragma once

#include <grpcpp/alarm.h>
#include <grpcpp/completion_queue.h>
#include <grpcpp/server_context.h>
#include <grpcpp/support/async_stream.h>
#include <grpcpp/support/byte_buffer.h>

#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "server/access/api_keys.h"
#include "server/worker_pool.h"
#include "sluice/service.h"

namespace sluice::server {

class GenerateStream;

// What gRPC's completion queue gives back: the rest of an operation.
class GenerateEvent {
 public:
  virtual ~GenerateEvent() = default;
  virtual void complete(bool ok) = 0;
};

// The thread that all Generate calls live on: it takes them in, writes their messages and hears
// what became of those.
//
// A step brings output for every stream at once. gRPC's callback API wakes a thread of its own for
// every write that is done, which costs more than the write (decision 21); here the delivery thread
// wakes this one once, and the writes and their ends join.
// Long requests are parsed on a few workers, so that they hold up nobody.
// Threads: any, where nothing else is said.
class GenerateLoop final : public std::enable_shared_from_this<GenerateLoop> {
 public:
  using Writer = grpc::ServerAsyncWriter<grpc::ByteBuffer>;
  // Asks gRPC for the next call: its context, request and writer, and the event that tells of it.
  using AskForCall = std::function<void(grpc::ServerContext*, grpc::ByteBuffer*, Writer*,
                                        grpc::ServerCompletionQueue*, GenerateEvent*)>;

  GenerateLoop(Service& service, std::shared_ptr<const ApiKeys> keys)
      : service_(service), keys_(std::move(keys)) {}
  ~GenerateLoop();

  // Once, when the server has started: takes calls from now on.
  void start(std::unique_ptr<grpc::ServerCompletionQueue> queue, AskForCall ask_for_call);
  // Once the server is shut down: no call is left. Returns when the thread has ended.
  void stop();

  // Has the stream look at what it may do now, on the loop's thread. Does nothing once stopped.
  void wake(std::shared_ptr<GenerateStream> stream);
  // Runs on a worker. Before stop() only.
  void post(std::function<void()> work) { workers_->post(std::move(work)); }

  // Loop's thread only.
  void take_next_call();
  void ask_for_call(grpc::ServerContext& context, grpc::ByteBuffer& request, Writer& writer,
                    GenerateEvent& event);

  Service& service() const { return service_; }
  const ApiKeys* keys() const { return keys_.get(); }

 private:
  class Woken;
  void run();
  void look_at_woken();

  Service& service_;
  const std::shared_ptr<const ApiKeys> keys_;
  std::unique_ptr<grpc::ServerCompletionQueue> queue_;
  AskForCall ask_for_call_;
  std::unique_ptr<WorkerPool> workers_;
  std::unique_ptr<GenerateEvent> woken_event_;
  std::thread thread_;

  std::mutex mutex_;
  std::vector<std::shared_ptr<GenerateStream>> woken_;
  grpc::Alarm alarm_;  // brings woken_event_
  bool is_alarm_set_ = false;
  bool is_stopped_ = true;
};

}  // namespace sluice::server
