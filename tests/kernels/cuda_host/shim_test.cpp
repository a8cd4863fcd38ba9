#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <limits>
#include <vector>

#include "host_memory.h"
#include "host_stream.h"
#include "kernels/cuda/device/intrinsics.cuh"
#include "with_schedule.h"

// The host that other tests run CUDA kernels on is tested with kernels of its own.
namespace sluice::kernels::cuda {
namespace {

using host::Schedule;
using Shim = host::WithSchedule;
using testing::HasSubstr;

const DeviceApi& api() {
  static const DeviceApi table = host::memory_api();
  return table;
}

INSTANTIATE_TEST_SUITE_P(Schedules, Shim, host::schedules(), host::schedule_name);

__global__ void where_kernel(int32_t* hits, int32_t* sum) {
  const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  atomicAdd(&hits[block * blockDim.x + threadIdx.x], 1);
  atomicAdd(sum, static_cast<int32_t>(threadIdx.x));
}

TEST_P(Shim, RunsEachThreadOfEachBlockOnce) {
  std::vector<int32_t> hits(2 * 3 * 4 * 64, 0);
  int32_t sum = 0;
  ASSERT_EQ(
      launch(&where_kernel, {.blocks = dim3(2, 3, 4), .threads = 64}, nullptr, hits.data(), &sum),
      kSuccess);
  EXPECT_EQ(hits, std::vector<int32_t>(hits.size(), 1));
  EXPECT_EQ(sum, 24 * 63 * 32);
}

// Each thread reads what others wrote before the barrier, warps before it and behind it.
template <bool kHasBarrier>
__global__ void rotate_kernel(int32_t* output) {
  auto* shared = reinterpret_cast<int32_t*>(block_memory());
  const int n = static_cast<int>(blockDim.x);
  const int i = static_cast<int>(threadIdx.x);
  for (int round = 0; round < 3; ++round) {
    shared[i] = round * n + i;
    if (kHasBarrier) block_barrier();
    output[round * n + i] = shared[(i + 37) % n] + shared[(i + n - 37) % n];
    if (kHasBarrier) block_barrier();
  }
}

TEST_P(Shim, ABlockBarrierOrdersMemory) {
  constexpr int kThreads = 96;
  std::vector<int32_t> output(3 * kThreads);
  const Grid grid{.blocks = dim3(2), .threads = kThreads, .block_memory_bytes = kThreads * 4};
  ASSERT_EQ(launch(&rotate_kernel<true>, grid, nullptr, output.data()), kSuccess);
  std::vector<int32_t> expected;
  for (int round = 0; round < 3; ++round) {
    for (int i = 0; i < kThreads; ++i) {
      expected.push_back(2 * round * kThreads + (i + 37) % kThreads +
                         (i + kThreads - 37) % kThreads);
    }
  }
  EXPECT_EQ(output, expected);
  ASSERT_EQ(launch(&rotate_kernel<false>, grid, nullptr, output.data()), kSuccess);
  EXPECT_NE(output, expected) << "a barrier that is not there must show";
}

__global__ void early_return_kernel(int32_t* count) {
  if (threadIdx.x >= 32) return;
  block_barrier();
  atomicAdd(count, 1);
}

TEST_P(Shim, ABlockBarrierDoesNotWaitForWhoHasReturned) {
  int32_t count = 0;
  ASSERT_EQ(launch(&early_return_kernel, {.blocks = dim3(1), .threads = 128}, nullptr, &count),
            kSuccess);
  EXPECT_EQ(count, 32);
}

template <typename T>
__global__ void shuffle_kernel(T* output, uint32_t* ballots) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  const int thread = static_cast<int>(threadIdx.x);
  const T own = static_cast<T>(thread) * static_cast<T>(3);
  output[thread] = warp_shuffle(own, (lane * 5 + 1) % kWarpThreads);
  warp_barrier();
  output[64 + thread] = warp_shuffle_xor(own, 21);
  ballots[thread] = warp_ballot(thread % 3 == 0);
}

template <typename T>
void expect_shuffles() {
  std::vector<T> output(128);
  std::vector<uint32_t> ballots(64);
  ASSERT_EQ(launch(&shuffle_kernel<T>, {.blocks = dim3(1), .threads = 64}, nullptr, output.data(),
                   ballots.data()),
            kSuccess);
  for (int thread = 0; thread < 64; ++thread) {
    const int first = thread / 32 * 32;
    const int lane = thread % 32;
    EXPECT_EQ(output[thread], static_cast<T>(3 * (first + (lane * 5 + 1) % 32)));
    EXPECT_EQ(output[64 + thread], static_cast<T>(3 * (first + (lane ^ 21))));
    uint32_t expected = 0;
    for (int i = 0; i < 32; ++i) expected |= static_cast<uint32_t>((first + i) % 3 == 0) << i;
    EXPECT_EQ(ballots[thread], expected);
  }
}

TEST_P(Shim, LanesExchangeNumbers) {
  expect_shuffles<float>();
  expect_shuffles<int32_t>();
  expect_shuffles<uint32_t>();
  expect_shuffles<int64_t>();
  expect_shuffles<double>();
}

enum class Mistake { kLanesReturn, kOtherFunction, kBarrierInABranch, kLanesAtTheBarrier };

__global__ void mistaken_kernel(Mistake mistake) {
  const bool is_low = threadIdx.x % 32 < 16;
  switch (mistake) {
    case Mistake::kLanesReturn:
      if (is_low) warp_barrier();
      break;
    case Mistake::kOtherFunction:
      if (is_low) {
        warp_barrier();
      } else {
        warp_ballot(true);
      }
      break;
    case Mistake::kBarrierInABranch:
      if (threadIdx.x < 32) {
        block_barrier();
      } else if (is_low) {
        warp_barrier();
      } else {
        block_barrier();
      }
      break;
    case Mistake::kLanesAtTheBarrier:
      if (is_low) block_barrier();
      warp_barrier();
      break;
  }
}

TEST_P(Shim, ADividedWarpEndsTheLaunch) {
  for (const Mistake mistake : {Mistake::kLanesReturn, Mistake::kOtherFunction,
                                Mistake::kBarrierInABranch, Mistake::kLanesAtTheBarrier}) {
    const Grid grid{.blocks = dim3(3), .threads = 64};
    ASSERT_EQ(launch(&mistaken_kernel, grid, nullptr, mistake), host::kLaunchFailure);
    EXPECT_THAT(api().error_text(host::kLaunchFailure),
                HasSubstr(mistake == Mistake::kOtherFunction ? "while others wait in"
                                                             : "is divided: lanes 0x"));
    // The next launch finds everything as it should be.
    int32_t count = 0;
    ASSERT_EQ(launch(&early_return_kernel, {.blocks = dim3(1), .threads = 64}, nullptr, &count),
              kSuccess);
    EXPECT_EQ(count, 32);
  }
}

TEST_P(Shim, RefusesWhatADeviceRefuses) {
  int32_t count = 0;
  const auto with = [&](const Grid& grid) {
    return launch(&early_return_kernel, grid, nullptr, &count);
  };
  EXPECT_EQ(with({.blocks = dim3(1), .threads = 0}), host::kInvalidConfiguration);
  EXPECT_EQ(with({.blocks = dim3(1), .threads = 33}), host::kInvalidConfiguration);
  EXPECT_EQ(with({.blocks = dim3(1), .threads = 1056}), host::kInvalidConfiguration);
  EXPECT_EQ(with({.blocks = dim3(1, 65536), .threads = 32}), host::kInvalidConfiguration);
  EXPECT_EQ(with({.blocks = dim3(1), .threads = 32, .block_memory_bytes = 99 * 1024 + 1}),
            host::kInvalidConfiguration);
  EXPECT_EQ(with({.blocks = dim3(0), .threads = 32}), kSuccess);
  EXPECT_EQ(count, 0);
  EXPECT_EQ(with({.blocks = dim3(1), .threads = 1024, .block_memory_bytes = 99 * 1024}), kSuccess);
  EXPECT_EQ(count, 32);
}

__global__ void copy_kernel(const int32_t* from, int32_t* output, int waits) {
  auto* shared = reinterpret_cast<int32_t*>(block_memory());
  const int i = static_cast<int>(threadIdx.x) * 4;
  for (int stage = 0; stage < 3; ++stage) {
    copy_16_bytes(shared + stage * 128 + i, from + stage * 128 + i, stage != 1);
    commit_copies();
  }
  if (waits == 1) wait_for_copies<1>();
  if (waits == 0) wait_for_copies<0>();
  block_barrier();
  for (int stage = 0; stage < 3; ++stage) {
    for (int n = 0; n < 4; ++n) output[stage * 128 + i + n] = shared[stage * 128 + 127 - i - n];
  }
}

// The three stages' last numbers; -1 where the copy has not come.
std::array<int32_t, 3> copied(int waits) {
  std::vector<int32_t> from(3 * 128, 7);
  std::vector<int32_t> output(3 * 128);
  const Grid grid{.blocks = dim3(1), .threads = 32, .block_memory_bytes = 3 * 512};
  std::vector<int32_t> aligned(from.size() + 4);
  auto* begin = aligned.data();
  while (reinterpret_cast<uintptr_t>(begin) % 16 != 0) ++begin;
  std::memcpy(begin, from.data(), from.size() * 4);
  EXPECT_EQ(launch(&copy_kernel, grid, nullptr, begin, output.data(), waits), kSuccess);
  return {output[127], output[255], output[383]};
}

TEST_P(Shim, AnAsynchronousCopyIsThereAfterItsWait) {
  EXPECT_EQ(copied(0), (std::array{7, 0, 7}));
  const bool is_late = GetParam() == Schedule::kForwardLateCopies;
  EXPECT_EQ(copied(1), is_late ? (std::array{7, 0, -1}) : (std::array{7, 0, 7}));
  EXPECT_EQ(copied(9), is_late ? (std::array{-1, -1, -1}) : (std::array{7, 0, 7}));
}

// Which instruction meets which memory.
enum class Place { kCopyTo, kCopyFrom, kLoad, kStore, kMatrix };

__global__ void misplaced_kernel(Place place, unsigned char* device_memory, bool is_right) {
  unsigned char* own = block_memory() + threadIdx.x * 16;
  unsigned char* other = device_memory + threadIdx.x * 16;
  unsigned char* to_block = is_right ? own : other;
  unsigned char* to_device = is_right ? other : own;
  switch (place) {
    case Place::kCopyTo:
      return copy_16_bytes(to_block, other, true);
    case Place::kCopyFrom:
      return copy_16_bytes(own, to_device, true);
    case Place::kLoad:
      static_cast<void>(load_once(to_device));
      return;
    case Place::kStore:
      return store_16_bytes(to_device, uint4{});
    case Place::kMatrix:
      static_cast<void>(warp_load_transposed(to_block));
      return;
  }
}

TEST_P(Shim, AnInstructionIsForOneMemory) {
  void* data = nullptr;
  ASSERT_EQ(api().allocate(&data, 512), kSuccess);
  const Grid grid{.blocks = dim3(1), .threads = 32, .block_memory_bytes = 512};
  for (const Place place :
       {Place::kCopyTo, Place::kCopyFrom, Place::kLoad, Place::kStore, Place::kMatrix}) {
    for (const bool is_right : {true, false}) {
      EXPECT_EQ(launch(&misplaced_kernel, grid, nullptr, place, static_cast<unsigned char*>(data),
                       is_right),
                is_right ? kSuccess : host::kLaunchFailure)
          << static_cast<int>(place);
    }
  }
  EXPECT_EQ(api().release(data), kSuccess);
}

// CUDA C++ Programming Guide, "Byte Permutation Intrinsics"; PTX ISA, prmt and cvt.
TEST(HostIntrinsics, AreNoKinderThanTheDevices) {
  constexpr uint32_t kLow = 0x83f20144;
  constexpr uint32_t kHigh = 0x7f80ff00;
  EXPECT_EQ(__byte_perm(kLow, kHigh, 0x7502), 0x7fff44f2u);
  EXPECT_EQ(__byte_perm(kLow, kHigh, 0xfd8a), 0x7fff44f2u);
  EXPECT_EQ(permute_bytes(kLow, kHigh, 0x7502), 0x7fff44f2u);
  EXPECT_EQ(permute_bytes(kLow, kHigh, 0xfd8a), 0x00ff00ffu);
  EXPECT_EQ(permute_bytes(kLow, kHigh, 0xb3c4), 0xff830000u);
  EXPECT_EQ(__float2int_rn(2.5f), 2);
  EXPECT_EQ(__float2int_rn(-3.5f), -4);
  EXPECT_EQ(__float2int_rn(1e10f), std::numeric_limits<int>::max());
  EXPECT_EQ(__float2int_rn(-1e10f), std::numeric_limits<int>::min());
  EXPECT_EQ(__float2int_rn(std::numeric_limits<float>::quiet_NaN()), 0);
}

__global__ void round_kernel(float number, int32_t* output) {
  *output = round_to_int(number);
}

TEST_P(Shim, ANumberThatNoIntHoldsIsNotRounded) {
  int32_t output = 0;
  const Grid grid{.blocks = dim3(1), .threads = 32};
  EXPECT_EQ(launch(&round_kernel, grid, nullptr, -127.5f, &output), kSuccess);
  EXPECT_EQ(output, -128);
  for (const float number : {0x1p31f, std::numeric_limits<float>::quiet_NaN()}) {
    EXPECT_EQ(launch(&round_kernel, grid, nullptr, number, &output), host::kLaunchFailure);
  }
}

static_assert(waits_itself<Awaited<int32_t*>, int64_t, Awaited<Grid>>());
static_assert(!waits_itself<int32_t*, Grid>());

__global__ void awaiting_kernel(const Awaited<int32_t*> output, bool waits) {
  if (threadIdx.x == 0 && waits) *output.wait() = 3;
  if (threadIdx.x == 1) static_cast<void>(output.constants());
}

TEST_P(Shim, AKernelThatMayStartEarlyWaits) {
  int32_t output = 0;
  const Grid grid{.blocks = dim3(2), .threads = 32};
  EXPECT_EQ(launch(&awaiting_kernel, grid, nullptr, &output, true), kSuccess);
  EXPECT_EQ(output, 3);
  EXPECT_EQ(launch(&awaiting_kernel, grid, nullptr, &output, false), host::kLaunchFailure);
  EXPECT_THAT(host::last_failure(), HasSubstr("no thread has waited"));
}

__global__ void poisoned_kernel(int32_t* all_ones) {
  auto* shared = reinterpret_cast<int32_t*>(block_memory());
  if (shared[threadIdx.x] == -1) atomicAdd(all_ones, 1);
  block_barrier();
  shared[threadIdx.x] = 0;
}

TEST_P(Shim, BlockMemoryIsPoisonedBeforeEachBlock) {
  int32_t all_ones = 0;
  ASSERT_EQ(launch(&poisoned_kernel, {.blocks = dim3(5), .threads = 32, .block_memory_bytes = 128},
                   nullptr, &all_ones),
            kSuccess);
  EXPECT_EQ(all_ones, 5 * 32);
}

__global__ void touch_kernel(int64_t at, bool writes, int32_t* output) {
  volatile unsigned char* byte = block_memory() + at;
  if (writes) *byte = 1;
  *output = *byte;
}

TEST_P(Shim, ATouchPastTheBlockMemoryDies) {
  int32_t output = 0;
  const Grid grid{.blocks = dim3(1), .threads = 32, .block_memory_bytes = 48};
  EXPECT_EQ(launch(&touch_kernel, grid, nullptr, int64_t{47}, true, &output), kSuccess);
  EXPECT_DEATH(launch(&touch_kernel, grid, nullptr, int64_t{48}, false, &output), "");
  EXPECT_DEATH(launch(&touch_kernel, grid, nullptr, int64_t{48}, true, &output), "");
  EXPECT_EQ(launch(&touch_kernel, grid, nullptr, int64_t{-1}, true, &output), host::kLaunchFailure);
  EXPECT_THAT(host::last_failure(), HasSubstr("before the block's memory"));
}

TEST(HostMemory, ATouchPastAnAllocationDies) {
  for (const size_t bytes : {16, 256, 4096, 10000, 1 << 20}) {
    void* data = nullptr;
    ASSERT_EQ(api().allocate(&data, bytes), kSuccess);
    const auto* first = static_cast<const volatile unsigned char*>(data);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(data) % (bytes % 256 == 0 ? 256 : 16), 0u);
    EXPECT_EQ(first[0], 0xff);
    EXPECT_EQ(first[bytes - 1], 0xff);
    EXPECT_DEATH(static_cast<void>(first[(bytes + 15) / 16 * 16]), "");
    ASSERT_EQ(api().release(data), kSuccess);
    EXPECT_DEATH(static_cast<void>(first[0]), "");
  }
}

