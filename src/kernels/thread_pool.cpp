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

// The loop in progress is one 64-bit ticket: the loop's number above, its unclaimed tasks below.
// A thread claims a task by taking one off with compare-and-swap. A late worker that still holds an
// old loop's number fails to swap, so the caller need not wait for workers that found nothing, and
// a machine whose other cores are busy costs no more than the lack of their help.
struct ThreadPool::State {
  static constexpr uint64_t kCountMask = 0xffffffffu;

  std::atomic<uint64_t> ticket{0};
  std::atomic<int64_t> tasks_done{0};
  int64_t num_tasks = 0;                               // stable while a task is claimed
  const std::function<void(int64_t)>* body = nullptr;  // the same

  std::atomic<int> num_parked{0};
  std::atomic<bool> stopping{false};
  std::mutex mutex;
  std::condition_variable wake;
  std::vector<std::thread> workers;

  bool has_tasks() const { return (ticket.load() & kCountMask) != 0; }

  // Runs one task of the current loop; false if none is left.
  bool run_one() {
    uint64_t seen = ticket.load();
    do {
      if ((seen & kCountMask) == 0) return false;
    } while (!ticket.compare_exchange_weak(seen, seen - 1));
    (*body)(num_tasks - static_cast<int64_t>(seen & kCountMask));
    tasks_done.fetch_add(1, std::memory_order_acq_rel);
    return true;
  }

  void park() {
    std::unique_lock lock(mutex);
    num_parked.fetch_add(1);
    wake.wait(lock, [this] { return has_tasks() || stopping.load(); });
    num_parked.fetch_sub(1);
  }

  void work() {
    int spins = 0;
    while (!stopping.load(std::memory_order_relaxed)) {
      if (run_one()) {
        spins = 0;
      } else if (++spins < kSpinsBeforePark) {
        pause_cpu();
      } else {
        park();
        spins = 0;
      }
    }
  }
};

ThreadPool::ThreadPool(int num_threads) : state_(std::make_unique<State>()) {
  for (int i = 1; i < num_threads; ++i) {
    state_->workers.emplace_back([state = state_.get()] { state->work(); });
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
  state.num_tasks = num_tasks;
  state.body = &body;
  state.tasks_done.store(0, std::memory_order_relaxed);
  const uint64_t loop = (state.ticket.load(std::memory_order_relaxed) >> 32) + 1;
  state.ticket.store(loop << 32 | static_cast<uint64_t>(num_tasks));
  if (state.num_parked.load() > 0) {
    // The empty critical section orders this against a worker between its check and its wait.
    {
      std::lock_guard lock(state.mutex);
    }
    state.wake.notify_all();
  }
  while (state.run_one()) {
  }
  for (int spins = 0; state.tasks_done.load(std::memory_order_acquire) < num_tasks; ++spins) {
    if (spins < kSpinsBeforePark) {
      pause_cpu();
    } else {
      std::this_thread::yield();
    }
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
