#include "model/step_inputs.h"

#include <c10/core/TensorImpl.h>

#include <algorithm>
#include <array>
#include <numeric>

#include "kernels/operators.h"

namespace sluice::model {
namespace {

// A GPU's memory holds the tables of 256 sequences of 64,000 tokens before it has to grow, which
// costs what was recorded.
constexpr int64_t kFewestNumbers = int64_t{1} << 20;

// Parts begin at multiples of so many numbers, which is 256 bytes.
constexpr int64_t kAlignment = 64;

int64_t aligned(int64_t count) {
  return (count + kAlignment - 1) / kAlignment * kAlignment;
}

// The step's vectors in the order of the tensors: tokens, positions, then the plan.
constexpr size_t kPlanParts = kernels::kPlanSize;
constexpr size_t kNumParts = 2 + kPlanParts;
constexpr size_t kTables = 2 + kernels::kBlockTables;

std::array<const std::vector<int32_t>*, kNumParts> vectors_of(const StepBatch& batch) {
  std::array<const std::vector<int32_t>*, kNumParts> vectors{&batch.tokens, &batch.positions};
  vectors[2 + kernels::kSequenceStarts] = &batch.sequence_starts;
  vectors[2 + kernels::kContextLengths] = &batch.context_lengths;
  vectors[kTables] = &batch.block_tables;
  vectors[2 + kernels::kLogitRows] = &batch.logit_rows;
  return vectors;
}

std::array<int64_t, kNumParts> lengths_of(const StepShape& shape) {
  std::array<int64_t, kNumParts> lengths{shape.num_tokens, shape.num_tokens};
  lengths[2 + kernels::kSequenceStarts] = shape.num_sequences + 1;
  lengths[2 + kernels::kContextLengths] = shape.num_sequences;
  lengths[kTables] = shape.num_sequences * shape.max_blocks;
  lengths[2 + kernels::kLogitRows] = shape.num_logits;
  return lengths;
}

// What part `i` has at its places from `first` on, where a shape is larger than its batch.
void pad(size_t i, int64_t first, int32_t* begin, int32_t* end) {
  switch (i) {
    case 2 + kernels::kSequenceStarts:
    case 2 + kernels::kLogitRows:
      std::iota(begin, end, static_cast<int32_t>(first));
      return;
    case 2 + kernels::kContextLengths:
      std::fill(begin, end, 1);
      return;
    default:
      std::fill(begin, end, 0);
  }
}

// The tables of a batch, each as wide as the shape has it, then those of what is added.
void write_tables(const StepBatch& batch, const StepShape& shape, int32_t spare_block,
                  int32_t* to) {
  const int64_t wide = batch.max_blocks;
  const int32_t* from = batch.block_tables.data();
  const auto num_sequences = std::ssize(batch.context_lengths);
  for (int64_t b = 0; b < num_sequences; ++b, from += wide, to += shape.max_blocks) {
    std::fill(std::copy_n(from, wide, to), to + shape.max_blocks, -1);
  }
  for (int64_t b = num_sequences; b < shape.num_sequences; ++b, to += shape.max_blocks) {
    *to = spare_block;
    std::fill(to + 1, to + shape.max_blocks, -1);
  }
}

}  // namespace

StepShape shape_of(const StepBatch& batch) {
  return {.num_tokens = std::ssize(batch.tokens),
          .num_sequences = std::ssize(batch.context_lengths),
          .max_blocks = batch.max_blocks,
          .num_logits = std::ssize(batch.logit_rows)};
}

StepInputs::StepInputs(kernels::Device& device) : device_(device) {
  if (device_.is_cpu()) return;
  for (auto& staging : staging_) staging = device_.make_staging();
}

void StepInputs::create(const std::vector<at::Tensor>& cache) {
  clear();
  memory_ = device_.allocate({device_.is_cpu() ? aligned(1) : kFewestNumbers}, at::kInt);
  parts_.resize(kNumParts);
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
void StepInputs::make_room(const StepBatch& batch, const StepShape& shape) {
  int64_t wanted = 0;
  for (const int64_t length : lengths_of(shape)) wanted += aligned(length);
  if (memory_.size(0) >= wanted) return;
  int64_t capacity = 0;
  for (const std::vector<int32_t>* values : vectors_of(batch)) {
    capacity += aligned(static_cast<int64_t>(values->capacity()));
  }
  memory_ = device_.allocate({std::max(wanted, capacity)}, at::kInt);
  for (const at::Tensor& part : parts_) {
    part.unsafeGetTensorImpl()->set_storage_keep_dtype(memory_.storage());
  }
}

void StepInputs::fill(const StepBatch& batch, const StepShape& shape, int32_t spare_block) {
  make_room(batch, shape);
  const auto lengths = lengths_of(shape);
  const int64_t table[] = {shape.num_sequences, shape.max_blocks};
  int64_t total = 0;
  for (size_t i = 0; i < kNumParts; ++i) {
    c10::TensorImpl& impl = *parts_[i].unsafeGetTensorImpl();
    impl.set_storage_offset(total);
    impl.set_sizes_contiguous(i == kTables ? at::IntArrayRef(table) : at::IntArrayRef(lengths[i]));
    total += aligned(lengths[i]);
  }
  const size_t num_bytes = static_cast<size_t>(total) * sizeof(int32_t);
  int32_t* numbers = nullptr;
  if (device_.is_cpu()) {
    numbers = memory_.mutable_data_ptr<int32_t>();
  } else {
    numbers = reinterpret_cast<int32_t*>(staging_[next_staging_]->room_for(num_bytes));
    next_staging_ = 1 - next_staging_;
  }
  int32_t* to = numbers;
  const auto vectors = vectors_of(batch);
  for (size_t i = 0; i < kNumParts; ++i) {
    if (i == kTables) {
      write_tables(batch, shape, spare_block, to);
    } else {
      int32_t* const own_end = std::copy(vectors[i]->begin(), vectors[i]->end(), to);
      pad(i, own_end - to, own_end, to + lengths[i]);
    }
    to += aligned(lengths[i]);
  }
  if (!device_.is_cpu()) device_.copy_to(memory_, numbers, num_bytes);
}

}  // namespace sluice::model
