#pragma once

#include <atomic>
#include <cstddef>
#include <span>
#include <thread>
#include <vector>

namespace sluice::kv_cache {

// Makes the system back memory with pages before it is used, on a thread of its own and of low
// priority: a first use costs up to 2 s per GB (huge pages, memory full of file cache), which a
// prompt would pay for inside its attention. Contents are not changed.
//
// Threads: want() from one; the memory may be used by any meanwhile.
class PageToucher final {
 public:
  // `regions` are filled alike, from their beginnings; they must outlive this.
  explicit PageToucher(std::vector<std::span<std::byte>> regions);
  ~PageToucher();
  PageToucher(const PageToucher&) = delete;
  PageToucher& operator=(const PageToucher&) = delete;

  // The first `num_bytes` of every region will be used soon. Never blocks; a smaller number than
  // before changes nothing.
  void want(size_t num_bytes);

 private:
  void run();

  static constexpr size_t kStop = static_cast<size_t>(-1);

  std::vector<std::span<std::byte>> regions_;
  size_t region_bytes_ = 0;  // of the largest
  size_t last_wanted_ = 0;
  std::atomic<size_t> wanted_ = 0;
  std::thread thread_;  // last: it uses the others
};

}  // namespace sluice::kv_cache
