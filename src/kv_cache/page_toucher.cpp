#include "kv_cache/page_toucher.h"

#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23  // Linux 5.14; older systems refuse it, and pages come on first use
#endif

namespace sluice::kv_cache {
namespace {

constexpr size_t kPieceBytes = size_t{2} << 20;  // a huge page
constexpr int kNice = 10;

}  // namespace

PageToucher::PageToucher(std::vector<std::span<std::byte>> regions) : regions_(std::move(regions)) {
  for (const auto region : regions_) region_bytes_ = std::max(region_bytes_, region.size());
  thread_ = std::thread([this] { run(); });
}

PageToucher::~PageToucher() {
  wanted_.store(kStop);
  wanted_.notify_one();
  thread_.join();
}

void PageToucher::want(size_t num_bytes) {
  num_bytes = std::min(num_bytes, region_bytes_);
  if (num_bytes <= last_wanted_) return;
  last_wanted_ = num_bytes;
  wanted_.store(num_bytes);
  wanted_.notify_one();
}

void PageToucher::run() {
  // Of this thread alone, as Linux counts; a wish.
  (void)::setpriority(PRIO_PROCESS, static_cast<id_t>(::gettid()), kNice);
  size_t done = 0;
  while (true) {
    const size_t wanted = wanted_.load();
    if (wanted == kStop) return;
    if (done >= wanted) {
      wanted_.wait(wanted);
      continue;
    }
    for (const auto region : regions_) {
      if (done >= region.size() || wanted_.load() == kStop) continue;
      const auto piece = region.subspan(done, std::min(kPieceBytes, region.size() - done));
      (void)::madvise(piece.data(), piece.size(), MADV_POPULATE_WRITE);
    }
    done += kPieceBytes;
  }
}

}  // namespace sluice::kv_cache
