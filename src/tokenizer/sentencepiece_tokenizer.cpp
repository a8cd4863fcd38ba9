#include "tokenizer/sentencepiece_tokenizer.h"

// Only here: the header defines names in absl's namespace, which clash with gRPC's.
#include <sentencepiece_processor.h>

#include <algorithm>
#include <optional>
#include <string>
#include <unordered_set>
#include <utility>

#include "tokenizer/added_tokens.h"
#include "tokenizer/detokenizer.h"
#include "tokenizer/sentencepiece_model.h"
#include "tokenizer/token_table.h"

namespace sluice::tokenizer {
namespace {

constexpr std::string_view kSpaceSymbol = "\xE2\x96\x81";  // U+2581, a space inside pieces

using PieceType = SentencePieceModel::PieceType;

// What the decoder takes away at the very start of a text.
enum class StartSpaces : uint8_t { kKeep, kDropOne, kDropAll };

StartSpaces start_spaces(const SentencePieceModel& model) {
  if (model.remove_extra_whitespaces) return StartSpaces::kDropAll;
  return model.add_dummy_prefix ? StartSpaces::kDropOne : StartSpaces::kKeep;
}

// Characters that stand in no piece. Without byte fallback the library joins a run of them piece by
// piece, in quadratic time; so their number is limited.
class UnknownRuns {
 public:
  explicit UnknownRuns(const SentencePieceModel& model) : is_unlimited_(model.has_byte_fallback) {
    if (is_unlimited_) return;
    for (const auto& piece : model.pieces) {
      for_each_character(piece.text, [&](char32_t character) { known_.insert(character); });
    }
  }

  Result<void> check(std::string_view text,
                     const sentencepiece::SentencePieceProcessor& processor) const {
    constexpr size_t kMaxRun = 32768;
    constexpr size_t kMaxExpansion = 18;  // characters that normalization makes of one
    if (is_unlimited_ || longest(text) <= kMaxRun / kMaxExpansion) return {};
    const size_t run = longest(processor.Normalize(text));
    if (run <= kMaxRun) return {};
    return invalid_argument("text has " + std::to_string(run) +
                            " characters in a row that the vocabulary lacks, limit is " +
                            std::to_string(kMaxRun));
  }

 private:
  template <typename F>
  static void for_each_character(std::string_view text, F&& call) {
    for (size_t pos = 0, length = 0; pos < text.size(); pos += length) {
      call(decode_utf8_character(text.substr(pos), &length));
    }
  }

  size_t longest(std::string_view text) const {
    size_t longest = 0;
    size_t run = 0;
    for_each_character(text, [&](char32_t character) {
      run = known_.contains(character) ? 0 : run + 1;
      longest = std::max(longest, run);
    });
    return longest;
  }

  bool is_unlimited_;
  std::unordered_set<char32_t> known_;
};

struct SpecialIds {
  std::vector<int32_t> prefix;
  std::vector<int32_t> suffix;
};

using ProcessorPtr = std::unique_ptr<const sentencepiece::SentencePieceProcessor>;

struct Processors {
  ProcessorPtr first;
  ProcessorPtr later;  // without a dummy space, for texts behind a special token; null: as first
};

struct Tokens {
  TokenTable table;
  AddedTokenMatcher matcher;
};

class SentencePieceTokenizer final : public Tokenizer {
 public:
  SentencePieceTokenizer(Processors processors, const SentencePieceModel& model, Tokens tokens,
                         SpecialIds special_ids)
      : processor_(std::move(processors.first)),
        later_processor_(std::move(processors.later)),
        tokens_(std::move(tokens.table)),
        matcher_(std::move(tokens.matcher)),
        special_ids_(std::move(special_ids)),
        start_(start_spaces(model)),
        unknown_runs_(model) {}

  Result<std::vector<int32_t>> encode(std::string_view text,
                                      bool add_special_tokens) const override {
    if (auto checked = check_text(text); !checked) return std::unexpected(checked.error());
    std::vector<int32_t> token_ids;
    if (auto done = append_ids(text, *processor_, &token_ids); !done) {
      return std::unexpected(done.error());
    }
    if (add_special_tokens) {
      token_ids.insert(token_ids.begin(), special_ids_.prefix.begin(), special_ids_.prefix.end());
      token_ids.insert(token_ids.end(), special_ids_.suffix.begin(), special_ids_.suffix.end());
    }
    return token_ids;
  }

  Result<std::vector<int32_t>> encode_with_special_tokens(
      std::string_view text, std::span<const size_t> plain_at) const override {
    if (auto checked = check_text(text); !checked) return std::unexpected(checked.error());
    const SpecialTokens special{.are_plain_text = false, .plain_at = plain_at};
    std::vector<int32_t> token_ids;
    for (const auto& segment : matcher_.split(text, special)) {
      if (segment.token_id != AddedTokenMatcher::kNoToken) {
        token_ids.push_back(segment.token_id);
        continue;
      }
      const bool is_first = segment.text.data() == text.data() || later_processor_ == nullptr;
      const auto& processor = is_first ? *processor_ : *later_processor_;
      if (auto done = append_ids(segment.text, processor, &token_ids); !done) {
        return std::unexpected(done.error());
      }
    }
    return token_ids;
  }

