#include "kv_cache/page_toucher.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <chrono>
#include <thread>
#include <vector>

namespace sluice::kv_cache {
namespace {

constexpr size_t kRegionBytes = size_t{16} << 20;

class Mapping {
 public:
  Mapping() {
    void* data =
        ::mmap(nullptr, kRegionBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    data_ = data == MAP_FAILED ? nullptr : static_cast<std::byte*>(data);
  }
  ~Mapping() { ::munmap(data_, kRegionBytes); }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  std::span<std::byte> bytes() const { return {data_, kRegionBytes}; }

  // Pages of the first `num_bytes` that are in memory.
  size_t num_resident(size_t num_bytes) const {
    const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
    std::vector<unsigned char> state(num_bytes / page);
    EXPECT_EQ(::mincore(data_, num_bytes, state.data()), 0);
    size_t count = 0;
    for (const unsigned char bits : state) count += bits & 1U;
    return count;
  }

 private:
  std::byte* data_ = nullptr;
};

bool can_populate() {
  const Mapping mapping;
  return ::madvise(mapping.bytes().data(), 4096, 23) == 0;
}

TEST(PageToucher, BringsWhatIsWantedOfEveryRegionAndChangesNothing) {
  if (!can_populate()) GTEST_SKIP() << "this kernel has no MADV_POPULATE_WRITE";
  const Mapping first;
  const Mapping second;
  first.bytes()[5] = std::byte{42};
  constexpr size_t kWanted = kRegionBytes / 2;
  const size_t all = kWanted / static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  {
    PageToucher toucher({first.bytes(), second.bytes()});
    toucher.want(kWanted);
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (second.num_resident(kWanted) < all && std::chrono::steady_clock::now() < end) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    EXPECT_EQ(first.num_resident(kWanted), all);
    EXPECT_EQ(second.num_resident(kWanted), all);
  }
  EXPECT_LT(second.num_resident(kRegionBytes), 2 * all) << "more than was wanted";
  EXPECT_EQ(first.bytes()[5], std::byte{42});
  EXPECT_EQ(second.bytes()[kWanted - 1], std::byte{0});
}

TEST(PageToucher, StopsWithMuchLeftToDo) {
  const Mapping mapping;
  PageToucher toucher({mapping.bytes()});
  toucher.want(kRegionBytes * 2);
  toucher.want(1);
}

}  // namespace
}  // namespace sluice::kv_cache
