#pragma once

#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "sluice/runtime.h"

namespace sluice::observability {

// Where the time of the engine's steps goes, part by part. Exists only while somebody wants to
// know: it costs an allocation and a lock here and there.
//
// Threads: take() from any, the rest on the engine's.
class StepProfiler final {
 public:
  // Adds to a part of the step under way. `shape` tells members of one name apart.
  void add(std::string_view name, std::string_view shape, base::Duration time);
  // Books the step under its kind ("decode", "prefill"). `whole`: all of it.
  void end_step(std::string_view kind, int64_t num_tokens, base::Duration whole);

  // What was booked since the last call: a profile a kind, its parts in the order in which they
  // were first met.
  std::vector<StepProfile> take();

 private:
  static StepPart& part_of(std::vector<StepPart>& parts, std::string_view name,
                           std::string_view shape);

  std::vector<StepPart> step_;  // engine thread
  std::mutex mutex_;
  std::vector<StepProfile> profiles_;  // guarded by mutex_
};

// Adds the time from its construction to its end to a part; does nothing without a profiler.
class ProfiledPart final {
 public:
  ProfiledPart(StepProfiler* profiler, const char* name) : profiler_(profiler), name_(name) {
    if (profiler_ != nullptr) start_ = std::chrono::steady_clock::now();
  }
  ~ProfiledPart() {
    if (profiler_ != nullptr) profiler_->add(name_, "", std::chrono::steady_clock::now() - start_);
  }
  ProfiledPart(const ProfiledPart&) = delete;
  ProfiledPart& operator=(const ProfiledPart&) = delete;

 private:
  StepProfiler* profiler_;
  const char* name_;
  base::TimePoint start_;
};

}  // namespace sluice::observability
