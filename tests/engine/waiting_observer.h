#pragma once

#include <condition_variable>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "sluice/service.h"

namespace sluice::engine {

// Collects a request's output from a service that runs on its own threads.
class WaitingObserver final : public GenerateObserver {
 public:
  void on_chunk(GenerateChunk chunk) override {
    const std::lock_guard lock(mutex_);
    chunks_.push_back(std::move(chunk));
  }
  void on_end(Result<GenerateSummary> end) override {
    const std::lock_guard lock(mutex_);
    end_ = std::move(end);
    ended_.notify_all();
  }

  const Result<GenerateSummary>& wait() {
    std::unique_lock lock(mutex_);
    ended_.wait(lock, [&] { return end_.has_value(); });
    return *end_;
  }
  // Requires: wait() has returned.
  const std::vector<GenerateChunk>& chunks() const { return chunks_; }

 private:
  std::mutex mutex_;
  std::condition_variable ended_;
  std::vector<GenerateChunk> chunks_;
  std::optional<Result<GenerateSummary>> end_;
};

}  // namespace sluice::engine
