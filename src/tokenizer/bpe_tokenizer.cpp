#include "tokenizer/bpe_tokenizer.h"

#include <algorithm>
#include <cstddef>
#include <string>
#include <unordered_map>
#include <utility>

#include "tokenizer/added_tokens.h"
#include "tokenizer/bpe_model.h"
#include "tokenizer/detokenizer.h"
#include "tokenizer/json_fields.h"
#include "tokenizer/normalizer.h"
#include "tokenizer/post_processor.h"
#include "tokenizer/pre_tokenizer.h"
#include "tokenizer/text_decoder.h"
#include "tokenizer/token_table.h"
#include "tokenizer/tokenizer_file.h"

namespace sluice::tokenizer {
namespace {

// Everything that a file describes.
struct Parts {
  Normalizer normalizer;
  PreTokenizer pre_tokenizer;
  BpeModel model;
  TextDecoder decoder;
  AddedTokenMatcher raw_tokens;         // found in the text as it is
  AddedTokenMatcher normalized_tokens;  // found in normalized text
  TokenTable tokens;
  SpecialFrame frame;
};

class BpeTokenizer final : public Tokenizer {
 public:
  explicit BpeTokenizer(Parts parts) : parts_(std::move(parts)) {}

  Result<std::vector<int32_t>> encode(std::string_view text,
                                      bool add_special_tokens) const override {
    if (auto checked = check_text(text); !checked) return std::unexpected(checked.error());
    Encoding encoding(parts_, SpecialTokens{});
    encoding.token_ids.reserve(text.size() / 3 + 8);
    if (add_special_tokens) encoding.token_ids = parts_.frame.prefix;
    if (auto done = encoding.add_text(text); !done) return std::unexpected(done.error());
    if (add_special_tokens) {
      encoding.token_ids.insert(encoding.token_ids.end(), parts_.frame.suffix.begin(),
                                parts_.frame.suffix.end());
    }
    return std::move(encoding.token_ids);
  }

  Result<std::vector<int32_t>> encode_with_special_tokens(
      std::string_view text, std::span<const size_t> plain_at) const override {
    if (auto checked = check_text(text); !checked) return std::unexpected(checked.error());
    if (!plain_at.empty() && parts_.normalized_tokens.has_special_token()) {
      return fail(ErrorCode::kUnimplemented,
                  "this tokenizer looks for special tokens in normalized text, so that they cannot "
                  "be kept as plain text");
    }
    Encoding encoding(parts_, SpecialTokens{.are_plain_text = false, .plain_at = plain_at});
    encoding.token_ids.reserve(text.size() / 3 + 8);
    if (auto done = encoding.add_text(text); !done) return std::unexpected(done.error());
    return std::move(encoding.token_ids);
  }

  std::vector<size_t> find_special_tokens(std::string_view text) const override {
    std::vector<size_t> offsets;
    parts_.raw_tokens.find_special(text, &offsets);
    const auto num_raw = static_cast<std::ptrdiff_t>(offsets.size());
    parts_.normalized_tokens.find_special(text, &offsets);
    std::inplace_merge(offsets.begin(), offsets.begin() + num_raw, offsets.end());
    return offsets;
  }

  std::string decode(std::span<const int32_t> token_ids, bool skip_special_tokens) const override {
    return decode_tokens(*this, token_ids, skip_special_tokens);
  }

  std::string token_bytes(int32_t token_id, bool at_start) const override {
    std::string_view bytes = parts_.tokens.bytes(token_id);
    if (at_start && parts_.decoder.drops_first_space && bytes.starts_with(' ')) {
      bytes.remove_prefix(1);
    }
    return std::string(bytes);
  }

  bool stays_at_start(int32_t token_id) const override { return !parts_.tokens.has(token_id); }
  Utf8Repair utf8_repair() const override { return parts_.decoder.utf8_repair(); }
  bool is_special(int32_t token_id) const override { return parts_.tokens.is_special(token_id); }
  int32_t vocabulary_size() const override { return parts_.tokens.size(); }

 private:
  // One call's work space.
  struct Encoding final : PreTokenizer::Sink {
    Encoding(const Parts& the_parts, const SpecialTokens& specials)
        : parts(the_parts), special(specials), run(the_parts.pre_tokenizer) {}

    void word(std::string_view word) override {
      parts.model.encode_word(word, &scratch, &token_ids);
    }

