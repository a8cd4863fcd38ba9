#pragma once

#include <algorithm>
#include <string_view>
#include <vector>

#include "sluice/service.h"

namespace sluice::server {

// The model that a request means by `name`, which may be empty if there is one; null if there is no
// such model, or the name is needed. It lives as long as `models`.
inline const ModelInfo* find_model(const std::vector<ModelInfo>& models, std::string_view name) {
  if (name.empty()) return models.size() == 1 ? &models.front() : nullptr;
  const auto found = std::ranges::find(models, name, &ModelInfo::name);
  return found == models.end() ? nullptr : &*found;
}

}  // namespace sluice::server
