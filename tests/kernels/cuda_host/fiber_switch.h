#pragma once

// One context of execution: a stack and where it stands. Switching costs a few nanoseconds and no
// call of the system; a debugger and AddressSanitizer know which stack is in use.

#include <cstddef>

namespace sluice::kernels::cuda::host {

class Context {
 public:
  // The calling OS thread's own stack.
  Context() = default;
  // On a stack of its own, between two pages that cannot be touched.
  explicit Context(size_t stack_bytes);
  ~Context();
  Context(Context&& other) noexcept;
  Context& operator=(Context&&) = delete;

  // Begins anew: the next switch to it calls `entry`, which never returns.
  void prepare(void (*entry)());

  // Leaves `*this`, which is the running one, and goes on in `to`.
  void switch_to(Context& to);
  // As switch_to, where `*this` will not be gone on with.
  void leave_for(Context& to);

  // To be called first in an entry.
  static void entered();

 private:
  void go(Context& to, bool for_good);

  void* position_ = nullptr;  // of a stack that waits
  std::byte* mapping_ = nullptr;
  const void* bottom_ = nullptr;
  size_t size_ = 0;
  void* sanitizer_state_ = nullptr;
};

}  // namespace sluice::kernels::cuda::host
