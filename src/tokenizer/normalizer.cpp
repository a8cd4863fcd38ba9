#include "tokenizer/normalizer.h"

#include <utility>

#include "tokenizer/json_fields.h"
#include "tokenizer/unicode_forms.h"

namespace sluice::tokenizer {
namespace {

std::string replace_all(std::string_view text, std::string_view pattern, std::string_view content) {
  std::string result;
  for (size_t at = text.find(pattern); at != std::string_view::npos; at = text.find(pattern)) {
    result += text.substr(0, at);
    result += content;
    text.remove_prefix(at + pattern.size());
  }
  return result += text;
}

}  // namespace

Result<Normalizer> Normalizer::create(const Json& json) {
  Normalizer normalizer;
  if (json.is_null()) return normalizer;
  if (auto added = normalizer.add(json, "normalizer"); !added) {
    return std::unexpected(added.error());
  }
  return normalizer;
}

Result<void> Normalizer::add(const Json& json, const std::string& path) {
  constexpr size_t kMaxSteps = 16;
  if (!json.is_object()) return invalid_argument(path + " must be an object");
  const JsonFields fields(json, path + ".");
  const std::string type = fields.type();
  if (type == "Sequence") {
    const Json* parts = fields.find("normalizers");
    if (parts == nullptr || !parts->is_array()) {
      return std::unexpected(fields.wrong_type("normalizers", "an array"));
    }
    for (size_t i = 0; i < parts->size(); ++i) {
      const std::string name = path + ".normalizers[" + std::to_string(i) + "]";
      if (auto added = add((*parts)[i], name); !added) return added;
    }
    return fields.only({"type", "normalizers"});
  }
  if (steps_.size() >= kMaxSteps) return invalid_argument(path + " has more than 16 steps");
  if (type == "Replace") {
    auto step = make_replace(json, path);
    if (!step) return std::unexpected(step.error());
    steps_.push_back(std::move(*step));
    return {};
  }
  if (type == "Prepend") {
    auto content = fields.text("prepend", "");
    if (!content) return std::unexpected(content.error());
    steps_.push_back({Kind::kPrepend, {}, std::move(*content)});
    return fields.only({"type", "prepend"});
  }
  for (const auto& [name, kind] :
       {std::pair("NFC", Kind::kNfc), std::pair("NFD", Kind::kNfd), std::pair("NFKC", Kind::kNfkc),
        std::pair("NFKD", Kind::kNfkd)}) {
    if (type != name) continue;
    steps_.push_back({kind, {}, {}});
    return fields.only({"type"});
  }
  return std::unexpected(fields.unsupported("type", type));
}

Result<Normalizer::Step> Normalizer::make_replace(const Json& json, const std::string& path) {
  const JsonFields fields(json, path + ".");
  const Json* pattern = fields.find("pattern");
  if (pattern == nullptr || !pattern->is_object()) {
    return std::unexpected(fields.wrong_type("pattern", "an object"));
  }
  const JsonFields pattern_fields(*pattern, path + ".pattern.");
  if (auto only = pattern_fields.only({"String"}); !only) return std::unexpected(only.error());
  auto text = pattern_fields.text("String", "");
  auto content = fields.text("content", "");
  if (!text || !content) return std::unexpected(text ? content.error() : text.error());
  if (text->empty()) return std::unexpected(pattern_fields.wrong_type("String", "not empty"));
  if (auto only = fields.only({"type", "pattern", "content"}); !only) {
    return std::unexpected(only.error());
  }
  return Step{Kind::kReplace, std::move(*text), std::move(*content)};
}

std::string Normalizer::apply_step(const Step& step, std::string_view text) {
  switch (step.kind) {
    case Kind::kNfc:
      return to_unicode_form(text, {.is_composed = true, .is_compatibility = false});
    case Kind::kNfd:
      return to_unicode_form(text, {.is_composed = false, .is_compatibility = false});
    case Kind::kNfkc:
      return to_unicode_form(text, {.is_composed = true, .is_compatibility = true});
    case Kind::kNfkd:
      return to_unicode_form(text, {.is_composed = false, .is_compatibility = true});
    case Kind::kPrepend:
      return text.empty() ? std::string() : step.content + std::string(text);
    case Kind::kReplace:
      return replace_all(text, step.pattern, step.content);
  }
  return std::string(text);
}

std::string Normalizer::apply(std::string_view text) const {
  std::string result(text);
  for (const Step& step : steps_) result = apply_step(step, result);
  return result;
}

}  // namespace sluice::tokenizer