  std::vector<size_t> find_special_tokens(std::string_view text) const override {
    std::vector<size_t> offsets;
    matcher_.find_special(text, &offsets);
    return offsets;
  }

  std::string decode(std::span<const int32_t> token_ids, bool skip_special_tokens) const override {
    return decode_tokens(*this, token_ids, skip_special_tokens);
  }

  std::string token_bytes(int32_t token_id, bool at_start) const override {
    std::string_view bytes = tokens_.bytes(token_id);
    if (at_start && drops_space(token_id)) bytes.remove_prefix(1);
    return std::string(bytes);
  }

  bool stays_at_start(int32_t token_id) const override {
    if (!tokens_.has(token_id)) return true;
    return start_ == StartSpaces::kDropAll && drops_space(token_id) &&
           tokens_.bytes(token_id).size() == 1;
  }

  Utf8Repair utf8_repair() const override { return Utf8Repair::kEachByte; }
  bool is_special(int32_t token_id) const override { return tokens_.is_special(token_id); }
  int32_t vocabulary_size() const override { return tokens_.size(); }

 private:
  Result<void> append_ids(std::string_view text,
                          const sentencepiece::SentencePieceProcessor& processor,
                          std::vector<int32_t>* token_ids) const {
    if (auto checked = unknown_runs_.check(text, processor); !checked) return checked;
    std::vector<int32_t> encoded;
    if (const auto status = processor.Encode(text, &encoded); !status.ok()) {
      return fail(ErrorCode::kInternal, "sentencepiece could not encode the text");
    }
    token_ids->insert(token_ids->end(), encoded.begin(), encoded.end());
    return {};
  }

  // A byte piece is never the dummy space, not even <0x20>.
  bool drops_space(int32_t token_id) const {
    return start_ != StartSpaces::kKeep && tokens_.bytes(token_id).starts_with(' ') &&
           token_id < processor_->GetPieceSize() && !processor_->IsByte(token_id);
  }

