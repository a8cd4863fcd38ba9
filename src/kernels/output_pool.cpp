#include "kernels/output_pool.h"

#include <ATen/ops/empty.h>
#include <c10/core/TensorImpl.h>

#include <algorithm>
#include <bit>
#include <utility>

#include "kernels/device.h"

namespace sluice::kernels {
namespace {

// Capacities below this are rounded up to it, so that small results fit any small tensor.
constexpr int64_t kSmallestBytes = 4096;

thread_local OutputPool* pool_in_force = nullptr;

}  // namespace

// A view of the tensor holds its storage, not the tensor. An entry without a tensor is left by a
// refused allocation.
bool OutputPool::is_free(const Entry& entry, at::ScalarType dtype) {
  if (!entry.tensor.defined()) return true;
  return entry.tensor.scalar_type() == dtype && entry.tensor.use_count() == 1 &&
         entry.tensor.storage().use_count() == 1;
}

at::Tensor OutputPool::take(at::IntArrayRef sizes, at::ScalarType dtype) {
  int64_t wanted = 1;
  for (const int64_t size : sizes) wanted *= size;
  Entry* best = nullptr;     // the smallest that is large enough
  Entry* largest = nullptr;  // of those that are too small
  for (Entry& entry : entries_) {
    if (!is_free(entry, dtype)) continue;
    if (entry.capacity >= wanted) {
      if (best == nullptr || entry.capacity < best->capacity) best = &entry;
    } else if (largest == nullptr || entry.capacity > largest->capacity) {
      largest = &entry;
    }
  }
  if (best == nullptr) {
    best = largest != nullptr ? largest : &entries_.emplace_back();
    const auto smallest = kSmallestBytes / static_cast<int64_t>(c10::elementSize(dtype));
    best->tensor = at::Tensor();  // its memory goes before the new one comes
    best->capacity = 0;
    const int64_t capacity = std::max(wanted, smallest);
    best->tensor = device_.allocate({capacity}, dtype);
    best->capacity = capacity;
  }
  best->tensor.unsafeGetTensorImpl()->set_sizes_contiguous(sizes);
  return best->tensor;
}

OutputScope::OutputScope(OutputPool& pool) : previous_(std::exchange(pool_in_force, &pool)) {}
OutputScope::~OutputScope() {
  pool_in_force = previous_;
}

at::Tensor empty_output(at::IntArrayRef sizes, at::ScalarType dtype, Device& device) {
  if (pool_in_force != nullptr && &pool_in_force->device() == &device) {
    return pool_in_force->take(sizes, dtype);
  }
  return device.allocate(sizes, dtype);
}

at::Tensor empty_output(at::IntArrayRef sizes, at::ScalarType dtype) {
  if (pool_in_force != nullptr) return pool_in_force->take(sizes, dtype);
  return at::empty(sizes, at::TensorOptions().dtype(dtype));
}

}  // namespace sluice::kernels
