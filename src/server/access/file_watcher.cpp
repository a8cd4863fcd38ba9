#include "server/access/file_watcher.h"

#include <sys/stat.h>

#include <utility>

namespace sluice::server {
namespace {

int64_t in_nanoseconds(const timespec& time) {
  return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

}  // namespace

FileStamp FileStamp::of(const std::filesystem::path& path) {
  struct stat found{};
  if (::stat(path.c_str(), &found) != 0) return {};
  return {.device = found.st_dev,
          .inode = found.st_ino,
          .size_bytes = found.st_size,
          .modified_ns = in_nanoseconds(found.st_mtim),
          .changed_ns = in_nanoseconds(found.st_ctim)};
}

FileWatcher::FileWatcher(std::vector<std::filesystem::path> paths, std::function<void()> on_change,
                         std::chrono::milliseconds interval)
    : paths_(std::move(paths)),
      on_change_(std::move(on_change)),
      told_(look()),
      thread_([this, interval](const std::stop_token& stop) { watch(stop, interval); }) {}

FileWatcher::~FileWatcher() {
  thread_.request_stop();
  thread_.join();
}

std::vector<FileStamp> FileWatcher::look() const {
  std::vector<FileStamp> stamps;
  stamps.reserve(paths_.size());
  for (const auto& path : paths_) stamps.push_back(FileStamp::of(path));
  return stamps;
}

void FileWatcher::watch(const std::stop_token& stop, std::chrono::milliseconds interval) {
  std::vector<FileStamp> last = told_;
  std::unique_lock lock(mutex_);
  while (!stopped_.wait_for(lock, stop, interval, [&] { return stop.stop_requested(); })) {
    std::vector<FileStamp> now = look();
    const bool holds_still = now == std::exchange(last, now);
    if (!holds_still || now == told_) continue;
    told_ = std::move(now);
    on_change_();
  }
}

}  // namespace sluice::server
