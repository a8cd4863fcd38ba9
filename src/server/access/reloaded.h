#pragma once

#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "server/access/file_watcher.h"
#include "sluice/error.h"

namespace sluice::server {

// What is made of some files, made again when one of them changes. Files that cannot be used change
// nothing: the last good value stays.
//
// Threads: any; `read` and `tell` are called on the watcher's after load() has returned.
template <typename T>
class Reloaded final {
 public:
  using Read = std::function<Result<T>()>;
  // Hears how each later attempt went.
  using Tell = std::function<void(const Result<std::shared_ptr<const T>>&)>;

  // Reads once; the error is read's.
  static Result<std::unique_ptr<Reloaded>> load(std::vector<std::filesystem::path> paths, Read read,
                                                Tell tell, std::chrono::milliseconds interval) {
    std::unique_ptr<Reloaded> loaded(new Reloaded(std::move(read)));
    Reloaded* const self = loaded.get();
    // Watches first, so that no change after the reading passes unseen.
    auto watcher = std::make_unique<FileWatcher>(
        std::move(paths), [self, tell = std::move(tell)] { tell(self->renew()); }, interval);
    if (auto first = loaded->renew(); !first) return std::unexpected(std::move(first.error()));
    loaded->watcher_ = std::move(watcher);
    return loaded;
  }

  // Never null. The same pointer as long as nothing has changed.
  std::shared_ptr<const T> current() const {
    const std::scoped_lock lock(mutex_);
    return value_;
  }

 private:
  explicit Reloaded(Read read) : read_(std::move(read)) {}

  Result<std::shared_ptr<const T>> renew() {
    Result<T> made = read_();
    if (!made) return std::unexpected(std::move(made.error()));
    auto value = std::make_shared<const T>(*std::move(made));
    const std::scoped_lock lock(mutex_);
    value_ = value;
    return value;
  }

  const Read read_;
  mutable std::mutex mutex_;  // of value_, held for a copy of the pointer
  std::shared_ptr<const T> value_;
  std::unique_ptr<FileWatcher> watcher_;  // last: its thread uses the rest
};

}  // namespace sluice::server
