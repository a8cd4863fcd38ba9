#include "kernels/cpu/avx512/byte_attention.h"
#include "kernels/cpu/avx512/byte_product.h"
#include "kernels/cpu/avx512/rounded_brain.h"
#include "kernels/cpu/simd/table.h"

namespace sluice::kernels::cpu {

namespace avx512vnni {

struct Own;
using Vec = avx512::BasicVec<avx512::RoundedBrain<Own>>;

static bool has_fixed_attention(const AttentionArgs& args) {
  return simd::is_paired(args) && args.int8_cache;
}

static void write_kv(const AttentionArgs& args, int64_t sequence, int64_t first_row,
                     int64_t num_rows) {
  const auto write = has_fixed_attention(args) ? avx512::write_fixed<Vec> : simd::write_kv_any<Vec>;
  write(args, sequence, first_row, num_rows);
}

static void attend(const AttentionArgs& args, const AttentionBlock& block) {
  const auto attend = has_fixed_attention(args) ? avx512::attend_fixed<Vec, avx512::ByteTiles<Vec>>
                                                : simd::attend_any<Vec>;
  attend(args, block);
}

}  // namespace avx512vnni

const KernelTable& avx512vnni_kernels() {
  static constexpr KernelTable kTable = [] {
    KernelTable kernels =
        simd::make_table<avx512vnni::Vec, simd::WideProduct<avx512vnni::Vec, Brain>,
                         avx512::ByteProduct<avx512vnni::Vec>>();
    kernels.write_kv = avx512vnni::write_kv;
    kernels.attend = avx512vnni::attend;
    return kernels;
  }();
  return kTable;
}

}  // namespace sluice::kernels::cpu
