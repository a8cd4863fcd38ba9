#include "sequence/sequence.h"

#include <algorithm>
#include <cassert>
#include <utility>

namespace sluice::sequence {
namespace {

// Appending up to this many tokens never moves the tokens.
constexpr int32_t kMaxReservedTokens = 1024;

}  // namespace

Sequence::Sequence(SequenceSpec spec, std::shared_ptr<Signals> signals)
    : spec_(std::move(spec)),
      signals_(std::move(signals)),
      tokens_(std::exchange(spec_.prompt, {})),
      num_prompt_tokens_(static_cast<int32_t>(tokens_.size())) {
  assert(!tokens_.empty() && signals_ != nullptr);
  const int32_t num_reserved = std::clamp(spec_.stop.max_tokens, 0, kMaxReservedTokens);
  tokens_.reserve(tokens_.size() + static_cast<size_t>(num_reserved));
}

std::optional<FinishReason> Sequence::append(int32_t token_id) {
  if (is_being_drawn()) {
    tokens_.back() = token_id;
  } else {
    tokens_.push_back(token_id);
  }
  return spec_.stop.check(token_id, num_generated(), num_tokens());
}

void Sequence::append_being_drawn() {
  assert(!is_being_drawn());
  tokens_.push_back(kBeingDrawn);
}

}  // namespace sluice::sequence
