#include "kernels/cpu/avx2/byte_product.h"
#include "kernels/cpu/avx2/vec.h"
#include "kernels/cpu/simd/table.h"

namespace sluice::kernels::cpu {

const KernelTable& avx2_kernels() {
  static constexpr KernelTable kTable =
      simd::make_table<avx2::Vec, simd::WideProduct<avx2::Vec, Brain>, avx2::ByteProduct>();
  return kTable;
}

}  // namespace sluice::kernels::cpu
