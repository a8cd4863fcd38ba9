#include "kv_cache/kv_pool.h"

#include <ATen/ops/from_blob.h>
#include <c10/util/Exception.h>
#include <sys/mman.h>

#include <cstddef>
#include <span>
#include <string>
#include <utility>

namespace sluice::kv_cache {
namespace {

// An anonymous mapping as a tensor that unmaps itself; undefined if the system refuses.
at::Tensor map_tensor(const std::vector<int64_t>& shape, at::ScalarType dtype, size_t num_bytes) {
  void* data =
      ::mmap(nullptr, num_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) return {};
  // Advice only: without huge pages the pool works, some percent slower.
  (void)::madvise(data, num_bytes, MADV_HUGEPAGE);
  return at::from_blob(
      data, shape, [num_bytes](void* mapped) { ::munmap(mapped, num_bytes); },
      at::TensorOptions().dtype(dtype));
}

// Undefined without memory; throws what else the device says.
at::Tensor allocate_tensor(kernels::Device& device, const std::vector<int64_t>& shape,
                           at::ScalarType dtype) {
  try {
    return device.allocate(shape, dtype);
  } catch (const c10::OutOfMemoryError&) {
    return {};
  }
}

std::vector<std::span<std::byte>> memory_of(const std::vector<at::Tensor>& layers) {
  std::vector<std::span<std::byte>> memory;
  memory.reserve(layers.size());
  for (const at::Tensor& layer : layers) {
    memory.emplace_back(static_cast<std::byte*>(layer.data_ptr()), layer.nbytes());
  }
  return memory;
}

}  // namespace

KvPool::KvPool(std::vector<at::Tensor> layers, std::unique_ptr<PageToucher> pages)
    : layers_(std::move(layers)), pages_(std::move(pages)) {
  if (!layers_.empty())
    block_bytes_ = layers_[0].nbytes() / static_cast<size_t>(layers_[0].size(0));
  uses(0);
}

void KvPool::uses(int32_t block) {
  if (layers_.empty() || pages_ == nullptr) return;
  pages_->want((static_cast<size_t>(block) + 1) * block_bytes_ + kAheadBytes / layers_.size());
}

Result<std::unique_ptr<KvPool>> KvPool::create(kernels::Device& device,
                                               const std::vector<int64_t>& layer_shape,
                                               int64_t num_layers, at::ScalarType dtype) {
  size_t layer_bytes = c10::elementSize(dtype);
  bool fits = true;
  for (const int64_t size : layer_shape) {
    fits = fits && !__builtin_mul_overflow(layer_bytes, static_cast<size_t>(size), &layer_bytes);
  }
  std::vector<at::Tensor> layers;
  for (int64_t i = 0; fits && i < num_layers; ++i) {
    at::Tensor layer = device.is_cpu() ? map_tensor(layer_shape, dtype, layer_bytes)
                                       : allocate_tensor(device, layer_shape, dtype);
    fits = layer.defined();
    if (fits) layers.push_back(std::move(layer));
  }
  if (!fits) {
    return fail(ErrorCode::kResourceExhausted,
                "the KV cache of " + std::to_string(layer_shape.empty() ? 0 : layer_shape[0]) +
                    " blocks does not fit into memory; ask for fewer KV tokens");
  }
  auto pages = device.is_cpu() ? std::make_unique<PageToucher>(memory_of(layers)) : nullptr;
  return std::unique_ptr<KvPool>(new KvPool(std::move(layers), std::move(pages)));
}

}  // namespace sluice::kv_cache
