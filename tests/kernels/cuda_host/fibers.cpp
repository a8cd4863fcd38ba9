#include "fibers.h"

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <utility>
#include <vector>

#include "fiber_switch.h"

uint3 threadIdx;
uint3 blockIdx;
dim3 blockDim;
dim3 gridDim;

namespace sluice::kernels::cuda::host {
namespace {

constexpr int kLanes = 32;
constexpr uint32_t kAllLanes = 0xffffffffu;
constexpr int kMaxThreads = 1024;
constexpr size_t kMaxBlockBytes = 99 * 1024;
constexpr size_t kStackBytes = 128 * 1024;
constexpr size_t kPageBytes = 4096;
constexpr size_t kFrontBytes = 256;  // before the block's memory; must stay as they are

// An asynchronous copy that has not taken place yet.
struct Copy {
  unsigned char* to;
  const unsigned char* from;  // null: zeros
  int64_t group;
};

struct Thread {
  Context context{kStackBytes};
  std::vector<Copy> copies;
  int64_t group = 0;  // that is not committed
};

// Bit l of a mask is lane l. A lane is in one mask, but for the one that runs, which is in none.
struct Warp {
  uint32_t ready = 0;
  uint32_t in_warp_function = 0;
  uint32_t in_block_barrier = 0;
  uint32_t returned = 0;
  const char* function = nullptr;
  WarpWork work = nullptr;
  std::array<void*, kLanes> operands{};
};

// The block's memory, its last byte before a page that cannot be touched.
class BlockMemory {
 public:
  BlockMemory() {
    const size_t bytes = (kMaxBlockBytes + kFrontBytes + kPageBytes - 1) / kPageBytes * kPageBytes;
    void* mapping =
        mmap(nullptr, bytes + kPageBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapping == MAP_FAILED || mprotect(mapping, bytes, PROT_READ | PROT_WRITE) != 0) abort();
    end_ = static_cast<unsigned char*>(mapping) + bytes;
  }

  void prepare(size_t bytes) {
    // A kernel may lay vectors of 16 bytes there.
    begin_ = end_ - (bytes + 15) / 16 * 16;
    std::memset(begin_ - kFrontBytes, 0xff, end_ - begin_ + kFrontBytes);
  }
  unsigned char* begin() const { return begin_; }
  bool holds(const unsigned char* data, size_t bytes) const {
    return data >= begin_ && data <= end_ - bytes;
  }
  bool is_front_whole() const {
    return std::all_of(begin_ - kFrontBytes, begin_, [](unsigned char b) { return b == 0xff; });
  }

 private:
  unsigned char* begin_ = nullptr;
  unsigned char* end_ = nullptr;
};

class Multiprocessor {
 public:
  Status run(const Launch& launch);
  void meet_warp(const char* function, WarpWork work, void* operand);
  void meet_block();
  void start_copy(unsigned char* to, const unsigned char* from, bool is_valid);
  void commit_copies() { ++threads_[current_].group; }
  void wait_for_copies(int num_groups);
  [[noreturn]] void fail(std::string message);

  std::mutex mutex;
  Schedule schedule = Schedule::kForwardLateCopies;
  std::string failure;
  BlockMemory memory;
  bool has_waited = false;  // a thread of the launch, for the kernels ahead of it

 private:
  static void thread_entry();
  void run_block();
  void thread_returned();
  void release_block_barrier();
  // The thread that goes on, -1 if none can.
  int next_ready() const;
  int next_lane(uint32_t ready) const;
  void wait();
  void resume(int thread);
  void set_current(int thread);
  std::string stuck() const;
  bool is_backward() const { return schedule == Schedule::kBackwardEarlyCopies; }

