#include "tokenizer/tokenizer_file.h"

#include <utility>

#include "base/json_scanner.h"
#include "tokenizer/token_table.h"

namespace sluice::tokenizer {
namespace {

constexpr int kMaxDepth = 64;
constexpr size_t kAhead = 8;  // tokens

class FileReader final : public JsonHandler {
 public:
  Result<void> begin(char bracket) override {
    const Part wanted = std::exchange(next_, Part::kRest);
    switch (part_) {
      case Part::kRest:
        ++depth_;
        if (wanted == Part::kRest || bracket != (wanted == Part::kVocabulary ? '{' : '[')) {
          return rest_.begin(bracket);
        }
        part_ = wanted;
        return rest_.begin(bracket);
      case Part::kMerges:
        if (bracket != '[') return wrong_merge();
        part_ = Part::kPair;
        pair_ = {static_cast<uint32_t>(vocabulary_.texts.size()), 0, 0};
        num_parts_ = 0;
        return {};
      case Part::kVocabulary:
        return wrong_id();
      case Part::kPair:
        break;
    }
    return wrong_merge();
  }

  Result<void> end() override {
    if (part_ == Part::kPair) {
      if (num_parts_ != 2) return wrong_merge();
      vocabulary_.merges.push_back(pair_);
      part_ = Part::kMerges;
      return {};
    }
    part_ = Part::kRest;
    --depth_;
    return rest_.end();
  }

  Result<void> key(std::string_view name) override {
    if (part_ == Part::kVocabulary) {
      token_ = {static_cast<uint32_t>(vocabulary_.texts.size()), static_cast<uint32_t>(name.size()),
                0};
      vocabulary_.texts += name;
      return {};
    }
    if (depth_ == 1) in_model_ = name == "model";
    if (depth_ == 2 && in_model_) {
      next_ = name == "vocab" ? Part::kVocabulary : name == "merges" ? Part::kMerges : Part::kRest;
    }
    return rest_.key(name);
  }

  Result<void> text(std::string_view value) override {
    switch (part_) {
      case Part::kRest:
        next_ = Part::kRest;
        return rest_.text(value);
      case Part::kVocabulary:
        return wrong_id();
      case Part::kMerges:
        return add_merge(value);
      case Part::kPair:
        break;
    }
    if (num_parts_ == 2) return wrong_merge();
    (num_parts_++ == 0 ? pair_.left_length : pair_.right_length) =
        static_cast<uint32_t>(value.size());
    vocabulary_.texts += value;
    return {};
  }

  Result<void> scalar(Json value) override {
    if (part_ == Part::kRest) {
      next_ = Part::kRest;
      return rest_.scalar(std::move(value));
    }
    if (part_ != Part::kVocabulary) return wrong_merge();
    if (!value.is_number_unsigned() || value.get<uint64_t>() > kMaxTokenId) return wrong_id();
    token_.token_id = value.get<int32_t>();
    vocabulary_.tokens.push_back(token_);
    return {};
  }

  Result<TokenizerFile> take() {
    vocabulary_.ids = StringIndex(vocabulary_.tokens.size(), vocabulary_.texts.size());
    const auto& tokens = vocabulary_.tokens;
    for (size_t i = 0; i < tokens.size(); ++i) {
      if (i + kAhead < tokens.size()) {
        vocabulary_.ids.prefetch(vocabulary_.text(tokens[i + kAhead]));
      }
      const auto& token = tokens[i];
      if (!vocabulary_.ids.insert(vocabulary_.text(token), token.token_id)) {
        return std::unexpected(duplicate_key());
      }
    }
    return TokenizerFile{rest_.take(), std::move(vocabulary_)};
  }

 private:
  enum class Part : uint8_t { kRest, kVocabulary, kMerges, kPair };

  static std::unexpected<Error> wrong_id() {
    return invalid_argument("model.vocab has an id that is not an integer in 0.." +
                            std::to_string(kMaxTokenId));
  }
  std::unexpected<Error> wrong_merge() const {
    return invalid_argument("model.merges[" + std::to_string(vocabulary_.merges.size()) +
                            "] must be two tokens: in one string with one space between, or in an "
                            "array");
  }

  Result<void> add_merge(std::string_view spelling) {
    const size_t space = spelling.find(' ');
    if (space == std::string_view::npos ||
        spelling.find(' ', space + 1) != std::string_view::npos) {
      return wrong_merge();
    }
    vocabulary_.merges.push_back({static_cast<uint32_t>(vocabulary_.texts.size()),
                                  static_cast<uint32_t>(space),
                                  static_cast<uint32_t>(spelling.size() - space - 1)});
    vocabulary_.texts += spelling.substr(0, space);
    vocabulary_.texts += spelling.substr(space + 1);
    return {};
  }

  JsonBuilder rest_;
  Vocabulary vocabulary_;
  Part part_ = Part::kRest;
  Part next_ = Part::kRest;  // what the value of the last key may be
  int depth_ = 0;            // of what is open outside vocab and merges
  bool in_model_ = false;
  Vocabulary::Token token_;
  Vocabulary::Merge pair_;
  int num_parts_ = 0;
};

}  // namespace

int32_t Vocabulary::find_near(std::string_view spelling, int32_t guess) const {
  const auto idx = static_cast<size_t>(guess);
  if (idx < tokens.size() && tokens[idx].token_id == guess && text(tokens[idx]) == spelling) {
    return guess;
  }
  return ids.find(spelling);
}

Result<TokenizerFile> read_tokenizer_file(std::string_view text) {
  FileReader reader;
  if (auto scanned = scan_json(text, kMaxDepth, &reader); !scanned) {
    return std::unexpected(scanned.error());
  }
  return reader.take();
}

}  // namespace sluice::tokenizer
