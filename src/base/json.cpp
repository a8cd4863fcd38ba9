#include "base/json.h"

#include <algorithm>
#include <string>
#include <unordered_set>
#include <vector>

namespace sluice {
namespace {

// Deepest nesting of brackets outside strings. A text that is not JSON gives some number; the
// parser refuses it afterwards.
int nesting_depth(std::string_view text) {
  int depth = 0;
  int deepest = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      deepest = std::max(deepest, ++depth);
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  return deepest;
}

}  // namespace

Result<Json> parse_json(std::string_view text, int max_depth) {
  if (const int depth = nesting_depth(text); depth > max_depth) {
    return invalid_argument("JSON is nested " + std::to_string(depth) + " deep, limit is " +
                            std::to_string(max_depth));
  }
  bool has_duplicate = false;
  std::vector<std::unordered_set<std::string>> keys;  // of the objects that are open
  const auto watch = [&](int, Json::parse_event_t event, Json& parsed) {
    switch (event) {
      case Json::parse_event_t::object_start:
        keys.emplace_back();
        break;
      case Json::parse_event_t::object_end:
        keys.pop_back();
        break;
      case Json::parse_event_t::key:
        if (!keys.back().insert(parsed.get<std::string>()).second) has_duplicate = true;
        break;
      default:
        break;
    }
    return true;
  };
  try {
    Json json = Json::parse(text.begin(), text.end(), watch);
    if (has_duplicate) return invalid_argument("JSON has an object with the same key twice");
    return json;
  } catch (const Json::parse_error& error) {
    return invalid_argument("not valid JSON at byte " + std::to_string(error.byte));
  } catch (const Json::exception&) {
    return invalid_argument("not valid JSON (a number is out of range)");
  }
}

}  // namespace sluice