  Launch launch_;
  Context main_;
  std::vector<Thread> threads_;
  std::vector<Warp> warps_;
  int current_ = -1;
  int num_threads_ = 0;
  int num_returned_ = 0;
  int num_in_barrier_ = 0;
};

Multiprocessor& multiprocessor() {
  static Multiprocessor one;
  return one;
}

template <typename... Arguments>
std::string text(const char* format, Arguments... arguments) {
  std::array<char, 256> buffer{};
  std::snprintf(buffer.data(), buffer.size(), format, arguments...);
  return buffer.data();
}

const char* refusal(const Launch& launch) {
  if (launch.threads <= 0 || launch.threads > kMaxThreads) return "a block has 1 to 1024 threads";
  if (launch.threads % kLanes != 0) return "a block's threads are a multiple of 32";
  if (launch.block_memory_bytes > kMaxBlockBytes) return "a block's memory is at most 99 KiB";
  if (launch.blocks.x > 0x7fffffffu) return "a grid has at most 2^31 - 1 blocks in x";
  if (launch.blocks.y > 65535 || launch.blocks.z > 65535) {
    return "a grid has at most 65535 blocks in y and z";
  }
  return nullptr;
}

Status Multiprocessor::run(const Launch& launch) {
  std::string().swap(failure);  // without memory, so that `fail` leaves none behind
  if (const char* reason = refusal(launch)) {
    failure = reason;
    return kInvalidConfiguration;
  }
  launch_ = launch;
  has_waited = false;
  num_threads_ = launch.threads;
  if (threads_.size() < static_cast<size_t>(num_threads_)) threads_.resize(num_threads_);
  warps_.resize(num_threads_ / kLanes);
  gridDim = launch.blocks;
  blockDim = dim3(num_threads_);
  const uint64_t in_plane = uint64_t{gridDim.x} * gridDim.y;
  const uint64_t num_blocks = in_plane * gridDim.z;
  for (uint64_t i = 0; i < num_blocks && failure.empty(); ++i) {
    const uint64_t block = is_backward() ? num_blocks - 1 - i : i;
    blockIdx = {static_cast<unsigned>(block % gridDim.x),
                static_cast<unsigned>(block % in_plane / gridDim.x),
                static_cast<unsigned>(block / in_plane)};
    run_block();
  }
  if (failure.empty() && launch.waits_itself && !has_waited) {
    failure = "no thread has waited for the kernels ahead";
  }
  if (failure.empty()) return kSuccess;
  std::fprintf(stderr, "kernel failed in block (%u, %u, %u): %s\n", blockIdx.x, blockIdx.y,
               blockIdx.z, failure.c_str());
  return kLaunchFailure;
}

void Multiprocessor::run_block() {
  memory.prepare(launch_.block_memory_bytes);
  num_returned_ = 0;
  num_in_barrier_ = 0;
  for (Warp& warp : warps_) {
    warp = Warp{};
    warp.ready = kAllLanes;
  }
  for (int i = 0; i < num_threads_; ++i) {
    threads_[i].context.prepare(&thread_entry);
    threads_[i].copies.clear();
    threads_[i].group = 0;
  }
  current_ = -1;
  resume(is_backward() ? num_threads_ - 1 : 0);
  if (failure.empty() && !memory.is_front_whole()) failure = "wrote before the block's memory";
}

void Multiprocessor::thread_entry() {
  Context::entered();
  Multiprocessor& self = multiprocessor();
  self.launch_.thread(self.launch_.call);
  self.thread_returned();
}

void Multiprocessor::set_current(int thread) {
  current_ = thread;
  threadIdx = {static_cast<unsigned>(thread), 0, 0};
  warps_[thread / kLanes].ready &= ~(1u << thread % kLanes);
}

void Multiprocessor::resume(int thread) {
  Context& from = current_ < 0 ? main_ : threads_[current_].context;
  set_current(thread);
  from.switch_to(threads_[thread].context);
}

int Multiprocessor::next_lane(uint32_t ready) const {
  return is_backward() ? 31 - std::countl_zero(ready) : std::countr_zero(ready);
}

int Multiprocessor::next_ready() const {
  const int num_warps = static_cast<int>(warps_.size());
  int warp = current_ / kLanes;
  for (int i = 0; i < num_warps; ++i) {
    if (warps_[warp].ready != 0) return warp * kLanes + next_lane(warps_[warp].ready);
    warp += is_backward() ? num_warps - 1 : 1;
    if (warp >= num_warps) warp -= num_warps;
  }
  return -1;
}

void Multiprocessor::wait() {
  const int next = next_ready();
  if (next < 0) fail(stuck());
  if (next == current_) {
    set_current(next);
  } else {
    resume(next);
  }
}

void Multiprocessor::meet_warp(const char* function, WarpWork work, void* operand) {
  Warp& warp = warps_[current_ / kLanes];
  const int lane = current_ % kLanes;
  if (warp.in_warp_function == 0) {
    warp.function = function;
    warp.work = work;
  } else if (warp.work != work) {
    fail(text("lane %d of warp %d calls %s while others wait in %s", lane, current_ / kLanes,
              function, warp.function));
  }
  warp.operands[lane] = operand;
  warp.in_warp_function |= 1u << lane;
  if (warp.in_warp_function != kAllLanes) {
    wait();
    return;
  }
  work(warp.operands.data());
  warp.ready = kAllLanes & ~(1u << lane);
  warp.in_warp_function = 0;
}

void Multiprocessor::meet_block() {
  warps_[current_ / kLanes].in_block_barrier |= 1u << current_ % kLanes;
  ++num_in_barrier_;
  if (num_in_barrier_ + num_returned_ == num_threads_) release_block_barrier();
  wait();
}

void Multiprocessor::release_block_barrier() {
  num_in_barrier_ = 0;
  for (Warp& warp : warps_) {
    warp.ready |= warp.in_block_barrier;
    warp.in_block_barrier = 0;
  }
}

void Multiprocessor::thread_returned() {
  warps_[current_ / kLanes].returned |= 1u << current_ % kLanes;
  ++num_returned_;
  if (num_in_barrier_ > 0 && num_in_barrier_ + num_returned_ == num_threads_) {
    release_block_barrier();
  }
  const int next = num_returned_ == num_threads_ ? -1 : next_ready();
  if (next < 0 && num_returned_ < num_threads_) fail(stuck());
  Context& own = threads_[current_].context;
  if (next < 0) {
    own.leave_for(main_);
  } else {
    set_current(next);
    own.leave_for(threads_[next].context);
  }
}

void Multiprocessor::fail(std::string message) {
  failure = std::move(message);  // nothing is destroyed on this stack any more
  threads_[current_].context.leave_for(main_);
  abort();  // nobody comes back
}

// The first warp that waits for what will not come.
std::string Multiprocessor::stuck() const {
  size_t index = 0;
  while (index + 1 < warps_.size() && warps_[index].in_warp_function == 0) ++index;
  const Warp& warp = warps_[index];
  if (warp.in_warp_function == 0) return "threads wait for ever at the block's barrier";
  return text(
      "warp %zu is divided: lanes 0x%08x wait in %s, 0x%08x at the block's barrier, "
      "0x%08x have returned",
      index, warp.in_warp_function, warp.function, warp.in_block_barrier, warp.returned);
}

void Multiprocessor::start_copy(unsigned char* to, const unsigned char* from, bool is_valid) {
  expect_block_memory("copy_16_bytes", to);
  if (is_valid) expect_device_memory("copy_16_bytes", from);
  // Read here too, so that a bad address is found where it is given.
  if (is_valid) static_cast<void>(*static_cast<const volatile unsigned char*>(from));
  if (is_backward()) {
    is_valid ? std::memcpy(to, from, 16) : std::memset(to, 0, 16);
    return;
  }
  std::memset(to, 0xff, 16);
  Thread& thread = threads_[current_];
  thread.copies.push_back({to, is_valid ? from : nullptr, thread.group});
}

void Multiprocessor::wait_for_copies(int num_groups) {
  Thread& thread = threads_[current_];
  const int64_t done = thread.group - num_groups;
  auto copy = thread.copies.begin();
  for (; copy != thread.copies.end() && copy->group < done; ++copy) {
    copy->from != nullptr ? std::memcpy(copy->to, copy->from, 16) : std::memset(copy->to, 0, 16);
  }
  thread.copies.erase(thread.copies.begin(), copy);
}

}  // namespace

void set_schedule(Schedule schedule) {
  const std::lock_guard lock(multiprocessor().mutex);
  multiprocessor().schedule = schedule;
}

Status run(const Launch& launch) {
  const std::lock_guard lock(multiprocessor().mutex);
  return multiprocessor().run(launch);
}

const std::string& last_failure() {
  return multiprocessor().failure;
}

void meet_warp(const char* function, WarpWork work, void* operand) {
  multiprocessor().meet_warp(function, work, operand);
}

void wait_for_kernels() {
  multiprocessor().has_waited = true;
}

void meet_block() {
  multiprocessor().meet_block();
}

unsigned char* block_memory() {
  return multiprocessor().memory.begin();
}

namespace {
void expect_aligned(const char* function, const void* address) {
  if (reinterpret_cast<uintptr_t>(address) % 16 == 0) return;
  fail(std::string(function) + ": an address is no multiple of 16");
}
bool is_block_memory(const void* address) {
  return multiprocessor().memory.holds(static_cast<const unsigned char*>(address), 16);
}
}  // namespace

void expect_block_memory(const char* function, const void* address) {
  expect_aligned(function, address);
  if (!is_block_memory(address)) fail(std::string(function) + " reads outside the block's memory");
}

void expect_device_memory(const char* function, const void* address) {
  expect_aligned(function, address);
  if (is_block_memory(address)) fail(std::string(function) + ": the block's memory is another");
}

void start_copy(void* to_block_memory, const void* from, bool is_valid) {
  multiprocessor().start_copy(static_cast<unsigned char*>(to_block_memory),
                              static_cast<const unsigned char*>(from), is_valid);
}

void commit_copies() {
  multiprocessor().commit_copies();
}

void wait_for_copies(int num_groups) {
  multiprocessor().wait_for_copies(num_groups);
}

void fail(std::string message) {
  multiprocessor().fail(std::move(message));
}

}  // namespace sluice::kernels::cuda::host
