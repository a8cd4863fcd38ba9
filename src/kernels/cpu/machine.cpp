#include "kernels/cpu/machine.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <array>

#include "kernels/compute.h"
#include "kernels/cpu/packed_panels.h"

namespace sluice::kernels::cpu {

const KernelTable& machine_kernels() {
  static const KernelTable& table = []() -> const KernelTable& {
    const Result<Isa> isa = cpu_isa();
    TORCH_CHECK(isa.has_value(), isa.error().message);
    switch (*isa) {
      case Isa::kAmx:
        return amx_kernels();
      case Isa::kAvx512:
        return avx512_kernels();
      case Isa::kAvx512Vnni:
        return avx512vnni_kernels();
      case Isa::kAvx512Bw:
        return avx512bw_kernels();
      case Isa::kAvx2:
        break;
    }
    return avx2_kernels();
  }();
  return table;
}

// Scratch memory above this many bytes takes huge pages: small ones, scattered, would crowd some
// sets of the second-level cache.
constexpr int64_t kSmallPages = int64_t{128} << 10;
constexpr int64_t kHugePage = int64_t{2} << 20;

void* scratch(Scratch use, int64_t bytes) {
  thread_local std::array<HugeBuffer, static_cast<size_t>(Scratch::kCount)> buffers;
  HugeBuffer& buffer = buffers[static_cast<size_t>(use)];
  if (buffer.bytes() < bytes) {
    buffer = HugeBuffer();
    buffer = HugeBuffer(bytes > kSmallPages ? std::max(bytes, kHugePage) : bytes);
  }
  return buffer.data();
}

}  // namespace sluice::kernels::cpu
