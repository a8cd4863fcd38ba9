#include "tokenizer/bpe_model.h"

#include <algorithm>
#include <cstdio>
#include <string>
#include <unordered_map>
#include <utility>

#include "base/utf8.h"
#include "tokenizer/byte_level.h"
#include "tokenizer/json_fields.h"
#include "tokenizer/token_table.h"

namespace sluice::tokenizer {
namespace {

constexpr size_t kMaxMerges = 1 << 23;

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

// A merge is written as "left right" or as ["left", "right"].
Result<std::pair<std::string_view, std::string_view>> read_merge(const Json& json, size_t idx) {
  const std::string name = "model.merges[" + std::to_string(idx) + "]";
  if (json.is_string()) {
    const std::string_view text = json.get_ref<const std::string&>();
    const size_t space = text.find(' ');
    if (space == std::string_view::npos || text.find(' ', space + 1) != std::string_view::npos) {
      return invalid_argument(name + " must be two tokens with one space between");
    }
    return std::pair(text.substr(0, space), text.substr(space + 1));
  }
  if (json.is_array() && json.size() == 2 && json[0].is_string() && json[1].is_string()) {
    return std::pair<std::string_view, std::string_view>(json[0].get_ref<const std::string&>(),
                                                         json[1].get_ref<const std::string&>());
  }
  return invalid_argument(name + " must be a string or an array of two strings");
}

}  // namespace

BpeModel::BpeModel(size_t num_tokens, size_t num_merges)
    : index_(num_tokens), merges_(num_merges) {}

Result<BpeModel> BpeModel::create(const Json& json, bool is_byte_level) {
  if (!json.is_object()) return invalid_argument("model must be an object");
  const JsonFields fields(json, "model.");
  const auto options = read_options(fields);
  if (!options) return std::unexpected(options.error());
  const Json* vocabulary = fields.find("vocab");
  if (vocabulary == nullptr || !vocabulary->is_object() || vocabulary->empty()) {
    return std::unexpected(fields.wrong_type("vocab", "an object of tokens and ids"));
  }
  const Json* merges = fields.find("merges");
  if (merges == nullptr || !merges->is_array() || merges->size() > kMaxMerges) {
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
  BpeModel model(vocabulary->size(), merges->size());
  model.is_byte_level_ = is_byte_level;
  model.ignores_merges_ = options->ignore_merges;
  int32_t max_token_id = 0;
  for (const auto& [token, id] : vocabulary->items()) {
    if (!id.is_number_unsigned() || id.get<uint64_t>() > kMaxTokenId) {
      return invalid_argument("model.vocab has an id that is not an integer in 0.." +
                              std::to_string(kMaxTokenId));
    }
    const auto token_id = id.get<int32_t>();
    max_token_id = std::max(max_token_id, token_id);
    if (!is_byte_level) {
      model.index_.insert(token, token_id);
    } else if (const auto bytes = bytes_of_byte_level(token)) {
      model.index_.insert(*bytes, token_id);
    }
  }
  model.fates_ = std::vector<std::atomic<uint8_t>>(static_cast<size_t>(max_token_id) + 1);
  if (auto found = model.find_bytes(is_byte_level); !found) return std::unexpected(found.error());
  if (auto added = model.add_merges(*vocabulary, *merges); !added) {
    return std::unexpected(added.error());
  }
  return model;
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

Result<void> BpeModel::add_merges(const Json& vocabulary, const Json& merges) {
  std::unordered_map<std::string_view, int32_t> ids;  // by the file's spelling
  ids.reserve(vocabulary.size());
  for (const auto& [token, id] : vocabulary.get_ref<const Json::object_t&>()) {
    ids.emplace(token, id.get<int32_t>());
  }
  std::string whole;
  for (size_t i = 0; i < merges.size(); ++i) {
    const auto parts = read_merge(merges[i], i);
    if (!parts) return std::unexpected(parts.error());
    whole.assign(parts->first).append(parts->second);
    const auto left = ids.find(parts->first);
    const auto right = ids.find(parts->second);
    const auto merged = ids.find(whole);
    if (left == ids.end() || right == ids.end() || merged == ids.end()) {
      return invalid_argument("model.merges[" + std::to_string(i) +
                              "] names a token that model.vocab lacks");
    }
    merges_.add(left->second, right->second, merged->second);
  }
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
