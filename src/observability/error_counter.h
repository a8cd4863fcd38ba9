#pragma once

#include <array>
#include <cstddef>
#include <string>

#include "observability/metrics.h"
#include "sluice/error.h"

namespace sluice::observability {

// A family of counters with the label "code", one for each error code, so that each is there from
// the start. Threads: any.
class ErrorCounter final {
 public:
  // `registry` must outlive this.
  ErrorCounter(Registry& registry, const std::string& name, const std::string& help);

  void add(ErrorCode code) { by_code_[static_cast<size_t>(code)]->add(); }

 private:
  static constexpr size_t kNumCodes = static_cast<size_t>(ErrorCode::kUnauthenticated) + 1;
  std::array<Counter*, kNumCodes> by_code_{};
};

}  // namespace sluice::observability