TEST(HostMemory, AWriteBeforeAnAllocationIsTold) {
  void* data = nullptr;
  ASSERT_EQ(api().allocate(&data, 48), kSuccess);
  static_cast<unsigned char*>(data)[-1] = 0;
  EXPECT_EQ(api().release(data), host::kLaunchFailure);
  EXPECT_EQ(api().release(data), host::kInvalidValue);
}

TEST(HostMemory, CountsItsBytes) {
  int64_t before = 0;
  int64_t after = 0;
  ASSERT_EQ(api().count_free_bytes(&before), kSuccess);
  void* data = nullptr;
  EXPECT_EQ(api().allocate(&data, static_cast<size_t>(before) + 1), kOutOfMemory);
  ASSERT_EQ(api().allocate(&data, 1 << 20), kSuccess);
  ASSERT_EQ(api().count_free_bytes(&after), kSuccess);
  EXPECT_EQ(before - after, 1 << 20);
  ASSERT_EQ(api().release(data), kSuccess);
  ASSERT_EQ(api().count_free_bytes(&after), kSuccess);
  EXPECT_EQ(before, after);
  DeviceInfo info;
  EXPECT_EQ(api().describe(0, &info), kSuccess);
  EXPECT_EQ(api().describe(1, &info), host::kInvalidDevice);
}

