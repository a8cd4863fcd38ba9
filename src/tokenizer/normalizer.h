#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "sluice/error.h"

namespace sluice::tokenizer {

// What a tokenizer.json does to text before it is split: Unicode normal forms, replaced strings and
// a prefix. Input and output are well-formed UTF-8. Linear time, also for a million combining
// marks. Threads: any.
class Normalizer final {
 public:
  // `json` is the file's "normalizer" (null: none). kUnimplemented names what is not supported:
  // all types but NFC, NFD, NFKC, NFKD, Prepend, Replace (of a string) and Sequence.
  static Result<Normalizer> create(const Json& json);

  bool is_identity() const { return steps_.empty(); }
  std::string apply(std::string_view text) const;

 private:
  enum class Kind : uint8_t { kNfc, kNfd, kNfkc, kNfkd, kPrepend, kReplace };
  struct Step {
    Kind kind;
    std::string pattern;  // of kReplace
    std::string content;  // of kReplace and kPrepend
  };
  Result<void> add(const Json& json, const std::string& path);
  static Result<Step> make_replace(const Json& json, const std::string& path);
  static std::string apply_step(const Step& step, std::string_view text);

  std::vector<Step> steps_;
};

}  // namespace sluice::tokenizer
