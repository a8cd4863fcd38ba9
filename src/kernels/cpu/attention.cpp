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

void attend_all(const AttentionArgs& args, int64_t num_sequences,
                std::vector<AttentionBlock>& tasks) {
  tasks.clear();
  const ThreadPool* pool = current_pool();
  const int64_t num_threads = pool == nullptr ? 1 : pool->num_threads();
  const int64_t sharing = args.num_heads / args.num_kv_heads;
  const bool few = num_sequences * args.num_kv_heads < 2 * num_threads;
  const int64_t heads = few ? std::min(sharing, kFewHeads) : sharing;
  const int64_t rows_per_task = std::max<int64_t>(kTaskQueries / heads, 1);
  for (int64_t b = 0; b < num_sequences; ++b) {
    const int64_t rows = args.starts[b + 1] - args.starts[b];
    for (int64_t kv_head = 0; kv_head < args.num_kv_heads; ++kv_head) {
      for (int64_t head = 0; head < sharing; head += heads) {
        for (int64_t first = 0; first < rows; first += rows_per_task) {
          tasks.push_back({b, kv_head, first, std::min(rows_per_task, rows - first), head,
                           std::min(heads, sharing - head)});
        }
      }
    }
  }
  auto run = [&](int64_t index) { machine_kernels().attend(args, tasks[index]); };
  parallel_for(static_cast<int64_t>(tasks.size()), std::ref(run));
}

}  // namespace

at::Tensor attention(const at::Tensor& qkv, const at::Tensor& positions, at::Tensor cache,
                     at::TensorList plan, int64_t num_heads, int64_t num_kv_heads, double scale,
                     const std::optional<at::Tensor>& rope,
                     const std::optional<at::Tensor>& alibi_slopes, int64_t window) {
  const AttentionOperands operands{qkv, positions, cache, plan, rope, alibi_slopes};
  const AttentionSizes sizes = check_attention(operands, num_heads, num_kv_heads, window);
  check_attention_plan(operands, sizes);
  TORCH_CHECK(sizes.head_size <= kMaxHeadSize, "head size is ", sizes.head_size, ", limit is ",
              kMaxHeadSize);
  at::Tensor output =
      empty_output({sizes.num_tokens, num_heads * sizes.head_size}, qkv.scalar_type());
  AttentionArgs args;
  args.type = dtype_of(qkv);
  args.qkv = qkv.const_data_ptr();
  args.positions = positions.const_data_ptr<int32_t>();
  args.cache = cache.data_ptr();
  args.starts = plan[kSequenceStarts].const_data_ptr<int32_t>();
  args.contexts = plan[kContextLengths].const_data_ptr<int32_t>();
  args.tables = plan[kBlockTables].const_data_ptr<int32_t>();
  args.rope = rope ? rope->const_data_ptr<float>() : nullptr;
  args.alibi_slopes = alibi_slopes ? alibi_slopes->const_data_ptr<float>() : nullptr;
  args.queries = scratch(Scratch::kQueries, output.numel() * static_cast<int64_t>(sizeof(float)));
  args.output = output.data_ptr();
  args.num_heads = num_heads;
  args.num_kv_heads = num_kv_heads;
  args.head_size = sizes.head_size;
  args.block_size = sizes.block_size;
  args.max_blocks = sizes.max_blocks;
  args.rotary_size = sizes.rotary_size;
  args.window = window;
  args.scale = static_cast<float>(scale);
  thread_local std::vector<AttentionBlock> tasks;
  write_all(args, sizes.num_sequences, tasks);
  attend_all(args, sizes.num_sequences, tasks);
  return output;
}

}  // namespace sluice::kernels::cpu