__global__ void add_kernel(int32_t* to, int32_t number) {
  if (threadIdx.x == 0) *to = 10 * *to + number;
}
constexpr Grid kOneWarp{.blocks = dim3(1), .threads = 32, .block_memory_bytes = 0};

class HostStream : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(api().create_stream(&stream_), kSuccess);
    host::set_deferred(true);
  }
  void TearDown() override {
    EXPECT_EQ(api().destroy_stream(stream_), kSuccess);
    host::set_deferred(false);
  }
  void add(int32_t number) {
    ASSERT_EQ(launch(&add_kernel, kOneWarp, stream_, &sum_, number), kSuccess);
  }

  Stream stream_ = nullptr;
  int32_t sum_ = 0;
};

TEST_F(HostStream, DoesWhatIsWaitedForInItsOrder) {
  Event event = nullptr;
  ASSERT_EQ(api().create_event(&event), kSuccess);
  add(1);
  add(2);
  ASSERT_EQ(api().record_event(event, stream_), kSuccess);
  add(3);
  EXPECT_EQ(sum_, 0);
  ASSERT_EQ(api().wait_for_event(event), kSuccess);
  EXPECT_EQ(sum_, 12);
  int32_t copy = 0;
  ASSERT_EQ(api().copy_to_host(&copy, &sum_, sizeof(sum_), stream_), kSuccess);
  EXPECT_EQ(copy, 0);
  ASSERT_EQ(api().synchronize(stream_), kSuccess);
  EXPECT_EQ(copy, 123);
  EXPECT_EQ(api().destroy_event(event), kSuccess);
}

