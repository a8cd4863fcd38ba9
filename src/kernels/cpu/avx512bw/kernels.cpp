#include "kernels/cpu/avx512/rounded_brain.h"
#include "kernels/cpu/avx512bw/byte_product.h"
#include "kernels/cpu/simd/table.h"

namespace sluice::kernels::cpu {
namespace avx512bw {

struct Own;
using Vec = avx512::BasicVec<avx512::RoundedBrain<Own>>;

}  // namespace avx512bw

const KernelTable& avx512bw_kernels() {
  static constexpr KernelTable kTable =
      simd::make_table<avx512bw::Vec, simd::WideProduct<avx512bw::Vec, Brain>,
                       avx512bw::ByteProduct<avx512bw::Vec>>();
  return kTable;
}

}  // namespace sluice::kernels::cpu
