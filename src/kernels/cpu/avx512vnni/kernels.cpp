#include "kernels/cpu/avx512/byte_product.h"
#include "kernels/cpu/avx512vnni/vec.h"
#include "kernels/cpu/simd/table.h"

namespace sluice::kernels::cpu {

const KernelTable& avx512vnni_kernels() {
  static constexpr KernelTable kTable =
      simd::make_table<avx512vnni::Vec, simd::WideProduct<avx512vnni::Vec, Brain>,
                       avx512::ByteProduct<avx512vnni::Vec>>();
  return kTable;
}

}  // namespace sluice::kernels::cpu