    // Text is split at added tokens, normalized, split at those of normalized text, then at words.
    Result<void> add_text(std::string_view text) {
      if (parts.raw_tokens.is_idle(special)) return add_raw(text, true);
      for (const auto& segment : parts.raw_tokens.split(text, special)) {
        if (segment.token_id != AddedTokenMatcher::kNoToken) {
          token_ids.push_back(segment.token_id);
        } else if (auto done = add_raw(segment.text, segment.text.data() == text.data()); !done) {
          return done;
        }
      }
      return {};
    }

    Result<void> add_raw(std::string_view text, bool is_first) {
      if (parts.normalizer.is_identity()) return add_normalized(text, is_first);
      return add_normalized(parts.normalizer.apply(text), is_first);
    }

    Result<void> add_normalized(std::string_view text, bool is_first) {
      const SpecialTokens in_normalized{.are_plain_text = special.are_plain_text, .plain_at = {}};
      if (parts.normalized_tokens.is_idle(in_normalized)) return run.split(text, is_first, this);
      for (const auto& segment : parts.normalized_tokens.split(text, in_normalized)) {
        const bool is_segment_first = is_first && segment.text.data() == text.data();
        if (segment.token_id != AddedTokenMatcher::kNoToken) {
          token_ids.push_back(segment.token_id);
        } else if (auto done = run.split(segment.text, is_segment_first, this); !done) {
          return done;
        }
      }
      return {};
    }

    const Parts& parts;
    const SpecialTokens special;  // its offsets are of raw text
    PreTokenizer::Run run;
    MergeScratch scratch;
    std::vector<int32_t> token_ids;
  };

  Parts parts_;
};

const Json& member(const Json& object, const char* name) {
  static const Json kAbsent;
  const auto found = object.find(name);
  return found == object.end() ? kAbsent : *found;
}

// Ids by the spelling in the file: of its vocabulary, and of what its added tokens add to it.
class SpellingIds {
 public:
  explicit SpellingIds(const StringIndex& vocabulary) : vocabulary_(vocabulary) {}

  std::optional<int32_t> find(const std::string& spelling) const {
    if (const int32_t id = vocabulary_.find(spelling); id != StringIndex::kNone) return id;
    const auto found = added_.find(spelling);
    return found == added_.end() ? std::nullopt : std::optional(found->second);
  }
  void add(const std::string& spelling, int32_t token_id) { added_.emplace(spelling, token_id); }

