#include "fiber_switch.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <utility>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#ifndef __x86_64__
#error "the switch of stacks is written for x86-64 only"
#endif

// The registers that a function keeps (System V ABI) lie on the stack that waits, the return
// address above them.
extern "C" void sluice_test_switch_stack(void** position, void* to);
asm(R"(
.text
.type sluice_test_switch_stack, @function
.globl sluice_test_switch_stack
sluice_test_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size sluice_test_switch_stack, . - sluice_test_switch_stack
)");

namespace sluice::kernels::cuda::host {
namespace {

size_t page_bytes() {
  static const size_t bytes = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  return bytes;
}

Context* came_from = nullptr;

}  // namespace

Context::Context(size_t stack_bytes) : size_(stack_bytes) {
  const size_t page = page_bytes();
  void* mapping = mmap(nullptr, size_ + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping == MAP_FAILED) std::abort();
  mapping_ = static_cast<std::byte*>(mapping);
  if (mprotect(mapping_ + page, size_, PROT_READ | PROT_WRITE) != 0) std::abort();
  bottom_ = mapping_ + page;
}

Context::~Context() {
  if (mapping_ != nullptr) munmap(mapping_, size_ + 2 * page_bytes());
}

Context::Context(Context&& other) noexcept
    : position_(other.position_),
      mapping_(std::exchange(other.mapping_, nullptr)),
      bottom_(other.bottom_),
      size_(other.size_),
      sanitizer_state_(other.sanitizer_state_) {}

void Context::prepare(void (*entry)()) {
#ifdef __SANITIZE_ADDRESS__
  // A launch that failed left its frames there.
  __asan_unpoison_memory_region(bottom_, size_);
  sanitizer_state_ = nullptr;
#endif
  auto** top = reinterpret_cast<void**>(mapping_ + page_bytes() + size_);
  constexpr int kWords = 8;  // six registers, the entry, and the return address that it sees
  void** position = top - kWords;
  std::memset(position, 0, kWords * sizeof(void*));
  position[6] = reinterpret_cast<void*>(entry);
  position_ = position;
}

void Context::switch_to(Context& to) {
  go(to, false);
}

void Context::leave_for(Context& to) {
  go(to, true);
}

void Context::go(Context& to, [[maybe_unused]] bool for_good) {
  came_from = this;
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_start_switch_fiber(for_good ? nullptr : &sanitizer_state_, to.bottom_, to.size_);
#endif
  sluice_test_switch_stack(&position_, to.position_);
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(sanitizer_state_, nullptr, nullptr);
#endif
}

void Context::entered() {
#ifdef __SANITIZE_ADDRESS__
  // Only here is it said where the OS thread's own stack lies.
  __sanitizer_finish_switch_fiber(nullptr, &came_from->bottom_, &came_from->size_);
#endif
}

}  // namespace sluice::kernels::cuda::host
