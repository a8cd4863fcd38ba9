#include "sequence/text_stream.h"

#include <utility>

namespace sluice::sequence {

TextStream::TextStream(const tokenizer::Tokenizer& tokenizer, bool skip_special_tokens,
                       std::shared_ptr<const StopStrings> strings, int32_t min_tokens,
                       bool at_start)
    : detokenizer_(tokenizer, skip_special_tokens, at_start),
      strings_(strings),
      filter_(std::move(strings), min_tokens) {}

std::string TextStream::push(int32_t token_id) {
  if (match()) return {};
  return filter_.push(detokenizer_.push(token_id));
}

std::string TextStream::finish() {
  if (match()) return {};
  return filter_.finish(detokenizer_.finish());
}

const std::string& TextStream::matched_string() const {
  return strings_->strings()[static_cast<size_t>(*match())];
}

}  // namespace sluice::sequence
