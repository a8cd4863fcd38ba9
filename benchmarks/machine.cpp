#include "machine.h"

#include <benchmark/benchmark.h>
#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <thread>
#include <vector>

#include "kernels/compute.h"

namespace sluice::benchmarks {
namespace {

constexpr int64_t kBytes = int64_t{512} << 20;  // far beyond any cache
constexpr int kPlaces = 4;
constexpr int64_t kPartBytes = int64_t{1} << 20;
constexpr int64_t kHugePage = int64_t{2} << 20;

// Read only, never written: the sums' only use is that the reads happen.
typedef uint64_t Words __attribute__((vector_size(64)));

// How far ahead of the reads lines are asked for, or not: some processors read a stream with a
// third less of their bandwidth by themselves.
constexpr int64_t kAhead = 8192;

template <bool kPrefetch>
void read_part(const char* part) {
  Words sums[4] = {};
  for (int64_t i = 0; i < kPartBytes; i += sizeof(sums)) {
    if constexpr (kPrefetch) {
      constexpr int kSecondLevel = 2;
      for (int64_t line = 0; line < static_cast<int64_t>(sizeof(sums)); line += 64) {
        __builtin_prefetch(part + i + kAhead + line, 0, kSecondLevel);
      }
    }
    for (int s = 0; s < 4; ++s) {
      sums[s] ^=
          *reinterpret_cast<const Words*>(part + i + s * static_cast<int64_t>(sizeof(Words)));
    }
  }
  benchmark::DoNotOptimize(sums);
}

// On a virtual machine some memory is farther away than other: the best of several places, and of
// both ways to read.
double measure_read_bandwidth() {
  using Clock = std::chrono::steady_clock;
  std::vector<char*> places;
  double best = 0;
  for (int i = 0; i < kPlaces; ++i) {
    auto* const memory = static_cast<char*>(std::aligned_alloc(kHugePage, kBytes));
    if (memory == nullptr) break;
    places.push_back(memory);
    madvise(memory, kBytes, MADV_HUGEPAGE);
    std::memset(memory, 1, kBytes);
    for (int round = 0; round < 8; ++round) {
      const auto read = round % 2 == 0 ? read_part<false> : read_part<true>;
      const auto begin = Clock::now();
      auto part = [&](int64_t index) { read(memory + index * kPartBytes); };
      pool().run(kBytes / kPartBytes, std::ref(part));
      const std::chrono::duration<double> time = Clock::now() - begin;
      best = std::max(best, static_cast<double>(kBytes) / time.count());
    }
  }
  for (char* memory : places) std::free(memory);
  return best;
}

}  // namespace

kernels::ThreadPool& pool() {
  static kernels::ThreadPool* const pool = [] {
    const char* threads = std::getenv("SLUICE_BENCH_THREADS");
    const int all = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
    return new kernels::ThreadPool(threads == nullptr ? all : std::max(1, std::atoi(threads)));
  }();
  return *pool;
}

double read_bandwidth() {
  static const double bandwidth = measure_read_bandwidth();
  return bandwidth;
}

int run(int argc, char** argv, void (*add)()) {
  benchmark::Initialize(&argc, argv);
  const auto profile = kernels::cpu_profile();
  if (!profile) {
    (void)std::fprintf(stderr, "%s\n", profile.error().message.c_str());
    return 1;
  }
  add();
  std::printf("profile %s, %d threads, read limit %.1f GB/s\n", profile->c_str(),
              pool().num_threads(), read_bandwidth() * 1e-9);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}

}  // namespace sluice::benchmarks
