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

}  // namespace sluice
