#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <string_view>

#include "kernels/compute.h"

namespace sluice::kernels {
namespace {

// Linux: arch_prctl code and state component of the AMX tile data (asm/prctl.h).
constexpr int kArchReqXcompPerm = 0x1023;
constexpr int kXfeatureTileData = 18;

bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
         __builtin_cpu_supports("f16c");
}

bool has_avx512bw() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}

bool has_avx512vnni() {
  return has_avx512bw() && __builtin_cpu_supports("avx512vnni");
}

bool has_avx512() {
  return has_avx512vnni() && __builtin_cpu_supports("avx512bf16");
}

// CPUID tells what the processor could do; only the kernel's grant makes the tile registers usable.
bool has_amx() {
  constexpr unsigned kAmxBf16 = 1u << 22;
  constexpr unsigned kAmxTile = 1u << 24;
  constexpr unsigned kAmxInt8 = 1u << 25;
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (!has_avx512() || __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0) return false;
  constexpr unsigned kNeeded = kAmxBf16 | kAmxTile | kAmxInt8;
  if ((edx & kNeeded) != kNeeded) return false;
  return syscall(SYS_arch_prctl, kArchReqXcompPerm, kXfeatureTileData) == 0;
}

struct Choice {
  std::string_view name;
  Isa isa;
  bool (*runs)();
};
constexpr Choice kChoices[] = {
    // best first
    {"amx", Isa::kAmx, has_amx},
    {"avx512", Isa::kAvx512, has_avx512},
    {"avx512vnni", Isa::kAvx512Vnni, has_avx512vnni},
    {"avx512bw", Isa::kAvx512Bw, has_avx512bw},
    {"avx2", Isa::kAvx2, has_avx2},
};

Result<Isa> choose_isa() {
  if (!has_avx2()) {
    return fail(ErrorCode::kFailedPrecondition,
                "this processor lacks AVX2, FMA or F16C, which the CPU kernels need");
  }
  const char* forced = std::getenv("SLUICE_CPU_ISA");
  const std::string_view name = forced == nullptr ? "" : forced;
  for (const Choice& choice : kChoices) {
    if (name.empty() ? choice.runs() : name == choice.name) {
      if (choice.runs()) return choice.isa;
      return fail(ErrorCode::kFailedPrecondition,
                  "SLUICE_CPU_ISA is " + std::string(name) + ", which this machine cannot run");
    }
  }
  return fail(ErrorCode::kFailedPrecondition,
              "SLUICE_CPU_ISA is \"" + std::string(name) +
                  "\", expected amx, avx512, avx512vnni, avx512bw or avx2");
}

}  // namespace

Result<Isa> cpu_isa() {
  static const Result<Isa> isa = choose_isa();
  return isa;
}

bool can_run(Isa isa) {
  const auto choice = std::ranges::find(kChoices, isa, &Choice::isa);
  return choice->runs();
}

// The number grows when the order of operations of an instruction set's kernels changes, so that a
// replay on other arithmetic is refused and not silently different.
Result<std::string> cpu_profile() {
  const Result<Isa> isa = cpu_isa();
  if (!isa) return std::unexpected(isa.error());
  switch (*isa) {
    case Isa::kAmx:
      return "cpu-amx/2";
    case Isa::kAvx512:
      return "cpu-avx512/4";
    case Isa::kAvx512Vnni:
      return "cpu-avx512vnni/2";
    case Isa::kAvx512Bw:
      return "cpu-avx512bw/1";
    case Isa::kAvx2:
      break;
  }
  return "cpu-avx2/2";
}

}  // namespace sluice::kernels
