#include "kernels/cpu/attention.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <functional>
#include <vector>

#include "kernels/checks.h"
#include "kernels/compute.h"
#include "kernels/cpu/machine.h"
#include "kernels/operators.h"
#include "kernels/output_pool.h"

namespace sluice::kernels::cpu {
namespace {

// Positions of a task that writes keys and values; it begins at a multiple of it.
constexpr int64_t kWriteRows = 16;
// Query vectors (rows times heads) of a task that attends.
constexpr int64_t kTaskQueries = 32;
// Query heads of a task where there are too few KV heads to share out.
constexpr int64_t kFewHeads = 4;

void write_all(const AttentionArgs& args, int64_t num_sequences,
               std::vector<AttentionBlock>& tasks) {
  tasks.clear();
  for (int64_t b = 0; b < num_sequences; ++b) {
    const int64_t rows = args.starts[b + 1] - args.starts[b];
    const int64_t before = args.contexts[b] - rows;
    for (int64_t first = 0; first < rows;) {
      AttentionBlock& task = tasks.emplace_back();
      task.sequence = b;
      task.first_row = first;
      task.num_rows = std::min(kWriteRows - (before + first) % kWriteRows, rows - first);
      first += task.num_rows;
    }
  }
  auto run = [&](int64_t index) {
    const AttentionBlock& task = tasks[index];
    machine_kernels().write_kv(args, task.sequence, task.first_row, task.num_rows);
  };
  parallel_for(static_cast<int64_t>(tasks.size()), std::ref(run));
}

void run_all(const std::vector<AttentionBlock>& tasks, const AttentionArgs& args,
             void (*kernel)(const AttentionArgs&, const AttentionBlock&)) {
  auto run = [&](int64_t index) { kernel(args, tasks[index]); };
  parallel_for(static_cast<int64_t>(tasks.size()), std::ref(run));
}

// Where a call has fewer tasks than this for each thread, long contexts of decodes are shared out.
constexpr int64_t kTasksPerThread = 4;

// Shares the work of an attention call out to tasks.
class Plan {
 public:
  Plan(const AttentionArgs& args, int64_t num_sequences)
      : args_(args), num_sequences_(num_sequences), sharing_(args.num_heads / args.num_kv_heads) {
    const ThreadPool* pool = current_pool();
    const int64_t num_threads = pool == nullptr ? 1 : pool->num_threads();
    const int64_t pairs = num_sequences * args.num_kv_heads;
    wanted_tasks_ =
        num_threads == 1 ? 0 : num_threads * kTasksPerThread / std::max<int64_t>(pairs, 1);
    const bool few = pairs < 2 * num_threads;
    heads_ = few ? std::min(sharing_, kFewHeads) : sharing_;
    rows_ = std::max<int64_t>(kTaskQueries / heads_, 1);
  }

  // Fills `tasks` for `attend`, and `merges` for `merge_splits` once those are done.
  void fill(std::vector<AttentionBlock>& tasks, std::vector<AttentionBlock>& merges) {
    tasks.clear();
    merges.clear();
    int64_t num_floats = 0;
    for (int64_t b = 0; b < num_sequences_; ++b) {
      num_floats += is_split(b) ? num_splits(b) * args_.num_heads * part_floats() : 0;
    }
    auto* parts = static_cast<float*>(
        num_floats > 0 ? scratch(Scratch::kParts, num_floats * static_cast<int64_t>(sizeof(float)))
                       : nullptr);
    for (int64_t b = 0; b < num_sequences_; ++b) {
      for (int64_t kv_head = 0; kv_head < args_.num_kv_heads; ++kv_head) {
        if (!is_split(b)) {
          add_rows(b, kv_head, tasks);
          continue;
        }
        add_splits(b, kv_head, parts, tasks, merges);
        parts += num_splits(b) * sharing_ * part_floats();
      }
    }
  }

 private:
  int64_t num_rows(int64_t b) const { return args_.starts[b + 1] - args_.starts[b]; }
  int64_t part_floats() const { return split_floats(args_.head_size); }
  // Of a decode's position.
  int64_t first_split(int64_t b) const {
    return args_.window > 0 ? std::max<int64_t>(args_.contexts[b] - args_.window, 0) / kSoftmaxSplit
                            : 0;
  }
  int64_t num_splits(int64_t b) const {
    return (args_.contexts[b] + kSoftmaxSplit - 1) / kSoftmaxSplit - first_split(b);
  }
  bool is_split(int64_t b) const {
    return wanted_tasks_ > 1 && num_rows(b) == 1 && num_splits(b) > 1;
  }