TEST_F(HostStream, AReleaseWaitsToo) {
  void* data = nullptr;
  ASSERT_EQ(api().allocate(&data, 16), kSuccess);
  add(4);
  ASSERT_EQ(api().release(data), kSuccess);
  EXPECT_EQ(sum_, 4);
}

TEST_F(HostStream, AGraphDoesItsCallsEachTimeAndNotBefore) {
  ASSERT_EQ(api().begin_capture(stream_), kSuccess);
  add(1);
  add(2);
  Graph graph = nullptr;
  ASSERT_EQ(api().end_capture(stream_, &graph), kSuccess);
  ASSERT_EQ(api().synchronize(stream_), kSuccess);
  EXPECT_EQ(sum_, 0);
  ASSERT_EQ(api().launch_graph(graph, stream_), kSuccess);
  add(3);
  ASSERT_EQ(api().launch_graph(graph, stream_), kSuccess);
  EXPECT_EQ(sum_, 0);
  ASSERT_EQ(api().synchronize(stream_), kSuccess);
  EXPECT_EQ(sum_, 12312);
  EXPECT_EQ(api().destroy_graph(graph), kSuccess);
}

TEST_F(HostStream, WhoWaitsForWhatIsCapturedGetsNoGraph) {
  Event event = nullptr;
  ASSERT_EQ(api().create_event(&event), kSuccess);
  for (const bool by_event : {false, true}) {
    ASSERT_EQ(api().begin_capture(stream_), kSuccess);
    add(1);
    EXPECT_EQ(by_event ? api().record_event(event, stream_) : api().synchronize(stream_),
              host::kCaptureUnsupported);
    Graph graph = nullptr;
    EXPECT_EQ(api().end_capture(stream_, &graph), host::kCaptureInvalidated);
    EXPECT_EQ(graph, nullptr);
  }
  add(7);
  ASSERT_EQ(api().synchronize(stream_), kSuccess);
  EXPECT_EQ(sum_, 7);
  EXPECT_EQ(api().destroy_event(event), kSuccess);
}

__global__ void wrong_kernel() {
  host::fail("as it should");
}

TEST(HostStreamFailure, ComesWhereItIsWaitedForAndStays) {
  Stream stream = nullptr;
  ASSERT_EQ(api().create_stream(&stream), kSuccess);
  host::set_deferred(true);
  int32_t sum = 0;
  EXPECT_EQ(launch(&wrong_kernel, kOneWarp, stream), kSuccess);
  EXPECT_EQ(launch(&add_kernel, kOneWarp, stream, &sum, 1), kSuccess);
  EXPECT_EQ(api().synchronize(stream), host::kLaunchFailure);
  EXPECT_EQ(launch(&add_kernel, kOneWarp, stream, &sum, 1), host::kLaunchFailure);
  EXPECT_EQ(api().destroy_stream(stream), host::kLaunchFailure);
  host::set_deferred(false);
  EXPECT_EQ(sum, 0);
}

}  // namespace
}  // namespace sluice::kernels::cuda
