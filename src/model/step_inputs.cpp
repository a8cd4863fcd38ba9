#include "model/step_inputs.h"

#include <c10/core/TensorImpl.h>

#include <array>
#include <cstring>

#include "kernels/operators.h"

namespace sluice::model {
namespace {

// Parts begin at multiples of so many numbers, which is 256 bytes.
constexpr int64_t kAlignment = 64;

int64_t aligned(int64_t count) {
  return (count + kAlignment - 1) / kAlignment * kAlignment;
}

// The step's vectors in the order of the tensors: tokens, positions, then the plan.
constexpr size_t kPlanParts = kernels::kPlanSize;
using Vectors = std::array<const std::vector<int32_t>*, 2 + kPlanParts>;
Vectors vectors_of(const StepBatch& batch) {
  Vectors vectors{&batch.tokens, &batch.positions};
  vectors[2 + kernels::kSequenceStarts] = &batch.sequence_starts;
  vectors[2 + kernels::kContextLengths] = &batch.context_lengths;
  vectors[2 + kernels::kBlockTables] = &batch.block_tables;
  vectors[2 + kernels::kLogitRows] = &batch.logit_rows;
  return vectors;
}

}  // namespace

void StepInputs::create(const std::vector<at::Tensor>& cache) {
  clear();
  memory_ = device_.allocate({aligned(1)}, at::kInt);
  parts_.resize(2 + kPlanParts);
  for (at::Tensor& part : parts_) {
    part = at::detail::make_tensor<c10::TensorImpl>(
        c10::Storage(memory_.storage()), memory_.key_set(), c10::scalarTypeToTypeMeta(at::kInt));
    part.unsafeGetTensorImpl()->set_sizes_contiguous({0});
  }
  tensors_.tokens = parts_[0];
  tensors_.positions = parts_[1];
  tensors_.cache = c10::List<at::Tensor>(cache);
  tensors_.plan = c10::List<at::Tensor>();
  for (size_t i = 2; i < parts_.size(); ++i) tensors_.plan.push_back(parts_[i]);
}

void StepInputs::clear() {
  tensors_.cache.clear();
  parts_.clear();
}

// Memory is new only where it has to grow, and then as large as the vectors may become where they
// lie: the engine makes room for all that its sequences will need.
void StepInputs::make_room(const StepBatch& batch) {
  int64_t wanted = 0;
  int64_t capacity = 0;
  for (const std::vector<int32_t>* values : vectors_of(batch)) {
    wanted += aligned(std::ssize(*values));
    capacity += aligned(static_cast<int64_t>(values->capacity()));
  }
  if (memory_.size(0) >= wanted) return;
  memory_ = device_.allocate({capacity}, at::kInt);
  for (const at::Tensor& part : parts_) {
    part.unsafeGetTensorImpl()->set_storage_keep_dtype(memory_.storage());
  }
}

void StepInputs::fill(const StepBatch& batch) {
  make_room(batch);
  const auto num_sequences = std::ssize(batch.context_lengths);
  const int64_t table[] = {num_sequences, batch.max_blocks};
  int64_t first = 0;
  const Vectors vectors = vectors_of(batch);
  for (size_t i = 0; i < parts_.size(); ++i) {
    const int64_t length = std::ssize(*vectors[i]);
    c10::TensorImpl& impl = *parts_[i].unsafeGetTensorImpl();
    impl.set_storage_offset(first);
    const bool is_table = i == 2 + kernels::kBlockTables;
    impl.set_sizes_contiguous(is_table ? at::IntArrayRef(table) : at::IntArrayRef(length));
    first += aligned(length);
  }
  auto* numbers = device_.is_cpu() ? memory_.mutable_data_ptr<int32_t>()
                                   : reinterpret_cast<int32_t*>(device_.staging(
                                         kernels::Staging::kInputs, first * sizeof(int32_t)));
  first = 0;
  for (const std::vector<int32_t>* values : vectors) {
    if (!values->empty()) {
      std::memcpy(numbers + first, values->data(), values->size() * sizeof(int32_t));
    }
    first += aligned(std::ssize(*values));
  }
  if (!device_.is_cpu()) device_.copy_to(memory_, numbers, first * sizeof(int32_t));
}

}  // namespace sluice::model