  void add_rows(int64_t b, int64_t kv_head, std::vector<AttentionBlock>& tasks) const {
    const int64_t rows = num_rows(b);
    for (int64_t head = 0; head < sharing_; head += heads_) {
      for (int64_t first = 0; first < rows; first += rows_) {
        tasks.push_back({.sequence = b,
                         .kv_head = kv_head,
                         .first_row = first,
                         .num_rows = std::min(rows_, rows - first),
                         .first_head = head,
                         .num_heads = std::min(heads_, sharing_ - head)});
      }
    }
  }

  void add_splits(int64_t b, int64_t kv_head, float* parts, std::vector<AttentionBlock>& tasks,
                  std::vector<AttentionBlock>& merges) const {
    const int64_t splits = num_splits(b);
    const int64_t step = (splits + wanted_tasks_ - 1) / wanted_tasks_;
    const int64_t begin = first_split(b);
    AttentionBlock task{.sequence = b,
                        .kv_head = kv_head,
                        .num_rows = 1,
                        .num_heads = sharing_,
                        .parts = parts,
                        .first_part = begin,
                        .num_parts = splits};
    for (int64_t split = begin; split < begin + splits; split += step) {
      task.first_split = split;
      task.end_split = std::min(split + step, begin + splits);
      tasks.push_back(task);
    }
    task.num_heads = 1;
    for (int64_t head = 0; head < sharing_; ++head) {
      task.first_head = head;
      task.parts = parts + head * splits * part_floats();
      merges.push_back(task);
    }
  }

  const AttentionArgs& args_;
  int64_t num_sequences_;
  int64_t sharing_;       // query heads of a KV head
  int64_t wanted_tasks_;  // of a sequence and KV head
  int64_t heads_;         // of a task
  int64_t rows_;          // of a task
};

}  // namespace

at::Tensor attention(const at::Tensor& qkv, const at::Tensor& positions, at::Tensor cache,
                     at::TensorList plan, int64_t num_heads, int64_t num_kv_heads, double scale,
                     const std::optional<at::Tensor>& rope,
                     const std::optional<at::Tensor>& alibi_slopes, int64_t window) {
  const AttentionOperands operands{qkv, positions, cache, plan, rope, alibi_slopes};
  const AttentionSizes sizes = check_attention(operands, num_heads, num_kv_heads, window);
  check_attention_plan(operands, sizes);
  TORCH_CHECK(sizes.cache_format != KvFormat::kFloat8, "an fp8 cache is for GPUs");
  TORCH_CHECK(sizes.head_size <= kMaxHeadSize, "head size is ", sizes.head_size, ", limit is ",
              kMaxHeadSize);
  at::Tensor output =
      empty_output({sizes.num_tokens, num_heads * sizes.head_size}, qkv.scalar_type());
  AttentionArgs args;
  args.type = dtype_of(qkv);
  args.qkv = qkv.const_data_ptr();
  args.positions = positions.const_data_ptr<int32_t>();
  args.cache = cache.data_ptr();
  args.int8_cache = sizes.cache_format == KvFormat::kInt8;
  args.starts = plan[kSequenceStarts].const_data_ptr<int32_t>();
  args.contexts = plan[kContextLengths].const_data_ptr<int32_t>();
  args.tables = plan[kBlockTables].const_data_ptr<int32_t>();
  args.rope = rope ? rope->const_data_ptr<float>() : nullptr;
  args.alibi_slopes = alibi_slopes ? alibi_slopes->const_data_ptr<float>() : nullptr;
  args.queries = scratch(Scratch::kQueries, output.numel() * static_cast<int64_t>(sizeof(float)));
  args.output = output.data_ptr();
  args.num_sequences = sizes.num_sequences;
  args.num_heads = num_heads;
  args.num_kv_heads = num_kv_heads;
  args.head_size = sizes.head_size;
  args.block_size = sizes.block_size;
  args.max_blocks = sizes.max_blocks;
  args.rotary_size = sizes.rotary_size;
  args.window = window;
  args.scale = static_cast<float>(scale);
  thread_local std::vector<AttentionBlock> tasks, merges;
  write_all(args, sizes.num_sequences, tasks);
  Plan(args, sizes.num_sequences).fill(tasks, merges);
  run_all(tasks, args, machine_kernels().attend);
  run_all(merges, args, machine_kernels().merge_splits);
  return output;
}

}  // namespace sluice::kernels::cpu
