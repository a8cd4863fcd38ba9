#include "tokenizer/bpe_model.h"

#include <algorithm>
#include <cstdio>
#include <string>
#include <utility>

#include "base/utf8.h"
#include "tokenizer/byte_level.h"
#include "tokenizer/json_fields.h"
#include "tokenizer/token_table.h"

namespace sluice::tokenizer {
namespace {

constexpr size_t kMaxMerges = 1 << 23;
constexpr size_t kAhead = 8;  // merges

// The fields that say how the model works, all but vocab and merges.
struct Options {
  bool byte_fallback = false;
  bool ignore_merges = false;
};

Result<Options> read_options(const JsonFields& fields) {
  if (const std::string type = fields.type(); !type.empty() && type != "BPE") {
    return std::unexpected(fields.unsupported("type", type));
  }
  for (const char* name : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    const auto text = fields.text(name, "");
    if (!text) return std::unexpected(text.error());
    if (!text->empty()) return std::unexpected(fields.unsupported(name, *text));
  }
  if (const Json* dropout = fields.find("dropout"); dropout != nullptr && *dropout != 0) {
    return std::unexpected(fields.unsupported("dropout", "not 0"));
  }
  if (auto only = fields.only({"type", "dropout", "unk_token", "continuing_subword_prefix",
                               "end_of_word_suffix", "fuse_unk", "byte_fallback", "ignore_merges",
                               "vocab", "merges"});
      !only) {
    return std::unexpected(only.error());
  }
  const auto byte_fallback = fields.boolean("byte_fallback", false);
  if (!byte_fallback) return std::unexpected(byte_fallback.error());
  const auto ignore_merges = fields.boolean("ignore_merges", false);
  if (!ignore_merges) return std::unexpected(ignore_merges.error());
  return Options{*byte_fallback, *ignore_merges};
}

}  // namespace

Result<BpeModel> BpeModel::create(const Json& json, const Vocabulary& vocabulary,
                                  bool is_byte_level) {
  if (!json.is_object()) return invalid_argument("model must be an object");
  const JsonFields fields(json, "model.");
  const auto options = read_options(fields);
  if (!options) return std::unexpected(options.error());
  if (vocabulary.tokens.empty()) {
    return std::unexpected(fields.wrong_type("vocab", "an object of tokens and ids"));
  }
  const Json* merges = fields.find("merges");
  if (merges == nullptr || !merges->is_array() || vocabulary.merges.size() > kMaxMerges) {
    return std::unexpected(fields.wrong_type("merges", "an array"));
  }
  if (!is_byte_level && !options->byte_fallback) {
    return fail(ErrorCode::kUnimplemented,
                "model.byte_fallback = false without a ByteLevel pre_tokenizer is not supported");
  }
  if (is_byte_level && options->byte_fallback) {
    return fail(ErrorCode::kUnimplemented,
                "model.byte_fallback = true with a ByteLevel pre_tokenizer is not supported");
  }
  BpeModel model;
  model.is_byte_level_ = is_byte_level;
  model.ignores_merges_ = options->ignore_merges;
  model.add_tokens(vocabulary);
  if (auto found = model.find_bytes(is_byte_level); !found) return std::unexpected(found.error());
  if (auto added = model.add_merges(vocabulary); !added) return std::unexpected(added.error());
  return model;
}

void BpeModel::add_tokens(const Vocabulary& vocabulary) {
  int32_t max_token_id = 0;
  for (const auto& token : vocabulary.tokens) max_token_id = std::max(max_token_id, token.token_id);
  fates_ = std::vector<std::atomic<uint8_t>>(static_cast<size_t>(max_token_id) + 1);
  if (!is_byte_level_) {
    index_ = vocabulary.ids;
    return;
  }
  index_ = StringIndex(vocabulary.tokens.size(), vocabulary.texts.size() / 2);
  for (const auto& token : vocabulary.tokens) {
    if (const auto bytes = bytes_of_byte_level(vocabulary.text(token))) {
      index_.insert(*bytes, token.token_id);
    }
  }
}

Result<void> BpeModel::find_bytes(bool is_byte_level) {
  for (int byte = 0; byte < 256; ++byte) {
    char spelling[8] = {static_cast<char>(byte), '\0'};
    size_t length = 1;
    if (!is_byte_level) {
      length = static_cast<size_t>(std::snprintf(spelling, sizeof(spelling), "<0x%02X>", byte));
    }
    const int32_t token_id = index_.find({spelling, length});
    if (token_id == StringIndex::kNone) {
      return invalid_argument("model.vocab has no token for byte " + std::to_string(byte));
    }
    byte_ids_[static_cast<size_t>(byte)] = token_id;
  }
  return {};
}

Result<void> BpeModel::add_merges(const Vocabulary& vocabulary) {
  const auto& merges = vocabulary.merges;
  std::vector<MergeTable::Merge> found;
  found.reserve(merges.size());
  int32_t merged = StringIndex::kNone;
  for (size_t i = 0; i < merges.size(); ++i) {
    if (i + kAhead < merges.size()) {
      vocabulary.ids.prefetch(vocabulary.left(merges[i + kAhead]));
      vocabulary.ids.prefetch(vocabulary.right(merges[i + kAhead]));
    }
    const int32_t left = vocabulary.ids.find(vocabulary.left(merges[i]));
    const int32_t right = vocabulary.ids.find(vocabulary.right(merges[i]));
    merged = vocabulary.find_near(vocabulary.whole(merges[i]), merged + 1);
    if (left == StringIndex::kNone || right == StringIndex::kNone || merged == StringIndex::kNone) {
      return invalid_argument("model.merges[" + std::to_string(i) +
                              "] names a token that model.vocab lacks");
    }
    found.push_back({left, right, merged});
  }
  merges_ = MergeTable(found);
  return {};
}

void BpeModel::merge_word(std::string_view word, MergeScratch* scratch) const {
  scratch->token_ids.clear();
  const auto add_bytes = [&](std::string_view bytes) {
    for (const char byte : bytes) {
      scratch->token_ids.push_back(byte_ids_[static_cast<uint8_t>(byte)]);
    }
  };
  if (is_byte_level_) {
    add_bytes(word);
  } else {
    while (!word.empty()) {
      size_t length = 0;
      decode_utf8_character(word, &length);
      const int32_t token_id = index_.find(word.substr(0, length));
      if (token_id == StringIndex::kNone) {
        add_bytes(word.substr(0, length));
      } else {
        scratch->token_ids.push_back(token_id);
      }
      word.remove_prefix(length);
    }
  }
  apply_merges(merges_, scratch);
}

void BpeModel::encode_word(std::string_view word, MergeScratch* scratch,
                           std::vector<int32_t>* token_ids) const {
  const int32_t whole_id = index_.find(word);
  if (whole_id != StringIndex::kNone) {
    const auto fate = fates_[static_cast<size_t>(whole_id)].load(std::memory_order_relaxed);
    if (ignores_merges_ || fate == kStaysWhole) {
      token_ids->push_back(whole_id);
      return;
    }
  }
  merge_word(word, scratch);
  token_ids->insert(token_ids->end(), scratch->token_ids.begin(), scratch->token_ids.end());
  if (whole_id != StringIndex::kNone) {
    const bool is_whole = scratch->token_ids.size() == 1 && scratch->token_ids[0] == whole_id;
    fates_[static_cast<size_t>(whole_id)].store(is_whole ? kStaysWhole : kFallsApart,
                                                std::memory_order_relaxed);
  }
}

}  // namespace sluice::tokenizer
