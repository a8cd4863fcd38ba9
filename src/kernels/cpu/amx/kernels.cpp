#include "kernels/cpu/amx/attention.h"
#include "kernels/cpu/amx/linear.h"
#include "kernels/cpu/simd/brain_attention.h"

// AVX-512's kernels, but for those that the tile registers make faster.
namespace sluice::kernels::cpu {
namespace amx {

static int64_t input_bytes(const InputArgs& args) {
  return has_tiled_linear(args.type, args.format, args.rows) ? tiled_input_bytes(args)
                                                             : avx512_kernels().input_bytes(args);
}

static void prepare_input(const InputArgs& args) {
  has_tiled_linear(args.type, args.format, args.rows) ? prepare_tiled_input(args)
                                                      : avx512_kernels().prepare_input(args);
}

static LinearPlan plan_linear(const InputArgs& args) {
  return has_tiled_linear(args.type, args.format, args.rows) ? plan_tiled_linear(args)
                                                             : avx512_kernels().plan_linear(args);
}

static void linear(const LinearArgs& args, const LinearBlock& block, void* scratch) {
  has_tiled_linear(args.type, args.format, args.rows)
      ? linear_tiled(args, block, scratch)
      : avx512_kernels().linear(args, block, scratch);
}

static void write_kv(const AttentionArgs& args, int64_t sequence, int64_t first_row,
                     int64_t num_rows) {
  const auto write = !simd::is_paired(args) ? avx512_kernels().write_kv
                     : args.int8_cache      ? write_int8_kv_tiled
                                            : write_kv_tiled;
  write(args, sequence, first_row, num_rows);
}

static void attend(const AttentionArgs& args, const AttentionBlock& block) {
  const auto attend = !simd::is_paired(args) ? avx512_kernels().attend
                      : args.int8_cache      ? attend_int8_tiled
                                             : attend_tiled;
  attend(args, block);
}

}  // namespace amx

const KernelTable& amx_kernels() {
  static const KernelTable table = [] {
    KernelTable kernels = avx512_kernels();
    kernels.input_bytes = amx::input_bytes;
    kernels.prepare_input = amx::prepare_input;
    kernels.plan_linear = amx::plan_linear;
    kernels.linear = amx::linear;
    kernels.write_kv = amx::write_kv;
    kernels.attend = amx::attend;
    return kernels;
  }();
  return table;
}

}  // namespace sluice::kernels::cpu
