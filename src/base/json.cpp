#include "base/json.h"

#include "base/json_scanner.h"

namespace sluice {

Result<Json> parse_json(std::string_view text, int max_depth) {
  JsonBuilder builder;
  if (auto scanned = scan_json(text, max_depth, &builder); !scanned) {
    return std::unexpected(scanned.error());
  }
  return builder.take();
}

Result<OrderedJson> parse_ordered_json(std::string_view text, int max_depth) {
  if (const Result<Json> checked = parse_json(text, max_depth); !checked) {
    return std::unexpected(checked.error());
  } else if (!checked->is_object()) {
    return invalid_argument("not a JSON object");
  }
  // Once more, now that it is known to be sound.
  return OrderedJson::parse(text.begin(), text.end(), nullptr, false);
}

}  // namespace sluice
