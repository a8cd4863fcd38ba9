#include "base/json_read.h"

#include <utility>

namespace sluice {
namespace {

template <typename T, typename Target>
Result<void> store(Result<T> value, Target& target) {
  if (!value) return std::unexpected(std::move(value.error()));
  target = *std::move(value);
  return {};
}

template <typename T>
Result<std::vector<T>> as_list(const Json& json, Result<T> (*as_item)(const Json&),
                               const std::string& expected) {
  if (!json.is_array()) return invalid_argument(expected);
  std::vector<T> items;
  items.reserve(json.size());
  for (const Json& item : json) {
    Result<T> value = as_item(item);
    if (!value) {
      return invalid_argument(expected + " (item " + std::to_string(items.size()) + " is not)");
    }
    items.push_back(*std::move(value));
  }
  return items;
}

Result<std::vector<int64_t>> as_int64_list(const Json& json) {
  return as_list<int64_t>(json, as_int64, "a list of whole numbers");
}

Result<bool> as_bool(const Json& json) {
  if (!json.is_boolean()) return invalid_argument("true or false");
  return json.get<bool>();
}

}  // namespace

Result<std::string> as_string(const Json& json) {
  if (!json.is_string()) return invalid_argument("a string");
  return json.get<std::string>();
}

Result<int64_t> as_int64(const Json& json) {
  if (json.is_number_unsigned() && json.get<uint64_t>() > INT64_MAX) {
    return invalid_argument("a whole number of at most 9223372036854775807");
  }
  if (!json.is_number_integer()) return invalid_argument("a whole number");
  return json.get<int64_t>();
}

Result<double> as_double(const Json& json) {
  if (!json.is_number()) return invalid_argument("a number");
  return json.get<double>();
}

Result<void> read_json(const Json& json, std::string& target) {
  return store(as_string(json), target);
}
Result<void> read_json(const Json& json, std::optional<std::string>& target) {
  return store(as_string(json), target);
}
Result<void> read_json(const Json& json, std::vector<std::string>& target) {
  return store(as_list<std::string>(json, as_string, "a list of strings"), target);
}
Result<void> read_json(const Json& json, std::vector<int64_t>& target) {
  return store(as_int64_list(json), target);
}
Result<void> read_json(const Json& json, std::optional<std::vector<int64_t>>& target) {
  return store(as_int64_list(json), target);
}
Result<void> read_json(const Json& json, std::optional<int64_t>& target) {
  return store(as_int64(json), target);
}
Result<void> read_json(const Json& json, std::optional<uint64_t>& target) {
  if (!json.is_number_unsigned()) {
    return invalid_argument("a whole number from 0 to 18446744073709551615");
  }
  target = json.get<uint64_t>();
  return {};
}
Result<void> read_json(const Json& json, std::optional<double>& target) {
  return store(as_double(json), target);
}
Result<void> read_json(const Json& json, std::optional<bool>& target) {
  return store(as_bool(json), target);
}
Result<void> read_json(const Json& json, bool& target) {
  return store(as_bool(json), target);
}

}  // namespace sluice
