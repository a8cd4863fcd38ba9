#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <vector>

namespace sluice::server {

// The lines that a watcher's thread tells. Threads: any.
class Notices final {
 public:
  std::function<void(const std::string&)> sink() {
    return [this](const std::string& line) {
      const std::scoped_lock lock(mutex_);
      lines_.push_back(line);
      came_.notify_all();
    };
  }
  // The line of this number, from 0; "none came" after a minute.
  std::string wait_for(size_t number) {
    std::unique_lock lock(mutex_);
    if (!came_.wait_for(lock, std::chrono::minutes(1), [&] { return lines_.size() > number; })) {
      return "none came";
    }
    return lines_[number];
  }

 private:
  std::mutex mutex_;
  std::condition_variable came_;
  std::vector<std::string> lines_;
};

}  // namespace sluice::server
