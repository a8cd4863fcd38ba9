#include "base/json.h"

#include <utility>

#include "base/json_scanner.h"

namespace sluice {
namespace {

constexpr std::string_view kSpace = " \t\r\n";

// The value that begins at `begin` of a text that is known to be JSON.
std::string_view piece_at(std::string_view text, size_t begin) {
  int depth = 0;
  bool in_string = false;
  size_t end = begin;
  for (; end < text.size(); ++end) {
    const char c = text[end];
    if (in_string) {
      if (c == '\\') ++end;
      in_string = c != '"';
      if (!in_string && depth == 0) return text.substr(begin, end + 1 - begin);
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      ++depth;
    } else if (c == '}' || c == ']') {
      if (depth == 0) break;  // of the object around
      if (--depth == 0) return text.substr(begin, end + 1 - begin);
    } else if (depth == 0 && (c == ',' || kSpace.contains(c))) {
      break;
    }
  }
  return text.substr(begin, end - begin);
}

}  // namespace

Result<Json> parse_json(std::string_view text, int max_depth) {
  JsonBuilder builder;
  if (auto scanned = scan_json(text, max_depth, &builder); !scanned) {
    return std::unexpected(scanned.error());
  }
  return builder.take();
}

Result<std::vector<JsonMember>> parse_json_members(std::string_view text, int max_depth) {
  Result<Json> object = parse_json(text, max_depth);
  if (!object) return std::unexpected(std::move(object.error()));
  if (!object->is_object()) return invalid_argument("not a JSON object");
  std::vector<JsonMember> members;
  members.reserve(object->size());
  size_t at = text.find('{') + 1;
  for (size_t i = 0; i < object->size(); ++i) {
    at = text.find('"', at);
    const std::string_view key = piece_at(text, at);
    at = text.find_first_not_of(kSpace, text.find(':', at + key.size()) + 1);
    const std::string_view value = piece_at(text, at);
    at += value.size();
    std::string name = Json::parse(key).get<std::string>();
    Json& built = (*object)[name];
    members.push_back({std::move(name), std::move(built), value});
  }
  return members;
}

}  // namespace sluice
