#include <optional>
#include <string>
#include <utility>

#include "tokenizer/json_fields.h"
#include "tokenizer/pre_tokenizer.h"

namespace sluice::tokenizer {
namespace {

// Source: OpenAI's GPT-2 encoder.py; the reference uses it for ByteLevel with use_regex.
constexpr std::string_view kGpt2Expression =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr size_t kMaxStages = 16;

Error with_name(const Error& error, const std::string& name) {
  return {error.code, name + ": " + error.message};
}

}  // namespace

// Reads "pre_tokenizer", one method a type.
class PreTokenizerReader {
 public:
  explicit PreTokenizerReader(std::optional<bool> add_prefix_space)
      : add_prefix_space_(add_prefix_space) {}

  Result<void> read(const Json& json, const std::string& path) {
    if (!json.is_object()) return invalid_argument(path + " must be an object");
    const JsonFields fields(json, path + ".");
    const std::string type = fields.type();
    if (type == "Sequence") return read_sequence(fields);
    if (result_.stages_.size() >= kMaxStages) {
      return invalid_argument(path + " has more than 16 stages");
    }
    if (result_.is_byte_level_) {
      return fail(ErrorCode::kUnimplemented, path + ": a stage after ByteLevel is not supported");
    }
    if (type == "ByteLevel") return read_byte_level(fields);
    if (type == "Split") return read_split(fields);
    if (type == "Digits") return read_digits(fields);
    if (type == "Metaspace") return read_metaspace(fields);
    return std::unexpected(fields.unsupported("type", type));
  }

  PreTokenizer take() { return std::move(result_); }

 private:
  using Behavior = PreTokenizer::Behavior;
  using Prefix = PreTokenizer::Prefix;

  Result<void> read_sequence(const JsonFields& fields) {
    const Json* parts = fields.find("pretokenizers");
    if (parts == nullptr || !parts->is_array()) {
      return std::unexpected(fields.wrong_type("pretokenizers", "an array"));
    }
    for (size_t i = 0; i < parts->size(); ++i) {
      const std::string name = fields.name_of("pretokenizers[" + std::to_string(i) + "]");
      if (auto done = read((*parts)[i], name); !done) return done;
    }
    return fields.only({"type", "pretokenizers"});
  }

  Result<void> read_byte_level(const JsonFields& fields) {
    const auto adds_space = fields.boolean("add_prefix_space", true);
    if (!adds_space) return std::unexpected(adds_space.error());
    const auto uses_expression = fields.boolean("use_regex", true);
    if (!uses_expression) return std::unexpected(uses_expression.error());
    PreTokenizer::Stage stage;
    stage.prefix_text = " ";
    stage.prefix = add_prefix_space_.value_or(*adds_space) ? Prefix::kAlways : Prefix::kNever;
    if (*uses_expression) {
      auto pattern = Pattern::compile(kGpt2Expression);
      if (!pattern) return std::unexpected(pattern.error());
      stage.pattern = std::make_unique<Pattern>(std::move(*pattern));
    }
    result_.stages_.push_back(std::move(stage));
    result_.is_byte_level_ = true;
    return fields.only({"type", "add_prefix_space", "trim_offsets", "use_regex"});
  }

  static Result<Pattern> read_pattern(const JsonFields& fields) {
    const Json* pattern = fields.find("pattern");
    if (pattern == nullptr || !pattern->is_object() || pattern->size() != 1) {
      return std::unexpected(fields.wrong_type("pattern", "an object with Regex or String"));
    }
    const JsonFields spelling(*pattern, fields.name_of("pattern."));
    if (auto only = spelling.only({"Regex", "String"}); !only) {
      return std::unexpected(only.error());
    }
    const bool is_expression = spelling.find("Regex") != nullptr;
    const char* kind = is_expression ? "Regex" : "String";
    const auto text = spelling.text(kind, "");
    if (!text) return std::unexpected(text.error());
    if (text->empty()) return std::unexpected(spelling.wrong_type(kind, "not empty"));
    auto compiled = is_expression ? Pattern::compile(*text) : Pattern::literal(*text);
    if (!compiled) return std::unexpected(with_name(compiled.error(), spelling.name_of(kind)));
    return compiled;
  }