 private:
  const StringIndex& vocabulary_;
  std::unordered_map<std::string, int32_t> added_;
};

Result<void> add_vocabulary(const Vocabulary& vocabulary, const TextDecoder& decoder,
                            TokenTable* tokens) {
  tokens->reserve(vocabulary.tokens.size(), vocabulary.texts.size() / 2);
  for (const auto& token : vocabulary.tokens) {
    const std::string bytes = decoder.bytes_of(vocabulary.text(token));
    if (auto added = tokens->add(token.token_id, bytes, false); !added) {
      return invalid_argument("model.vocab: " + added.error().message);
    }
  }
  return {};
}

void find_in_text(const AddedToken& token, Parts* parts) {
  if (token.is_special) parts->tokens.mark_special(token.token_id);
  if (token.is_normalized) {
    parts->normalized_tokens.add(token, parts->normalizer.apply(token.content));
  } else {
    parts->raw_tokens.add(token, token.content);
  }
}

// tokenizer_config.json's word on a token goes before tokenizer.json's, as in Transformers.
using ConfiguredTokens = std::unordered_map<int64_t, AddedToken>;

ConfiguredTokens configured_tokens(const TokenizerConfig& config) {
  ConfiguredTokens tokens;
  for (const auto& token : config.added_tokens) {
    tokens[token.token_id] = {.token_id = static_cast<int32_t>(token.token_id),
                              .content = token.content,
                              .is_single_word = token.is_single_word,
                              .strips_left = token.strips_left,
                              .strips_right = token.strips_right,
                              .is_normalized = token.is_normalized,
                              .is_special = token.is_special};
  }
  return tokens;
}

// Takes those that it found out of `configured`.
Result<void> add_added_tokens(const Json& json, ConfiguredTokens* configured, Parts* parts,
                              SpellingIds* ids) {
  const auto added_tokens = read_added_tokens(member(json, "added_tokens"));
  if (!added_tokens) return std::unexpected(added_tokens.error());
  for (size_t i = 0; i < added_tokens->size(); ++i) {
    const AddedToken& token = (*added_tokens)[i];
    const std::string name = "added_tokens[" + std::to_string(i) + "]";
    const auto known = ids->find(token.content);
    if (known && *known != token.token_id) {
      return invalid_argument(name + ".content has id " + std::to_string(*known) +
                              " elsewhere in the file, not " + std::to_string(token.token_id));
    }
    if (!known) {
      ids->add(token.content, token.token_id);
      const std::string bytes = parts->decoder.bytes_of(token.content);
      if (auto added = parts->tokens.add(token.token_id, bytes, false); !added) {
        return invalid_argument(name + ": " + added.error().message);
      }
    }
    const auto own = configured->find(token.token_id);
    const bool is_configured = own != configured->end() && own->second.content == token.content;
    find_in_text(is_configured ? own->second : token, parts);
    if (token.is_special) parts->tokens.mark_special(token.token_id);
    if (is_configured) configured->erase(own);
  }
  return {};
}

// Tokens of the vocabulary that only tokenizer_config.json calls added.
Result<void> add_configured_tokens(const ConfiguredTokens& configured, const SpellingIds& ids,
                                   Parts* parts) {
  for (const auto& [token_id, token] : configured) {
    const bool has_token = token_id >= 0 && token_id <= kMaxTokenId &&
                           parts->tokens.has(static_cast<int32_t>(token_id));
    if (!has_token) {
      return invalid_argument("tokenizer_config.json: added_tokens_decoder." +
                              std::to_string(token_id) + " is not in tokenizer.json");
    }
    if (ids.find(token.content) == token_id) {
      find_in_text(token, parts);
    } else if (token.is_special) {
      parts->tokens.mark_special(token.token_id);
    }
  }
  return {};
}

Result<Parts> read_parts(const TokenizerFile& file, const TokenizerConfig& config) {
  const Json& json = file.json;
  if (!json.is_object()) return invalid_argument("must be an object");
  // How to truncate and to pad is for a caller that makes batches; ids do not depend on it.
  if (auto only = JsonFields(json, "").only({"version", "truncation", "padding", "added_tokens",
                                             "normalizer", "pre_tokenizer", "post_processor",
                                             "decoder", "model"});
      !only) {
    return std::unexpected(only.error());
  }
  auto normalizer = Normalizer::create(member(json, "normalizer"));
  if (!normalizer) return std::unexpected(normalizer.error());
  auto pre_tokenizer = PreTokenizer::create(member(json, "pre_tokenizer"), config.add_prefix_space);
  if (!pre_tokenizer) return std::unexpected(pre_tokenizer.error());
  auto decoder = TextDecoder::create(member(json, "decoder"));
  if (!decoder) return std::unexpected(decoder.error());
  if (decoder->is_byte_level != pre_tokenizer->is_byte_level()) {
    return fail(ErrorCode::kUnimplemented,
                "ByteLevel in only one of pre_tokenizer and decoder is not supported");
  }
  auto model =
      BpeModel::create(member(json, "model"), file.vocabulary, pre_tokenizer->is_byte_level());
  if (!model) return std::unexpected(model.error());
  Parts parts{std::move(*normalizer),
              std::move(*pre_tokenizer),
              std::move(*model),
              std::move(*decoder),
              {},
              {},
              {},
              {}};
  SpellingIds ids(file.vocabulary.ids);
  if (auto added = add_vocabulary(file.vocabulary, parts.decoder, &parts.tokens); !added) {
    return std::unexpected(added.error());
  }
  ConfiguredTokens own_tokens = configured_tokens(config);
  if (auto added = add_added_tokens(json, &own_tokens, &parts, &ids); !added) {
    return std::unexpected(added.error());
  }
  if (auto added = add_configured_tokens(own_tokens, ids, &parts); !added) {
    return std::unexpected(added.error());
  }
  const FindToken find_token = [&](const std::string& spelling) { return ids.find(spelling); };
  const auto configured = configured_frame(config, find_token);
  auto frame =
      configured ? *configured : read_post_processor(member(json, "post_processor"), find_token);
  if (!frame) return std::unexpected(frame.error());
  parts.frame = std::move(*frame);
  return parts;
}

}  // namespace

Result<std::unique_ptr<Tokenizer>> make_bpe_tokenizer(std::string_view json_file,
                                                      const TokenizerConfig& config) {
  const auto file = read_tokenizer_file(json_file);
  if (!file) return std::unexpected(file.error());
  auto parts = read_parts(*file, config);
  if (!parts) return std::unexpected(parts.error());
  return std::make_unique<BpeTokenizer>(std::move(*parts));
}

}  // namespace sluice::tokenizer
