#include "server/chunk_queue.h"

#include <algorithm>
#include <iterator>
#include <ranges>
#include <utility>

namespace sluice::server {
namespace {

constexpr size_t kMaxLogprobsBytes = 1 << 20;
constexpr size_t kLogprobBytes = 32;  // of one TokenLogprob on the wire, rounded up

template <typename T>
void append(std::vector<T>& to, std::vector<T>&& from) {
  to.insert(to.end(), std::make_move_iterator(from.begin()), std::make_move_iterator(from.end()));
}

template <typename T>
std::vector<T> take_front(std::vector<T>& from, size_t count) {
  const auto end = from.begin() + static_cast<std::ptrdiff_t>(std::min(count, from.size()));
  std::vector<T> front(std::make_move_iterator(from.begin()), std::make_move_iterator(end));
  from.erase(from.begin(), end);
  return front;
}

// How many of the chunk's tokens one message may carry.
size_t max_tokens_per_message(const GenerateChunk& chunk) {
  if (chunk.logprobs.empty()) return chunk.token_ids.size();
  size_t widest = 0;
  for (const PositionLogprobs& at : chunk.logprobs) widest = std::max(widest, at.top.size());
  return std::max<size_t>(1, kMaxLogprobsBytes / (kLogprobBytes * (1 + widest)));
}

}  // namespace

void ChunkQueue::push(GenerateChunk chunk) {
  auto newest_first = std::views::reverse(std::views::drop(chunks_, num_popped_));
  const auto last = std::ranges::find(newest_first, chunk.index, &GenerateChunk::index);
  if (last == newest_first.end() || last->is_prompt != chunk.is_prompt || last->finish_reason) {
    chunks_.push_back(std::move(chunk));
    return;
  }
  last->text += chunk.text;
  append(last->token_ids, std::move(chunk.token_ids));
  append(last->logprobs, std::move(chunk.logprobs));
  last->finish_reason = chunk.finish_reason;
  last->stop_reason = std::move(chunk.stop_reason);
}

GenerateChunk ChunkQueue::pop() {
  GenerateChunk& oldest = chunks_[num_popped_];
  const size_t limit = max_tokens_per_message(oldest);
  if (oldest.token_ids.size() <= limit) {
    GenerateChunk whole = std::move(oldest);
    // Those popped go when they are half of all, so that each is moved once.
    if (++num_popped_ * 2 >= chunks_.size()) {
      chunks_.erase(chunks_.begin(), chunks_.begin() + static_cast<std::ptrdiff_t>(num_popped_));
      num_popped_ = 0;
    }
    return whole;
  }
  GenerateChunk part;
  part.index = oldest.index;
  part.is_prompt = oldest.is_prompt;
  part.text = std::exchange(oldest.text, {});
  part.token_ids = take_front(oldest.token_ids, limit);
  part.logprobs = take_front(oldest.logprobs, limit);
  return part;
}

}  // namespace sluice::server
