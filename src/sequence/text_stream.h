#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "sequence/stop_strings.h"
#include "tokenizer/detokenizer.h"

namespace sluice::sequence {

// The text of one completion: token ids in, text out that is certain not to belong to a stop
// string or to an unfinished character.
//
// Belongs to the delivery thread: the engine goes on until it is told (Signals::stop).
// Threads: one.
class TextStream final {
 public:
  // `tokenizer` must outlive this. Stop strings within the first `min_tokens` tokens' text are
  // plain text. `strings` may be null: no stop strings. `at_start`: no text was before (the prompt
  // has special tokens only), so that the first token loses the space a decoder drops there.
  TextStream(const tokenizer::Tokenizer& tokenizer, bool skip_special_tokens,
             std::shared_ptr<const StopStrings> strings, int32_t min_tokens, bool at_start = false);

  // Takes the next generated id. After a match: returns nothing and changes nothing.
  std::string push(int32_t token_id);
  // What was held back, when the stream ends for another reason than a stop string. Call once.
  std::string finish();

  // Which stop string was found, once one was.
  const std::optional<int32_t>& match() const { return filter_.match(); }
  // The found string. Requires: match().
  const std::string& matched_string() const;

 private:
  tokenizer::Detokenizer detokenizer_;
  std::shared_ptr<const StopStrings> strings_;
  StopFilter filter_;
};

}  // namespace sluice::sequence
