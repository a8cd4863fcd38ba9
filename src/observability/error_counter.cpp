#include "observability/error_counter.h"

namespace sluice::observability {

ErrorCounter::ErrorCounter(Registry& registry, const std::string& name, const std::string& help) {
  for (size_t i = 0; i < kNumCodes; ++i) {
    const char* code = to_string(static_cast<ErrorCode>(i));
    by_code_[i] = &registry.counter({name, help, {{"code", code}}});
  }
}

}  // namespace sluice::observability
