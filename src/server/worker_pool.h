#pragma once

#include <functional>
#include <memory>

namespace sluice::server {

// A few threads for what would hold up a server's own: long bodies, drivers that answer slowly.
// How much may wait is the caller's to bound; requests are bounded by the connections they come on.
//
// Threads: any. The destructor waits for everything that was posted.
class WorkerPool final {
 public:
  explicit WorkerPool(int num_threads);
  ~WorkerPool();

  void post(std::function<void()> work);

 private:
  struct Impl;
  const std::unique_ptr<Impl> impl_;
};

}  // namespace sluice::server
