#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>

#include "base/bounded_queue.h"
#include "observability/metrics.h"
#include "sluice/error.h"

namespace sluice::server {

// Writes lines to a file, or to stderr, from a thread of its own: whoever logs never waits for a
// disk, a pipe or a terminal.
//
// At most kMaxQueuedLines wait, and as many that the thread has taken. A line is lost, and counted,
// if the queue is full or the line cannot be written (full disk, reader gone); the ones after it
// are tried all the same.
// Threads: any.
class LogWriter final {
 public:
  static constexpr size_t kMaxQueuedLines = 8192;

  // `path` empty: stderr. kInvalidArgument if the file cannot be opened to append to it.
  // `lost` must outlive this.
  static Result<std::unique_ptr<LogWriter>> open(std::string path, observability::Counter& lost);
  // Writes what is queued, for a second at most.
  ~LogWriter();
  LogWriter(const LogWriter&) = delete;
  LogWriter& operator=(const LogWriter&) = delete;

  // `line` without its end.
  void write(std::string line);
  // Waits until what was queued before is written or lost, for a second at most.
  void flush();
  // Opens the file anew, so that it can be moved away first; the next line goes there. Keeps the
  // old one if that fails (kUnavailable).
  Result<void> reopen();

 private:
  LogWriter(std::string path, int descriptor, observability::Counter& lost);

  void run();
  // False if it is lost.
  bool write_line(const std::string& line) const;
  bool wait_until_writable() const;
  void change_file();

  const std::string path_;
  int descriptor_;  // the writing thread's
  observability::Counter& lost_;
  base::BoundedQueue<std::string> queue_;
  std::atomic<int64_t> num_queued_{0};  // ever
  std::atomic<int64_t> num_done_{0};
  std::atomic<int> next_descriptor_{-1};  // to go on with, if there is one
  std::atomic<bool> is_stopping_{false};
  std::atomic<bool> gives_up_{false};
  std::thread thread_;
};

}  // namespace sluice::server
