#include "kernels/cpu/avx512/byte_attention.h"
#include "kernels/cpu/avx512/byte_product.h"
#include "kernels/cpu/avx512/pair_attention.h"
#include "kernels/cpu/avx512/pair_product.h"
#include "kernels/cpu/avx512/vec.h"
#include "kernels/cpu/simd/table.h"

namespace sluice::kernels::cpu {
namespace avx512 {

static void write_kv(const AttentionArgs& args, int64_t sequence, int64_t first_row,
                     int64_t num_rows) {
  const auto write = !simd::is_paired(args) ? simd::write_kv_any<Vec>
                     : args.int8_cache      ? write_fixed<Vec>
                                            : simd::write_kv<Vec, Brain, Brain, simd::PairedLayout>;
  write(args, sequence, first_row, num_rows);
}

static void attend(const AttentionArgs& args, const AttentionBlock& block) {
  const auto attend = !simd::is_paired(args) ? simd::attend_any<Vec>
                      : args.int8_cache      ? attend_fixed<Vec, ByteTiles<Vec>>
                                             : simd::attend_paired<Vec, PairTiles>;
  attend(args, block);
}

}  // namespace avx512

const KernelTable& avx512_kernels() {
  static constexpr KernelTable kTable = [] {
    KernelTable kernels =
        simd::make_table<avx512::Vec, avx512::PairProduct, avx512::ByteProduct<avx512::Vec>>();
    kernels.write_kv = avx512::write_kv;
    kernels.attend = avx512::attend;
    return kernels;
  }();
  return kTable;
}

}  // namespace sluice::kernels::cpu
