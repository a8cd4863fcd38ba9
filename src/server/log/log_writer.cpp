#include "server/log/log_writer.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <climits>
#include <string_view>
#include <utility>
#include <vector>

namespace sluice::server {
namespace {

constexpr std::chrono::milliseconds kTick(100);
constexpr std::chrono::seconds kLastLines(1);
constexpr mode_t kFileMode = 0640;

int open_file(const std::string& path) {
  return ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, kFileMode);
}

}  // namespace

Result<std::unique_ptr<LogWriter>> LogWriter::open(std::string path, observability::Counter& lost) {
  const int descriptor = path.empty() ? STDERR_FILENO : open_file(path);
  if (descriptor < 0) {
    return invalid_argument("log file " + path + " cannot be opened for writing");
  }
  return std::unique_ptr<LogWriter>(new LogWriter(std::move(path), descriptor, lost));
}

LogWriter::LogWriter(std::string path, int descriptor, observability::Counter& lost)
    : path_(std::move(path)), descriptor_(descriptor), lost_(lost), queue_(kMaxQueuedLines) {
  // The thread takes no signals: they are for those who wait for them.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, &before);
  thread_ = std::thread([this] { run(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

LogWriter::~LogWriter() {
  flush();
  is_stopping_.store(true, std::memory_order_release);
  gives_up_.store(true, std::memory_order_release);
  queue_.close();
  thread_.join();
  change_file();
  if (!path_.empty()) ::close(descriptor_);
}

void LogWriter::write(std::string line) {
  line += '\n';
  num_queued_.fetch_add(1, std::memory_order_acq_rel);
  if (queue_.try_push(std::move(line))) return;
  num_queued_.fetch_sub(1, std::memory_order_acq_rel);
  lost_.add();
}

void LogWriter::flush() {
  const int64_t wanted = num_queued_.load(std::memory_order_acquire);
  const auto end = std::chrono::steady_clock::now() + kLastLines;
  while (num_done_.load(std::memory_order_acquire) < wanted &&
         std::chrono::steady_clock::now() < end) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

Result<void> LogWriter::reopen() {
  if (path_.empty()) return {};
  const int opened = open_file(path_);
  if (opened < 0) {
    return fail(ErrorCode::kUnavailable, "log file " + path_ + " cannot be opened for writing");
  }
  const int unused = next_descriptor_.exchange(opened, std::memory_order_acq_rel);
  if (unused >= 0) ::close(unused);
  queue_.wake();
  return {};
}

void LogWriter::run() {
  std::vector<std::string> lines;
  while (!is_stopping_.load(std::memory_order_acquire)) {
    queue_.wait_pop_all(lines, kTick);
    change_file();
    for (const std::string& line : lines) {
      if (!write_line(line)) lost_.add();
      num_done_.fetch_add(1, std::memory_order_acq_rel);
    }
  }
}

void LogWriter::change_file() {
  const int next = next_descriptor_.exchange(-1, std::memory_order_acq_rel);
  if (next < 0) return;
  ::close(descriptor_);
  descriptor_ = next;
}

bool LogWriter::write_line(const std::string& line) const {
  std::string_view left = line;
  while (!left.empty()) {
    if (!wait_until_writable()) return false;
    // A pipe that poll() calls writable takes this much without making us wait.
    const ssize_t written =
        ::write(descriptor_, left.data(), std::min<size_t>(left.size(), PIPE_BUF));
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return false;
    left.remove_prefix(static_cast<size_t>(written));
  }
  return true;
}

// A reader that is alive and does not read stops this thread only; the queue fills behind it.
bool LogWriter::wait_until_writable() const {
  while (!gives_up_.load(std::memory_order_acquire)) {
    pollfd waiting{descriptor_, POLLOUT, 0};
    if (::poll(&waiting, 1, static_cast<int>(kTick.count())) > 0) return true;
  }
  return false;
}

}  // namespace sluice::server
