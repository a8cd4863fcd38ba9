#pragma once

#include <chrono>
#include <compare>
#include <condition_variable>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace sluice::server {

// What tells one state of a file from another without reading it; all 0 while it is absent.
// Symbolic links are followed, so that a link that is moved to another file is a change.
struct FileStamp {
  uint64_t device = 0;
  uint64_t inode = 0;
  int64_t size_bytes = 0;
  int64_t modified_ns = 0;
  int64_t changed_ns = 0;  // of the inode: also set where the time of modification is put back

  static FileStamp of(const std::filesystem::path& path);
  bool operator==(const FileStamp&) const = default;
};

// Tells of changes of a few small files by looking at them every now and then: works on every file
// system, and for files that are replaced, linked anew, written in place, removed and made again.
//
// A change is told once the files were found the same twice in a row, so that a file is not read
// while somebody still writes it: after two intervals at the latest, when they hold still.
// Threads: `on_change` is called on the watcher's own thread, never concurrently, and not after the
// destructor has begun to return.
class FileWatcher final {
 public:
  static constexpr std::chrono::milliseconds kInterval{500};

  // Requires: what `on_change` reads was last read after this constructor began, or the first
  // change may pass unseen: make the watcher first, then read.
  FileWatcher(std::vector<std::filesystem::path> paths, std::function<void()> on_change,
              std::chrono::milliseconds interval = kInterval);
  ~FileWatcher();
  FileWatcher(const FileWatcher&) = delete;
  FileWatcher& operator=(const FileWatcher&) = delete;

 private:
  std::vector<FileStamp> look() const;
  void watch(const std::stop_token& stop, std::chrono::milliseconds interval);

  const std::vector<std::filesystem::path> paths_;
  const std::function<void()> on_change_;
  std::vector<FileStamp> told_;
  std::mutex mutex_;
  std::condition_variable_any stopped_;
  std::jthread thread_;  // last: it uses all of the above
};

}  // namespace sluice::server
