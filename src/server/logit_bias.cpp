#include "server/logit_bias.h"

#include <charconv>
#include <cstdint>

namespace sluice::server {

Result<std::vector<LogitBias>> read_logit_bias(const Json& json) {
  constexpr const char* kExpected = "an object of numbers by token id, {\"50256\": -100}";
  if (!json.is_object()) return invalid_argument(kExpected);
  std::vector<LogitBias> biases;
  for (const auto& [key, value] : json.items()) {
    int64_t token_id = 0;
    const char* const end = key.data() + key.size();
    const auto parsed = std::from_chars(key.data(), end, token_id);
    if (parsed.ec != std::errc() || parsed.ptr != end || !value.is_number()) {
      return invalid_argument(kExpected);
    }
    biases.push_back({token_id, value.get<double>()});
  }
  return biases;
}

}  // namespace sluice::server