  Result<void> read_split(const JsonFields& fields) {
    auto pattern = read_pattern(fields);
    if (!pattern) return std::unexpected(pattern.error());
    const auto behavior = fields.text("behavior", "");
    const auto is_inverted = fields.boolean("invert", false);
    if (!behavior) return std::unexpected(behavior.error());
    if (!is_inverted) return std::unexpected(is_inverted.error());
    PreTokenizer::Stage stage;
    stage.pattern = std::make_unique<Pattern>(std::move(*pattern));
    stage.is_inverted = *is_inverted;
    bool is_known = false;
    for (const auto& [name, value] :
         {std::pair("Removed", Behavior::kRemoved), std::pair("Isolated", Behavior::kIsolated),
          std::pair("MergedWithPrevious", Behavior::kMergedWithPrevious),
          std::pair("MergedWithNext", Behavior::kMergedWithNext),
          std::pair("Contiguous", Behavior::kContiguous)}) {
      if (*behavior != name) continue;
      stage.behavior = value;
      is_known = true;
    }
    if (!is_known) return std::unexpected(fields.unsupported("behavior", *behavior));
    result_.stages_.push_back(std::move(stage));
    return fields.only({"type", "pattern", "behavior", "invert"});
  }

  Result<void> read_digits(const JsonFields& fields) {
    const auto is_individual = fields.boolean("individual_digits", false);
    if (!is_individual) return std::unexpected(is_individual.error());
    PreTokenizer::Stage stage;
    stage.splits_digits = true;
    stage.behavior = *is_individual ? Behavior::kIsolated : Behavior::kContiguous;
    result_.stages_.push_back(std::move(stage));
    return fields.only({"type", "individual_digits"});
  }

  Result<void> read_metaspace(const JsonFields& fields) {
    auto replacement = fields.text("replacement", "");
    if (!replacement) return std::unexpected(replacement.error());
    if (replacement->empty()) return std::unexpected(fields.wrong_type("replacement", "not empty"));
    // Files from before prepend_scheme have add_prefix_space.
    const auto adds_space = fields.boolean("add_prefix_space", true);
    if (!adds_space) return std::unexpected(adds_space.error());
    const auto scheme = fields.text("prepend_scheme", *adds_space ? "always" : "never");
    const auto splits = fields.boolean("split", true);
    if (!scheme) return std::unexpected(scheme.error());
    if (!splits) return std::unexpected(splits.error());
    PreTokenizer::Stage stage;
    stage.replaces_spaces = true;
    if (*scheme == "always") {
      stage.prefix = Prefix::kAlways;
    } else if (*scheme == "first") {
      stage.prefix = Prefix::kFirst;
    } else if (*scheme != "never") {
      return std::unexpected(fields.unsupported("prepend_scheme", *scheme));
    }
    if (*splits) {
      auto pattern = Pattern::literal(*replacement);
      if (!pattern) return std::unexpected(pattern.error());
      stage.pattern = std::make_unique<Pattern>(std::move(*pattern));
      stage.behavior = Behavior::kMergedWithNext;
    }
    stage.prefix_text = std::move(*replacement);
    result_.stages_.push_back(std::move(stage));
    return fields.only(
        {"type", "replacement", "add_prefix_space", "prepend_scheme", "split", "str_rep"});
  }

  std::optional<bool> add_prefix_space_;
  PreTokenizer result_;
};

Result<PreTokenizer> PreTokenizer::create(const Json& json, std::optional<bool> add_prefix_space) {
  // The configuration speaks of a ByteLevel that stands alone, as in GPT-2's files.
  const bool stands_alone = json.is_object() && JsonFields(json, "").type() == "ByteLevel";
  PreTokenizerReader reader(stands_alone ? add_prefix_space : std::nullopt);
  if (!json.is_null()) {
    if (auto done = reader.read(json, "pre_tokenizer"); !done) return std::unexpected(done.error());
  }
  return reader.take();
}

}  // namespace sluice::tokenizer
