#pragma once

#include <string_view>
#include <vector>

namespace sluice::model {

struct BuiltinFamily {
  std::string_view name;
  std::string_view source;
};

// models/*.py, embedded by the build.
const std::vector<BuiltinFamily>& builtin_families();

}  // namespace sluice::model
