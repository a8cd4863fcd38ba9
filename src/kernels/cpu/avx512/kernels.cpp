#include "kernels/cpu/avx512/byte_product.h"
#include "kernels/cpu/avx512/pair_product.h"
#include "kernels/cpu/simd/table.h"

namespace sluice::kernels::cpu {

const KernelTable& avx512_kernels() {
  static constexpr KernelTable kTable =
      simd::make_table<avx512::Vec, avx512::PairProduct, avx512::ByteProduct>();
  return kTable;
}

}  // namespace sluice::kernels::cpu
