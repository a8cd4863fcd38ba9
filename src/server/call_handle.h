#pragma once

#include <cstdint>
#include <memory>
#include <mutex>

#include "sluice/service.h"

namespace sluice::server {

// The service's call of a request whose output may come before generate() has returned the call:
// what it is told meanwhile it hears as soon as it is there.
//
// Threads: any. The service is called without the lock.
class CallHandle final {
 public:
  void set(std::shared_ptr<GenerateCall> call);
  void delivered(int32_t num_tokens);
  void cancel();
  // The request has ended: lets the call go, and any that is set later.
  void release();

 private:
  std::mutex mutex_;
  std::shared_ptr<GenerateCall> call_;
  int32_t early_tokens_ = 0;
  bool is_cancelled_ = false;
  bool is_released_ = false;
};

}  // namespace sluice::server
