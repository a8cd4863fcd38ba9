#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "cuda_types.h"
#include "kernels/cuda/device_api.h"

// Runs a kernel's grid on the host: blocks one after the other in the calling OS thread, a block's
// threads as fibers. A warp's function is a rendezvous of its 32 lanes: the last to arrive does the
// work for all. A thread that would wait for ever ends the launch with an error that says who waits
// where.
//
// Threads: any; launches of several OS threads wait for each other.
namespace sluice::kernels::cuda::host {

// Of cudaError_t.
inline constexpr Status kInvalidValue = 1;
inline constexpr Status kInvalidConfiguration = 9;
inline constexpr Status kInvalidDevice = 101;
inline constexpr Status kLaunchFailure = 719;
inline constexpr Status kCaptureUnsupported = 900;
inline constexpr Status kCaptureInvalidated = 901;

// The order in which blocks, warps and lanes run, and when an asynchronous copy takes place: as
// late as it may, with 0xff in its place until then, or at once. What depends on either lacks a
// barrier or a wait.
enum class Schedule : uint8_t { kForwardLateCopies, kBackwardEarlyCopies };
void set_schedule(Schedule schedule);

struct Launch {
  dim3 blocks;
  int threads = 0;
  size_t block_memory_bytes = 0;
  void (*thread)(const void* call) = nullptr;
  const void* call = nullptr;
  bool waits_itself = false;  // a launch in which no thread does fails
};
Status run(const Launch& launch);

// What the last launch that failed had to say.
const std::string& last_failure();

// The rest is for a thread of a running kernel.

// Once all lanes are here, one of them calls `work` with every lane's `operand`.
using WarpWork = void (*)(void* const* operands);
void meet_warp(const char* function, WarpWork work, void* operand);

// Here a kernel starts when those ahead of it are done.
void wait_for_kernels();

// Waits for all of the block's threads that have not returned.
void meet_block();

unsigned char* block_memory();

// Fails unless 16 bytes there are aligned, and in the block's memory or outside of it: a device's
// instructions are for one of the two.
void expect_block_memory(const char* function, const void* address);
void expect_device_memory(const char* function, const void* address);

void start_copy(void* to_block_memory, const void* from, bool is_valid);
void commit_copies();
void wait_for_copies(int num_groups);

// Ends the launch with this message.
[[noreturn]] void fail(std::string message);

}  // namespace sluice::kernels::cuda::host
