#include "tokenizer/sentencepiece_tokenizer.h"

#include <algorithm>
#include <optional>
#include <string>
#include <unordered_set>
#include <utility>

#include "tokenizer/added_tokens.h"
#include "tokenizer/detokenizer.h"
#include "tokenizer/sentencepiece_encoder.h"
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

struct SpecialIds {
  std::vector<int32_t> prefix;
  std::vector<int32_t> suffix;
  bool keep_dummy_prefix = true;  // texts behind a special token have a dummy space too
};

struct Tokens {
  TokenTable table;
  AddedTokenMatcher matcher;
};

class SentencePieceTokenizer final : public Tokenizer {
 public:
  SentencePieceTokenizer(SentencePieceEncoder encoder, const SentencePieceModel& model,
                         Tokens tokens, SpecialIds special_ids)
      : encoder_(std::move(encoder)),
        tokens_(std::move(tokens.table)),
        matcher_(std::move(tokens.matcher)),
        special_ids_(std::move(special_ids)),
        start_(start_spaces(model)),
        has_dummy_prefix_(model.add_dummy_prefix) {
    for (const auto& piece : model.pieces) {
      is_byte_piece_.push_back(piece.type == PieceType::kByte);
    }
  }

  Result<std::vector<int32_t>> encode(std::string_view text,
                                      bool add_special_tokens) const override {
    if (auto checked = check_text(text); !checked) return std::unexpected(checked.error());
    std::vector<int32_t> token_ids;
    token_ids.reserve(text.size() / 3 + 8);
    if (auto done = encoder_.encode(text, has_dummy_prefix_, &token_ids); !done) {
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
      const bool is_first = segment.text.data() == text.data() || special_ids_.keep_dummy_prefix;
      if (auto done = encoder_.encode(segment.text, has_dummy_prefix_ && is_first, &token_ids);
          !done) {
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
  // A byte piece is never the dummy space, not even <0x20>.
  bool drops_space(int32_t token_id) const {
    return start_ != StartSpaces::kKeep && tokens_.bytes(token_id).starts_with(' ') &&
           static_cast<size_t>(token_id) < is_byte_piece_.size() &&
           !is_byte_piece_[static_cast<size_t>(token_id)];
  }

  SentencePieceEncoder encoder_;
  std::vector<bool> is_byte_piece_;  // by id
  TokenTable tokens_;
  AddedTokenMatcher matcher_;  // the special ones; the encoder finds the others
  SpecialIds special_ids_;
  StartSpaces start_;
  bool has_dummy_prefix_;
};

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
      bytes.assign(1, byte_of_piece(piece.text).value_or('\0'));  // the encoder refuses others
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
    const std::string name = config.added_tokens_name + std::to_string(token.token_id);
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
Result<std::vector<int32_t>> special_id(const SentencePieceEncoder& encoder,
                                        const std::optional<std::string>& token, int32_t model_id,
                                        const char* field) {
  const int32_t token_id = token ? encoder.find(*token) : model_id;
  if (token_id == SentencePieceEncoder::kNone) {
    return invalid_argument(std::string("tokenizer_config.json: ") + field +
                            " asks for a token that tokenizer.model lacks");
  }
  return std::vector<int32_t>{token_id};
}

Result<SpecialIds> make_special_ids(const SentencePieceEncoder& encoder,
                                    const SentencePieceModel& model,
                                    const TokenizerConfig& config) {
  // The model's own begin and end are control pieces.
  const auto control_id = [&](std::string_view piece) {
    const int32_t id = encoder.find(piece);
    const bool is_control = id != SentencePieceEncoder::kNone &&
                            model.pieces[static_cast<size_t>(id)].type == PieceType::kControl;
    return is_control ? id : SentencePieceEncoder::kNone;
  };
  SpecialIds ids;
  ids.keep_dummy_prefix = config.legacy.value_or(true);
  const int32_t begin_id = control_id(model.begin_piece);
  // Without a word in the configuration a begin token is added if the model has one.
  const bool has_begin = config.bos_token || begin_id != SentencePieceEncoder::kNone;
  if (config.add_bos_token.value_or(has_begin)) {
    auto begin = special_id(encoder, config.bos_token, begin_id, "add_bos_token");
    if (!begin) return std::unexpected(begin.error());
    ids.prefix = std::move(*begin);
  }
  if (config.add_eos_token.value_or(false)) {
    auto end = special_id(encoder, config.eos_token, control_id(model.end_piece), "add_eos_token");
    if (!end) return std::unexpected(end.error());
    ids.suffix = std::move(*end);
  }
  return ids;
}

}  // namespace

Result<std::unique_ptr<Tokenizer>> make_sentencepiece_tokenizer(std::string_view model_file,
                                                                const TokenizerConfig& config) {
  const auto model = read_sentencepiece_model(model_file);
  if (!model) return std::unexpected(model.error());
  auto tokens = make_tokens(*model, config);
  if (!tokens) return std::unexpected(tokens.error());
  auto encoder = SentencePieceEncoder::create(*model);
  if (!encoder) return std::unexpected(encoder.error());
  const auto num_pieces = static_cast<int32_t>(model->pieces.size());
  if (auto added = add_configured_tokens(config, num_pieces, *model, &*tokens); !added) {
    return std::unexpected(added.error());
  }
  auto special_ids = make_special_ids(*encoder, *model, config);
  if (!special_ids) return std::unexpected(special_ids.error());
  return std::make_unique<SentencePieceTokenizer>(std::move(*encoder), *model, std::move(*tokens),
                                                  std::move(*special_ids));
}

}  // namespace sluice::tokenizer
