#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "kernels/compute.h"

namespace sluice::kernels {
namespace {

// How often a thread looks for work before it parks (a worker) or yields (the caller): about 50 us
// of pause instructions, which covers the gap between two operators of a step.
constexpr int kSpinsBeforePark = 1200;

thread_local ThreadPool* pool_in_force = nullptr;

void pause_cpu() {
  __builtin_ia32_pause();
}

}  // namespace

// Every thread has a range of a loop's tasks, so that what it reads is one stream: one 64-bit
// ticket holds the loop's number and the range's unclaimed tasks. The owner claims from the front,
// threads that have nothing left of their own from the back, both by compare-and-swap. A late
// worker that still holds an old loop's ticket fails to swap, so the caller need not wait for
// workers that found nothing, and a machine whose other cores are busy costs no more than the lack
// of their help.
struct ThreadPool::State {
  static constexpr int64_t kMostTasks = 0xffff;  // of one loop

  struct alignas(64) Range {
    std::atomic<uint64_t> ticket{0};  // loop << 32 | begin << 16 | end
  };
  static uint64_t begin_of(uint64_t ticket) { return ticket >> 16 & 0xffff; }
  static uint64_t end_of(uint64_t ticket) { return ticket & 0xffff; }

  std::vector<Range> ranges;                  // one a thread; the caller's is the first
  alignas(64) std::atomic<uint64_t> loop{0};  // the number of the latest one; polled by all
  alignas(64) std::atomic<int64_t> tasks_done{0};
  int64_t first_task = 0;                              // stable while a task is claimed
  const std::function<void(int64_t)>* body = nullptr;  // the same

  std::atomic<int> num_parked{0};
  std::atomic<bool> stopping{false};
  std::mutex mutex;
  std::condition_variable wake;
  std::vector<std::thread> workers;

  explicit State(size_t num_threads) : ranges(num_threads) {}

  // Runs one task of a range; false if none is left there.
  bool run_one(Range& range, bool is_own) {
    uint64_t seen = range.ticket.load();
    uint64_t rest = 0;
    do {
      if (begin_of(seen) == end_of(seen)) return false;
      rest = is_own ? seen + (uint64_t{1} << 16) : seen - 1;
    } while (!range.ticket.compare_exchange_weak(seen, rest));
    const uint64_t task = is_own ? begin_of(seen) : end_of(rest);
    (*body)(first_task + static_cast<int64_t>(task));
    tasks_done.fetch_add(1, std::memory_order_acq_rel);
    return true;
  }

  // Runs what is left of the loop in progress.
  void run_tasks(size_t thread) {
    while (run_one(ranges[thread], true)) {
    }
    for (size_t i = 1; i < ranges.size(); ++i) {
      while (run_one(ranges[(thread + i) % ranges.size()], false)) {
      }
    }
  }

  void share_out(int64_t num_tasks) {
    const uint64_t number = loop.load(std::memory_order_relaxed) + 1;
    const auto count = static_cast<uint64_t>(num_tasks);
    const auto num_threads = static_cast<uint64_t>(ranges.size());
    for (uint64_t i = 0; i < num_threads; ++i) {
      const uint64_t begin = count * i / num_threads;
      const uint64_t end = count * (i + 1) / num_threads;
      ranges[i].ticket.store(number << 32 | begin << 16 | end);
    }
    loop.store(number);
  }

  void park(uint64_t seen_loop) {
    std::unique_lock lock(mutex);
    num_parked.fetch_add(1);
    wake.wait(lock, [&] { return loop.load() != seen_loop || stopping.load(); });
    num_parked.fetch_sub(1);
  }

  void work(size_t thread) {
    uint64_t seen_loop = 0;
    int spins = 0;
    while (!stopping.load(std::memory_order_relaxed)) {
      const uint64_t now = loop.load();
      if (now != seen_loop) {
        run_tasks(thread);
        seen_loop = now;
        spins = 0;
      } else if (++spins < kSpinsBeforePark) {
        pause_cpu();
      } else {
        park(seen_loop);
        spins = 0;
      }
    }
  }

  void run_loop(int64_t first, int64_t num_tasks) {
    first_task = first;
    tasks_done.store(0, std::memory_order_relaxed);
    share_out(num_tasks);
    if (num_parked.load() > 0) {
      // The empty critical section orders this against a worker between its check and its wait.
      {
        std::lock_guard lock(mutex);
      }
      wake.notify_all();
    }
    run_tasks(0);
    for (int spins = 0; tasks_done.load(std::memory_order_acquire) < num_tasks; ++spins) {
      if (spins < kSpinsBeforePark) {
        pause_cpu();
      } else {
        std::this_thread::yield();
      }
    }
  }
};

ThreadPool::ThreadPool(int num_threads)
    : state_(std::make_unique<State>(static_cast<size_t>(num_threads))) {
  for (size_t i = 1; i < static_cast<size_t>(num_threads); ++i) {
    state_->workers.emplace_back([state = state_.get(), i] { state->work(i); });
  }
}

ThreadPool::~ThreadPool() {
  {
    std::lock_guard lock(state_->mutex);
    state_->stopping.store(true);
  }
  state_->wake.notify_all();
  for (std::thread& worker : state_->workers) worker.join();
}

int ThreadPool::num_threads() const {
  return static_cast<int>(state_->workers.size()) + 1;
}

void ThreadPool::run(int64_t num_tasks, const std::function<void(int64_t)>& body) {
  State& state = *state_;
  // A loop inside a task runs on its own thread: the pool shares one loop at a time.
  ThreadPool* const outer = pool_in_force;
  pool_in_force = nullptr;
  if (num_tasks <= 1 || state.workers.empty()) {
    for (int64_t task = 0; task < num_tasks; ++task) body(task);
    pool_in_force = outer;
    return;
  }
  state.body = &body;
  for (int64_t first = 0; first < num_tasks; first += State::kMostTasks) {
    state.run_loop(first, std::min(State::kMostTasks, num_tasks - first));
  }
  pool_in_force = outer;
}

void ThreadPool::run_on_each(const std::function<void()>& body) {
  // A thread that has begun waits until all have, so none gets two.
  std::atomic<int> num_begun{0};
  auto task = [&](int64_t) {
    num_begun.fetch_add(1);
    while (num_begun.load() < num_threads()) std::this_thread::yield();
    body();
  };
  run(num_threads(), std::ref(task));
}

ComputeScope::ComputeScope(ThreadPool& pool) : previous_(pool_in_force) {
  pool_in_force = &pool;
}
ComputeScope::~ComputeScope() {
  pool_in_force = previous_;
}

ThreadPool* current_pool() {
  return pool_in_force;
}

void parallel_for(int64_t num_tasks, const std::function<void(int64_t)>& body) {
  if (pool_in_force != nullptr) {
    pool_in_force->run(num_tasks, body);
    return;
  }
  for (int64_t task = 0; task < num_tasks; ++task) body(task);
}

}  // namespace sluice::kernels
