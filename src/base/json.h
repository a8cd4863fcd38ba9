#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>
#include <string_view>

#include "sluice/error.h"

namespace sluice {

using Json = nlohmann::json;
using OrderedJson = nlohmann::ordered_json;  // keys stay in the order of the text

// Parses JSON that somebody else wrote. Stricter than the library: a key may not appear twice in
// one object, and nesting is limited before anything is built, so that memory stays bounded by the
// text's size. kInvalidArgument with the reason and the byte; the text itself is never quoted.
Result<Json> parse_json(std::string_view text, int max_depth = 64);

// The same, an object with its keys in the order of the text. kInvalidArgument also for what is not
// an object.
Result<OrderedJson> parse_ordered_json(std::string_view text, int max_depth = 64);

}  // namespace sluice
