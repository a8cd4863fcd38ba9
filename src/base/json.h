#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "sluice/error.h"

namespace sluice {

using Json = nlohmann::json;

// Parses JSON that somebody else wrote. Stricter than the library: a key may not appear twice in
// one object, and nesting is limited before anything is built, so that memory stays bounded by the
// text's size. kInvalidArgument with the reason and the byte; the text itself is never quoted.
Result<Json> parse_json(std::string_view text, int max_depth = 64);

// A member of a JSON object: its value, and the text of that as it stood, keys in their order.
struct JsonMember {
  std::string name;
  Json value;
  std::string_view text;
};

// The members of an object in the order of the text, which must outlive the result.
// kInvalidArgument: as parse_json, and for what is not an object.
Result<std::vector<JsonMember>> parse_json_members(std::string_view text, int max_depth = 64);

}  // namespace sluice
