#include "model/step_graphs.h"

#include <c10/core/Storage.h>
#include <c10/core/TensorImpl.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <bit>
#include <utility>

namespace sluice::model {
namespace {

// A graph of a large model takes a few MB of the device.
constexpr size_t kMostEntries = 96;
// Tables are as wide as a power of two, and not narrower than this.
constexpr int64_t kFewestBlocks = 16;
// The product's tensor units take this many tokens at once; fewer cost as much.
constexpr int64_t kUnit = 8;

// The next larger one: powers of two, then multiples of the unit and later of an eighth of the
// power of two below, so that at most an eighth of a large batch is added.
int64_t batch_size_for(int64_t num_sequences) {
  const auto count = static_cast<uint64_t>(num_sequences);
  if (num_sequences <= kUnit) return static_cast<int64_t>(std::bit_ceil(count));
  const int64_t unit = std::max(kUnit, static_cast<int64_t>(std::bit_floor(count - 1)) / 8);
  return (num_sequences + unit - 1) / unit * unit;
}

// The tensor without a share in its memory.
at::Tensor view_of(const at::Tensor& tensor) {
  c10::Storage storage(c10::Storage::use_byte_size_t(), tensor.nbytes(),
                       c10::DataPtr(tensor.data_ptr(), tensor.device()), nullptr,
                       /*resizable=*/false);
  at::Tensor view = at::detail::make_tensor<c10::TensorImpl>(std::move(storage), tensor.key_set(),
                                                             tensor.dtype());
  view.unsafeGetTensorImpl()->set_sizes_contiguous(tensor.sizes());
  return view;
}

}  // namespace

bool StepGraphs::records(const StepShape& step) const {
  return device_.can_record() && step.num_sequences > 0 && step.num_tokens == step.num_sequences &&
         step.num_logits == step.num_sequences;
}

StepShape StepGraphs::shape_for(const StepShape& step) const {
  if (!records(step)) return step;
  const int64_t size = batch_size_for(step.num_sequences);
  const auto blocks = static_cast<uint64_t>(std::max(step.max_blocks, kFewestBlocks));
  return {.num_tokens = size,
          .num_sequences = size,
          .max_blocks = static_cast<int64_t>(std::bit_ceil(blocks)),
          .num_logits = size};
}

std::vector<int64_t> StepGraphs::batch_sizes(int64_t most) {
  std::vector<int64_t> sizes;
  for (int64_t count = 1; count <= most; count = sizes.back() + 1) {
    sizes.push_back(batch_size_for(count));
  }
  return sizes;
}

StepGraphs::Entry& StepGraphs::entry_for(const StepShape& shape) {
  const auto found = std::ranges::find(entries_, shape, &Entry::shape);
  if (found != entries_.end()) return *found;
  if (entries_.size() < kMostEntries) return entries_.emplace_back(Entry{.shape = shape});
  Entry& oldest = *std::ranges::min_element(entries_, {}, &Entry::last_step);
  oldest = Entry{.shape = shape};  // the device keeps what it is at
  return oldest;
}

void StepGraphs::forget_all_but(const StepShape* shape) {
  std::erase_if(entries_,
                [&](const Entry& entry) { return shape == nullptr || entry.shape != *shape; });
  memory_changes_ = device_.memory_changes();
}

void StepGraphs::record(Entry& entry, c10::function_ref<at::Tensor()> program) {
  auto recording = device_.record([&] { entry.result = view_of(program()); });
  if (!recording) {
    give_up(entry, recording.error().message);
  } else if (device_.memory_changes() != memory_changes_) {
    give_up(entry, "memory has moved meanwhile");
  } else {
    entry.recording = *std::move(recording);
  }
}

void StepGraphs::give_up(Entry& entry, std::string why) {
  entry.recording.reset();
  entry.is_recordable = false;
  why_not_recorded_ = std::move(why);
}

at::Tensor StepGraphs::run(const StepShape& shape, c10::function_ref<at::Tensor()> program) {
  if (!records(shape)) return program();
  if (device_.memory_changes() != memory_changes_) forget_all_but(nullptr);
  Entry& entry = entry_for(shape);
  entry.last_step = ++num_steps_;
  if (!entry.has_run) {
    at::Tensor result = program();
    entry.has_run = true;
    if (device_.memory_changes() != memory_changes_) forget_all_but(&shape);
    return result;
  }
  if (entry.recording == nullptr && entry.is_recordable) record(entry, program);
  if (entry.recording == nullptr) return program();
  try {
    device_.play(*entry.recording);
  } catch (const c10::Error& error) {
    // A graph's first launch takes memory, which its calls one by one do not. A lost device will
    // say so again.
    give_up(entry, error.what_without_backtrace());
    return program();
  }
  ++num_played_;
  return entry.result;
}

}  // namespace sluice::model
