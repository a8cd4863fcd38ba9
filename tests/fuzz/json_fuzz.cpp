// JSON that somebody else wrote, against the library's own parser.
#include <array>
#include <string>

#include "base/json.h"
#include "tests/fuzz/driver.h"

namespace sluice::fuzz {

std::span<const std::string_view> dictionary() {
  static constexpr std::array<std::string_view, 34> kWords = {"{",
                                                              "}",
                                                              "[",
                                                              "]",
                                                              ",",
                                                              ":",
                                                              "\"",
                                                              "\\\"",
                                                              "\\\\",
                                                              R"("a":)",
                                                              R"("\u0061":)",
                                                              R"("b":[{}])",
                                                              R"("}":"]")",
                                                              "{}",
                                                              "[]",
                                                              "null",
                                                              "true",
                                                              "false",
                                                              "-0",
                                                              "-0.0",
                                                              "1e-400",
                                                              "1E+2",
                                                              "9007199254740993",
                                                              "-9223372036854775809",
                                                              "4.9406564584124654e-324",
                                                              "1.7976931348623159e308",
                                                              "\\u0000",
                                                              "\\ud83e\\udd96",
                                                              "\\ud83e",
                                                              "\\udd96",
                                                              "\xEF\xBB\xBF",
                                                              "\xF0\x9F\xA6\x96",
                                                              "\xED\xA0\x80",
                                                              "\t\r\n "};
  return kWords;
}

namespace {

constexpr int kMaxDepth = 64;

void require_members(std::string_view text, const Json& json) {
  const auto members = parse_json_members(text);
  require(members.has_value() == json.is_object(), "objects have members");
  if (!members) return;
  const auto ordered = nlohmann::ordered_json::parse(text);
  require(members->size() == ordered.size(), "every member is there");
  auto expected = ordered.begin();
  const char* end = text.data();
  for (const JsonMember& member : *members) {
    require(member.name == expected.key(), "members are in the order of the text");
    require(member.value == json[member.name], "a member has its value");
    require(member.text.data() > end &&
                member.text.data() + member.text.size() < text.data() + text.size(),
            "a member's text lies in the text");
    end = member.text.data() + member.text.size();
    const auto again = parse_json(member.text);
    require(again.has_value() && *again == member.value, "a member's text is its value");
    constexpr std::string_view kSpace = " \t\r\n";
    require(!kSpace.contains(member.text.front()) && !kSpace.contains(member.text.back()),
            "a member's text has no space around it");
    ++expected;
  }
}

bool is_allowed_to_differ(const std::string& message) {
  return message.find("same key twice") != std::string::npos ||
         message.find("deep, limit is") != std::string::npos;
}

}  // namespace
}  // namespace sluice::fuzz

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using sluice::Json;
  using sluice::fuzz::require;
  const std::string_view text = sluice::fuzz::as_text(data, size);
  const auto json = sluice::parse_json(text, sluice::fuzz::kMaxDepth);
  const Json library = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json) {
    const std::string& message = json.error().message;
    // The library takes a NUL for the end of the text.
    require(library.is_discarded() || text.contains('\0') ||
                sluice::fuzz::is_allowed_to_differ(message),
            "what the library takes is taken");
    require(message.size() < 100, "a refusal does not quote the text");
    require(!sluice::parse_json_members(text).has_value(), "what is no JSON has no members");
    return 0;
  }
  require(!library.is_discarded() && *json == library, "what is taken is what the library reads");
  const auto again = sluice::parse_json(json->dump(), sluice::fuzz::kMaxDepth);
  require(again.has_value() && *again == *json, "a value is written as it was read");
  sluice::fuzz::require_members(text, *json);
  return 0;
}
