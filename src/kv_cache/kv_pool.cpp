#include "kv_cache/kv_pool.h"

#include <ATen/ops/from_blob.h>
#include <sys/mman.h>

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

}  // namespace

Result<std::unique_ptr<KvPool>> KvPool::create(const std::vector<int64_t>& layer_shape,
                                               int64_t num_layers, at::ScalarType dtype) {
  size_t layer_bytes = c10::elementSize(dtype);
  bool fits = true;
  for (const int64_t size : layer_shape) {
    fits = fits && !__builtin_mul_overflow(layer_bytes, static_cast<size_t>(size), &layer_bytes);
  }
  std::vector<at::Tensor> layers;
  for (int64_t i = 0; fits && i < num_layers; ++i) {
    at::Tensor layer = map_tensor(layer_shape, dtype, layer_bytes);
    fits = layer.defined();
    if (fits) layers.push_back(std::move(layer));
  }
  if (!fits) {
    return fail(ErrorCode::kResourceExhausted,
                "the KV cache of " + std::to_string(layer_shape.empty() ? 0 : layer_shape[0]) +
                    " blocks does not fit into memory; ask for fewer KV tokens");
  }
  return std::unique_ptr<KvPool>(new KvPool(std::move(layers)));
}

}  // namespace sluice::kv_cache
