#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "sluice/error.h"

namespace sluice::kernels {

// Instruction sets that the CPU kernels are built for, best first. kAvx512 has BF16 and VNNI,
// kAvx512Vnni has VNNI alone (Cascade Lake, Ice Lake, and hosts that hide the rest), kAvx512Bw
// neither (Skylake servers, and hosts that hide VNNI).
enum class Isa : uint8_t { kAmx, kAvx512, kAvx512Vnni, kAvx512Bw, kAvx2 };

// The instruction set in force: the best that this machine really runs (AMX: the kernel grants the
// tile state), or the one that SLUICE_CPU_ISA=amx|avx512|avx512vnni|avx512bw|avx2 names.
// kFailedPrecondition if that one cannot run here, or the machine lacks AVX2. The answer is fixed
// at the first call.
Result<Isa> cpu_isa();

// Whether this machine really runs it, in force or not.
bool can_run(Isa isa);

// Name of the kernels' arithmetic, e.g. "cpu-amx/1": same name and same package = same bits. The
// number grows when a kernel's order of operations changes.
Result<std::string> cpu_profile();

// A fixed set of threads that share one loop at a time. The caller's thread takes part.
//
// Workers spin briefly for the next loop, then park, so that a step's many small loops start in
// about a microsecond and an idle server burns nothing.
// Threads: one caller.
class ThreadPool final {
 public:
  // Requires: num_threads >= 1 (1 runs everything on the caller).
  explicit ThreadPool(int num_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const;
  // Calls body(task) for every task in [0, num_tasks), in any order and on any thread, and returns
  // when all are done. `body` must not throw.
  void run(int64_t num_tasks, const std::function<void(int64_t)>& body);
  // Calls body() once on each thread, the caller's too: to set up what a thread keeps for itself.
  // All of them are inside at one time. `body` must not throw.
  void run_on_each(const std::function<void()>& body);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// While it lives, the operators called on this thread share their loops over `pool`. Without one
// they run on the calling thread alone. The bits are the same.
class ComputeScope final {
 public:
  explicit ComputeScope(ThreadPool& pool);
  ~ComputeScope();
  ComputeScope(const ComputeScope&) = delete;
  ComputeScope& operator=(const ComputeScope&) = delete;

 private:
  ThreadPool* previous_;
};

// The pool in force on this thread, or nullptr.
ThreadPool* current_pool();

// Runs body(task) over the pool in force, or here.
void parallel_for(int64_t num_tasks, const std::function<void(int64_t)>& body);

}  // namespace sluice::kernels
