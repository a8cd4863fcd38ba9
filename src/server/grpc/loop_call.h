#pragma once

#include <grpcpp/alarm.h>
#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>

#include <chrono>
#include <cstddef>
#include <memory>
#include <mutex>
#include <utility>

#include "server/grpc/call_loop.h"

namespace sluice::server {

// One call of a CallLoop: what every kind of call there needs of gRPC. A kind reads, writes and
// ends the call in advance(), which runs whenever something has changed.
//
// Threads: the loop's runs what is said to be its own, alone; a worker may submit(). mutex_ guards
// what they share with the service's threads, and no call into gRPC's write path or the service is
// made under it.
// Life: gRPC uses the object while an event of it is due, and self_ keeps it until then; the
// service uses the observer that belongs to it as long as it likes. What is gRPC's goes with the
// last event.
class LoopCall : public std::enable_shared_from_this<LoopCall> {
 public:
  virtual ~LoopCall() = default;
  LoopCall(const LoopCall&) = delete;
  LoopCall& operator=(const LoopCall&) = delete;

  // Looks at what may be done now. Loop's thread.
  void resume();
  // Of the connection that the call came over. Loop's thread.
  const OpenSocket& socket() const { return socket_; }

 protected:
  // What gRPC has of the call, until its last event; a kind adds its stream.
  struct Rpc {
    Rpc() = default;
    virtual ~Rpc() = default;
    Rpc(const Rpc&) = delete;
    Rpc& operator=(const Rpc&) = delete;

    grpc::ServerContext context;
    grpc::ByteBuffer request;  // read last
    grpc::ByteBuffer message;  // in flight
    grpc::Alarm alarm;
  };

  // An operation of gRPC's whose rest is one of the call's functions. Loop's thread.
  template <typename Call>
  class Event final : public LoopEvent {
   public:
    Event(Call& call, void (Call::*function)(bool)) : call_(call), function_(function) {}
    // The tag for an operation that begins now.
    LoopEvent* due() {
      ++call_.num_due_;
      return this;
    }
    void complete(bool ok) override {
      --call_.num_due_;
      (call_.*function_)(ok);
      call_.let_go_if_over();
    }

   private:
    Call& call_;
    void (Call::* const function_)(bool);
  };

  LoopCall(std::shared_ptr<CallLoop> loop, std::unique_ptr<Rpc> rpc)
      : loop_(std::move(loop)), rpc_(std::move(rpc)) {}

  // Before the question for the call: the tag for it.
  LoopEvent* wait_for_call();

  // Loop's thread.
  virtual void on_call() = 0;          // it is there
  virtual void advance() = 0;          // begins what may begin; not after the end was begun
  virtual void cancel_requests() = 0;  // nobody waits for them any more
  virtual void on_time() = 0;          // of set_timer(); not after the call
  // Once, and again from on_time() on.
  void set_timer(std::chrono::nanoseconds time);
  bool has_timer() const { return is_timer_due_; }
  // The client is gone: nothing more is sent, and its requests end before their next step.
  void abandon();

  // Runs submit() here, or on a worker if the request is long; then advance(). Loop's thread.
  void begin_submit(size_t request_bytes);
  // Reads rpc_: until it is done the call must not be ended.
  virtual void submit() = 0;

  // Has advance() called on the loop's thread, once for all who ask meanwhile.
  void wake();
  // True if the loop is to be told. Requires: mutex_ held.
  bool needs_wake() { return !is_closed_ && !std::exchange(is_woken_, true); }

  const std::shared_ptr<CallLoop> loop_;

  // Loop's thread only, but for what submit() reads of rpc_.
  std::unique_ptr<Rpc> rpc_;
  Event<LoopCall> finish_event_{*this, &LoopCall::on_finished};
  bool is_finished_ = false;  // the end was begun

  std::mutex mutex_;
  bool is_submitting_ = false;
  // By the client, its deadline or a failed write; set on the loop's thread.
  bool is_cancelled_ = false;

 private:
  void on_answer(bool ok);
  void on_finished(bool /*ok*/) {}
  void on_done(bool ok);
  void on_timer(bool is_expired);
  void let_go_if_over();

  Event<LoopCall> call_event_{*this, &LoopCall::on_answer};
  Event<LoopCall> done_event_{*this, &LoopCall::on_done};
  Event<LoopCall> timer_event_{*this, &LoopCall::on_timer};
  std::shared_ptr<LoopCall> self_;
  OpenSocket socket_;
  int num_due_ = 0;  // events
  bool is_timer_due_ = false;

  // Under mutex_.
  bool is_woken_ = false;   // waits in the loop's list
  bool is_closed_ = false;  // rpc_ is gone
};

}  // namespace sluice::server
