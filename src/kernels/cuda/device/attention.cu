#include "kernels/cuda/device/attention.h"
#include "kernels/cuda/device/attention_tiles.cuh"

// attention: which kernels a call takes, their workspace, and the kernel that merges parts.
namespace sluice::kernels::cuda {
namespace {

constexpr int kMergeWarps = 4;
constexpr int kMergeNumbers = 2 * kWarpThreads;  // of a head, a warp's share
// Parts whose results a thread has on their way together. No branch lies between their loads: the
// compiler would put each behind its own.
constexpr int kMergeParts = 8;
constexpr int64_t kAlignment = 256;
// Query vectors of a KV head, at most, that go by parts though their sequences have several.
constexpr int64_t kFewVectors = 128;

// Grid: rows by parts in x, as AttentionStep counts them; heads in y; kMergeNumbers of a head in z,
// kMergeWarps of them a block.
template <typename T>
__global__ void __launch_bounds__(kMergeWarps* kWarpThreads, 8)
    merge_parts_kernel(const Awaited<AttentionStep> given) {
  const AttentionStep& step = given.wait();
  const int row = static_cast<int>(blockIdx.x);
  const int head = static_cast<int>(blockIdx.y);
  const int thread = static_cast<int>(threadIdx.x);
  const int number = static_cast<int>(blockIdx.z) * kMergeWarps * kMergeNumbers + 2 * thread;
  const int sequence = step.all_by_parts ? find_sequence(step, row) : row;
  const int token = step.all_by_parts ? row : step.starts[sequence];
  if (number >= step.head_size) return;
  if (!step.all_by_parts && step.starts[sequence + 1] - token != 1) return;
  const int count = num_parts(row_span(step, position_of(step, sequence, token)));
  if (count == 1) return;  // it is the output
  const int64_t first = (int64_t{row} * step.num_heads + head) * step.max_parts;
  const float* values = step.part_values + first * step.head_size + number;
  Softmax state;
  float2 merged = make_float2(0, 0);
  for (int i = 0; i < count; i += kMergeParts) {
    float2 softmax[kMergeParts];
    float2 part[kMergeParts];
#pragma unroll
    for (int n = 0; n < kMergeParts; ++n) {
      const int index = min(i + n, count - 1);
      softmax[n] = step.part_softmax[first + index];
      part[n] = *reinterpret_cast<const float2*>(values + int64_t{index} * step.head_size);
    }
#pragma unroll
    for (int n = 0; n < kMergeParts; ++n) {
      const bool counts = i + n < count && softmax[n].y != 0.0f;
      Softmax next = state;
      const MergeFactors factors = merge(next, {softmax[n].x, softmax[n].y});
      const float x = merge_value(merged.x, part[n].x, factors);
      const float y = merge_value(merged.y, part[n].y, factors);
      state = {counts ? next.largest : state.largest, counts ? next.total : state.total};
      merged = make_float2(counts ? x : merged.x, counts ? y : merged.y);
    }
  }
  const float factor = output_factor(step, state);
  T* output =
      static_cast<T*>(step.output) + (int64_t{token} * step.num_heads + head) * step.head_size;
  output[number] = from_float<T>(merged.x * factor);
  output[number + 1] = from_float<T>(merged.y * factor);
}

int64_t round_up(int64_t count, int64_t unit) {
  return (count + unit - 1) / unit * unit;
}

// The longest parts of so many keys that still give every multiprocessor some warps; of recorded
// steps, whose tables are up to twice as wide as they need, too.
int longest_part_bits(int64_t warps_of_a_part, int64_t keys) {
  constexpr int64_t kEnoughWarps = 2048;
  int bits = 6;  // a tile
  int64_t num_parts = round_up(keys, 64) / 64;
  while (num_parts > 1 && warps_of_a_part * ((num_parts + 1) / 2) >= 2 * kEnoughWarps) {
    ++bits;
    num_parts = (num_parts + 1) / 2;
  }
  return bits;
}

// How a call is shared out. Its rows' contexts are known to the device only: parts are as many as
// the block tables have room for.
struct Sharing {
  bool all_by_parts = false;
  int64_t rows_by_parts = 0;
  int64_t max_parts = 1;
  int part_bits = kPartBits;

  explicit Sharing(const AttentionArgs& args) {
    const int64_t sharing = args.num_heads / args.num_kv_heads;
    all_by_parts =
        args.num_tokens <= args.num_sequences || args.num_tokens * sharing <= kFewVectors;
    rows_by_parts = all_by_parts             ? args.num_tokens
                    : args.num_sequences > 1 ? args.num_sequences
                                             : 0;
    int64_t keys = args.max_blocks * args.block_size;
    const bool is_cut = args.window > 0 && args.window < keys;
    if (is_cut) keys = args.window;
    if (!kFixedOrder) part_bits = longest_part_bits(rows_by_parts * args.num_kv_heads, keys);
    const int64_t part_keys = int64_t{1} << part_bits;
    if (is_cut) keys += part_keys;
    const int64_t most = args.window > 0 ? kMaxParts + 1 : kMaxParts;
    max_parts = max(min(round_up(keys, part_keys) / part_keys, most), int64_t{1});
  }
};

// Where the workspace has what, in bytes.
struct Workspace {
  int64_t part_values = 0;
  int64_t part_softmax = 0;
  int64_t bytes = 0;

