#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "sluice/error.h"

namespace sluice {

// Reads a JSON value into a member of the type that it must have. The error says only what is
// expected ("a whole number", "a list of strings"), so that the caller can put the name before it.

Result<std::string> as_string(const Json& json);
Result<int64_t> as_int64(const Json& json);
Result<double> as_double(const Json& json);

Result<void> read_json(const Json& json, std::string& target);
Result<void> read_json(const Json& json, std::optional<std::string>& target);
Result<void> read_json(const Json& json, std::vector<std::string>& target);
Result<void> read_json(const Json& json, std::vector<int64_t>& target);
Result<void> read_json(const Json& json, std::optional<std::vector<int64_t>>& target);
Result<void> read_json(const Json& json, std::optional<int64_t>& target);
Result<void> read_json(const Json& json, std::optional<uint64_t>& target);
Result<void> read_json(const Json& json, std::optional<double>& target);
Result<void> read_json(const Json& json, std::optional<bool>& target);
Result<void> read_json(const Json& json, bool& target);

}  // namespace sluice
