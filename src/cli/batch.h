#pragma once

#include <cstdint>
#include <cstdio>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "cli/answer.h"
#include "cli/event_queue.h"
#include "cli/request_source.h"
#include "sluice/error.h"
#include "sluice/service.h"

namespace sluice::cli {

// Runs the requests of an --input file, many at once, and writes their answers in the order of the
// input's lines: the output of the same requests is the same file, whatever the load.
//
// Bounded: at most `max_running` requests are in the service, and at most `max_open` are running
// or wait for an earlier line to be written. A request that is refused or fails gives an error
// line, and the others go on.
class Batch {
 public:
  struct Options {
    size_t max_running = 128;
    size_t max_open = 1024;
    std::function<bool(const std::string&)> write;  // whole lines; false: stop
    std::function<void(int64_t)> progress;          // index of the next line to be written
  };
  struct Outcome {
    int64_t num_answered = 0;
    int64_t num_failed = 0;
    bool interrupted = false;  // or the output could not be written
  };

  Batch(Service& service, RequestSource source, std::shared_ptr<EventQueue> queue, Options options);

  // Answers every request from line `first_index` on. EventQueue::interrupt() ends it early: what
  // runs is cancelled, what is whole and in order has been written. An error is a line of the
  // source that cannot be read.
  Result<Outcome> run(int64_t first_index);

 private:
  struct Slot {
    int64_t index;
    Answer answer;
    std::shared_ptr<GenerateCall> call;  // null once it has ended
    std::string lines;                   // to write; empty while it runs
  };

  // Submits until a limit is reached or the source ends.
  Result<void> submit();
  // Hands one request to the service. False if it must wait until another one ends.
  bool submit_one(const IndexedRequest& next);
  void handle(Event event);
  // Writes what is whole at the front.
  bool flush(Outcome& outcome);

  Service& service_;
  RequestSource source_;
  std::shared_ptr<EventQueue> queue_;
  Options options_;
  std::deque<Slot> slots_;  // in the order of the lines
  size_t num_flushed_ = 0;  // a request's number is its slot's place plus this
  size_t num_running_ = 0;
  std::optional<IndexedRequest> pending_;  // read, but not yet taken by the service
  bool is_at_end_ = false;
  int64_t first_index_ = 0;
  int64_t num_failed_ = 0;
};

}  // namespace sluice::cli