  Workspace(const AttentionArgs& args, const Sharing& sharing) {
    const int64_t vectors = sharing.rows_by_parts * args.num_heads * sharing.max_parts;
    const auto values = vectors * args.head_size * static_cast<int64_t>(sizeof(float));
    const int64_t rotated = args.rope == nullptr ? 0
                                                 : args.num_tokens * args.num_heads *
                                                       args.head_size * size_of(args.type);
    part_values = round_up(rotated, kAlignment);
    part_softmax = part_values;
    bytes = part_values;
    if (sharing.max_parts == 1) return;
    part_softmax += round_up(values, kAlignment);
    bytes = part_softmax + round_up(vectors * static_cast<int64_t>(sizeof(float2)), kAlignment);
  }
};

AttentionStep make_step(const AttentionArgs& args, const Sharing& sharing) {
  const Workspace workspace(args, sharing);
  auto* memory = static_cast<unsigned char*>(args.workspace);
  AttentionStep step;
  step.qkv = args.qkv;
  step.positions = args.positions;
  step.cache = args.cache;
  step.starts = args.starts;
  step.contexts = args.contexts;
  step.tables = args.tables;
  step.rope = args.rope;
  step.slopes = args.alibi_slopes;
  step.rotated = args.rope == nullptr ? nullptr : memory;
  step.queries = args.rope == nullptr ? args.qkv : memory;
  step.query_stride =
      (args.num_heads + (args.rope == nullptr ? 2 * args.num_kv_heads : 0)) * args.head_size;
  if (sharing.max_parts > 1) {
    step.part_values = reinterpret_cast<float*>(memory + workspace.part_values);
    step.part_softmax = reinterpret_cast<float2*>(memory + workspace.part_softmax);
  }
  step.output = args.output;
  step.num_tokens = static_cast<int>(args.num_tokens);
  step.num_sequences = static_cast<int>(args.num_sequences);
  step.num_heads = static_cast<int>(args.num_heads);
  step.num_kv_heads = static_cast<int>(args.num_kv_heads);
  step.sharing = static_cast<int>(args.num_heads / args.num_kv_heads);
  step.head_size = static_cast<int>(args.head_size);
  step.block_size = static_cast<int>(args.block_size);
  step.max_blocks = static_cast<int>(args.max_blocks);
  step.rotary_size = args.rope == nullptr ? 0 : static_cast<int>(args.rotary_size);
  step.rotary_positions = static_cast<int>(args.rotary_positions);
  step.window = static_cast<int>(min(args.window, int64_t{0x7fffffff}));
  step.max_parts = static_cast<int>(sharing.max_parts);
  step.all_by_parts = sharing.all_by_parts;
  step.part_bits = sharing.part_bits;
  step.scale = args.scale * kLog2E;
  step.value_scale =
      args.cache_format != KvFormat::kModel && uses_tensors(args) ? 1 / kWeightScale : 1;
  return step;
}

template <typename T>
Status merge_parts(const AttentionStep& step, int64_t rows, Stream stream) {
  constexpr int kNumbers = kMergeWarps * kMergeNumbers;
  const int warps = (step.head_size + kMergeNumbers - 1) / kMergeNumbers;
  const Grid grid{.blocks = dim3(static_cast<unsigned>(rows), static_cast<unsigned>(step.num_heads),
                                 static_cast<unsigned>((step.head_size + kNumbers - 1) / kNumbers)),
                  .threads = min(warps, kMergeWarps) * kWarpThreads,
                  .block_memory_bytes = 0};
  return launch(&merge_parts_kernel<T>, grid, stream, step);
}

}  // namespace

bool uses_tensors(const AttentionArgs& args) {
  if (args.type == DType::kF32 || args.head_size > 256) return false;
  if (args.cache_format == KvFormat::kModel) return args.head_size % 8 == 0;
  // The scales lie after the numbers and move what follows. And of 16 bytes each, 32 bits count no
  // more than this.
  const int64_t scale_bytes = kv_scale_bytes(args.cache_format);
  const int64_t block_bytes =
      args.num_kv_heads * args.block_size * (2 * args.head_size + scale_bytes);
  constexpr int64_t kMostBytes = int64_t{1} << 36;
  return args.head_size % 16 == 0 && args.block_size * scale_bytes % 16 == 0 &&
         args.num_blocks * block_bytes < kMostBytes;
}

int64_t attention_workspace(const AttentionArgs& args) {
  return Workspace(args, Sharing(args)).bytes;
}

Status attention(const AttentionArgs& args, Stream stream) {
  if (args.num_tokens == 0) return kSuccess;
  const Sharing sharing(args);
  const AttentionStep step = make_step(args, sharing);
  Status status = write_cache(args, step, stream);
  if (status != kSuccess) return status;
  if (!uses_tensors(args)) {
    status = attend_plain(args, step, stream);
  } else if (args.cache_format == KvFormat::kFloat8) {
    status = attend_float8(args, step, stream);
  } else if (args.type == DType::kF16) {
    status = attend_f16(args, step, stream);
  } else {
    status = attend_bf16(args, step, stream);
  }
  if (status != kSuccess || sharing.rows_by_parts == 0 || sharing.max_parts == 1) return status;
  switch (args.type) {
    case DType::kF32:
      return merge_parts<float>(step, sharing.rows_by_parts, stream);
    case DType::kF16:
      return merge_parts<Half>(step, sharing.rows_by_parts, stream);
    case DType::kBF16:
      break;
  }
  return merge_parts<BFloat16>(step, sharing.rows_by_parts, stream);
}

}  // namespace sluice::kernels::cuda