  ProcessorPtr processor_;
  ProcessorPtr later_processor_;  // may be null
  TokenTable tokens_;
  AddedTokenMatcher matcher_;  // the special ones; the library finds the others
  SpecialIds special_ids_;
  StartSpaces start_;
  UnknownRuns unknown_runs_;
};

// The value of "<0xE4>".
std::optional<char> byte_of_piece(std::string_view piece) {
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  if (piece.size() != 6 || !piece.starts_with("<0x") || piece.back() != '>') return std::nullopt;
  const size_t high = kDigits.find(piece[3]);
  const size_t low = kDigits.find(piece[4]);
  if (high == std::string_view::npos || low == std::string_view::npos) return std::nullopt;
  return static_cast<char>(high * 16 + low);
}

std::string with_spaces(std::string_view piece) {
  std::string text;
  while (!piece.empty()) {
    if (piece.starts_with(kSpaceSymbol)) {
      text += ' ';
      piece.remove_prefix(kSpaceSymbol.size());
    } else {
      text += piece.front();
      piece.remove_prefix(1);
    }
  }
  return text;
}

Result<Tokens> make_tokens(const SentencePieceModel& model, const TokenizerConfig& config) {
  std::unordered_set<int64_t> configured;
  for (const auto& token : config.added_tokens) {
    if (token.is_special) configured.insert(token.token_id);
  }
  Tokens tokens;
  for (size_t i = 0; i < model.pieces.size(); ++i) {
    const auto& piece = model.pieces[i];
    const bool is_special = piece.type == PieceType::kControl || piece.type == PieceType::kUnknown;
    std::string bytes = is_special ? std::string(piece.text) : with_spaces(piece.text);
    if (piece.type == PieceType::kByte) {
      const auto byte = byte_of_piece(piece.text);
      if (!byte) {
        return invalid_argument("piece " + std::to_string(i) +
                                " is a byte, but not spelled <0x..>");
      }
      bytes.assign(1, *byte);
    }
    if (auto added = tokens.table.add(static_cast<int64_t>(i), bytes, is_special); !added) {
      return std::unexpected(added.error());
    }
    if (is_special && !configured.contains(static_cast<int64_t>(i))) {
      AddedToken token;
      token.token_id = static_cast<int32_t>(i);
      token.is_special = true;
      tokens.matcher.add(token, piece.text);
    }
  }
  return tokens;
}

// Tokens that tokenizer_config.json knows beyond the model's pieces.
Result<void> add_configured_tokens(const TokenizerConfig& config, int32_t num_pieces,
                                   const SentencePieceModel& model, Tokens* tokens) {
  for (const auto& token : config.added_tokens) {
    const std::string name =
        "tokenizer_config.json: added_tokens_decoder." + std::to_string(token.token_id);
    if (token.token_id >= num_pieces) {
      if (!token.is_special) {
        return fail(ErrorCode::kUnimplemented,
                    name + " is not special and not in tokenizer.model; add a tokenizer.json");
      }
      if (auto added = tokens->table.add(token.token_id, token.content, true); !added) {
        return invalid_argument(name + ": " + added.error().message);
      }
    } else if (token.token_id < 0 ||
               model.pieces[static_cast<size_t>(token.token_id)].text != token.content) {
      return invalid_argument(name + " is not the piece that tokenizer.model has there");
    }
    if (!token.is_special) continue;
    const auto token_id = static_cast<int32_t>(token.token_id);
    tokens->table.mark_special(token_id);
    tokens->matcher.add({.token_id = token_id,
                         .content = token.content,
                         .is_single_word = token.is_single_word,
                         .strips_left = token.strips_left,
                         .strips_right = token.strips_right,
                         .is_special = true},
                        token.content);
  }
  return {};
}

// The id to add at one end: the token that the configuration names, else the model's own.
Result<std::vector<int32_t>> special_id(const sentencepiece::SentencePieceProcessor& processor,
                                        const std::optional<std::string>& token, int model_id,
                                        const char* field) {
  int32_t token_id = model_id;
  if (token) {
    token_id = processor.PieceToId(*token);
    if (processor.IsUnknown(token_id) && processor.IdToPiece(token_id) != *token) token_id = -1;
  }
  if (token_id < 0) {
    return invalid_argument(std::string("tokenizer_config.json: ") + field +
                            " asks for a token that tokenizer.model lacks");
  }
  return std::vector<int32_t>{token_id};
}

Result<SpecialIds> make_special_ids(const sentencepiece::SentencePieceProcessor& processor,
                                    const TokenizerConfig& config) {
  SpecialIds ids;
  // Without a word in the configuration a begin token is added if the model has one.
  const bool has_begin = config.bos_token || processor.bos_id() >= 0;
  if (config.add_bos_token.value_or(has_begin)) {
    auto begin = special_id(processor, config.bos_token, processor.bos_id(), "add_bos_token");
    if (!begin) return std::unexpected(begin.error());
    ids.prefix = std::move(*begin);
  }
  if (config.add_eos_token.value_or(false)) {
    auto end = special_id(processor, config.eos_token, processor.eos_id(), "add_eos_token");
    if (!end) return std::unexpected(end.error());
    ids.suffix = std::move(*end);
  }
  return ids;
}

Result<Processors> load_processors(std::string_view model_file, const SentencePieceModel& model,
                                   const TokenizerConfig& config) {
  const auto load = [](std::string_view file) -> Result<ProcessorPtr> {
    auto processor = std::make_unique<sentencepiece::SentencePieceProcessor>();
    if (const auto status = processor->LoadFromSerializedProto(file); !status.ok()) {
      return invalid_argument("sentencepiece refuses it (pieces are inconsistent)");
    }
    return processor;
  };
  Processors processors;
  auto first = load(model_file);
  if (!first) return std::unexpected(first.error());
  processors.first = std::move(*first);
  if (!model.add_dummy_prefix || config.legacy.value_or(true)) return processors;
  // Messages of protobuf that are joined are merged: normalizer_spec.add_dummy_prefix = false.
  auto later = load(std::string(model_file) + std::string("\x1a\x02\x18\x00", 4));
  if (!later) return std::unexpected(later.error());
  processors.later = std::move(*later);
  return processors;
}

}  // namespace

Result<std::unique_ptr<Tokenizer>> make_sentencepiece_tokenizer(std::string_view model_file,
                                                                const TokenizerConfig& config) {
  const auto model = read_sentencepiece_model(model_file);
  if (!model) return std::unexpected(model.error());
  auto tokens = make_tokens(*model, config);
  if (!tokens) return std::unexpected(tokens.error());
  auto processors = load_processors(model_file, *model, config);
  if (!processors) return std::unexpected(processors.error());
  const int32_t num_pieces = processors->first->GetPieceSize();
  if (num_pieces != tokens->table.size()) return invalid_argument("piece count is inconsistent");
  if (auto added = add_configured_tokens(config, num_pieces, *model, &*tokens); !added) {
    return std::unexpected(added.error());
  }
  auto special_ids = make_special_ids(*processors->first, config);
  if (!special_ids) return std::unexpected(special_ids.error());
  return std::make_unique<SentencePieceTokenizer>(std::move(*processors), *model,
                                                  std::move(*tokens), std::move(*special_ids));
}

}  // namespace sluice::tokenizer
