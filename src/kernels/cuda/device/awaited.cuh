#pragma once

#include <type_traits>

// Arguments of kernels that may start before the kernels ahead of them are done.
//
// Between two kernels of a stream a device does nothing for a moment: one's last blocks end, then
// the next one is started. A dependent launch (CUDA's programmatic dependent launch) puts
// the next one's blocks on multiprocessors as soon as there is room, and they wait themselves.
//
// The rule: a kernel that is launched so waits before it reads what any kernel writes, and before
// it writes at all. It waits until the kernel ahead of it is complete and its writes are to be
// seen. As that one has waited too, or was started when all before it was complete, all that is
// ahead is complete then: a buffer that the last but one still reads is safe. So every kernel that
// is launched so has to wait.
//
// None can forget it: launch() launches so the kernels whose arguments are Awaited, beside which
// only numbers are allowed, and what is in an Awaited comes out by waiting. All other kernels start
// when everything ahead of them is complete, as copies do.
namespace sluice::kernels::cuda {

__device__ inline void wait_for_kernels();  // intrinsics.cuh

template <typename T>
class Awaited {
 public:
  __host__ __device__ constexpr Awaited(const T& value) : value_(value) {}

  // On each thread that goes on to use it. The next kernel's blocks may come once all of this one's
  // have waited: not earlier, or constants() would be read before `pack` is complete.
  __device__ const T& wait() const {
    wait_for_kernels();
    return value_;
  }

  // Before wait(): to read what was complete when the host put the kernel into the stream, and is
  // not written again. Packed weights are (device_api.h).
  __device__ const T& constants() const { return value_; }

 private:
  T value_;
};

template <typename T>
inline constexpr bool kIsAwaited = false;
template <typename T>
inline constexpr bool kIsAwaited<Awaited<T>> = true;

// Whether a kernel of such parameters may start early.
template <typename... Parameters>
constexpr bool waits_itself() {
  constexpr bool kWaits = (kIsAwaited<Parameters> || ...);
  static_assert(!kWaits || ((kIsAwaited<Parameters> || std::is_arithmetic_v<Parameters>) && ...),
                "what is not Awaited could be used before the kernels ahead are done");
  return kWaits;
}

// Whether the device and the user let such kernels start early; asked with any of them
// (runtime.cpp).
bool may_start_early(const void* kernel);

}  // namespace sluice::kernels::cuda
