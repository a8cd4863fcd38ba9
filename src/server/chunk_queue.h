#pragma once

#include <cstddef>
#include <deque>

#include "sluice/generation.h"

namespace sluice::server {

// Output that waits for its stream's write in flight. Chunks of one completion join into one, so
// that a reader who falls behind gets fewer, larger messages, and the order within a completion
// holds. What waits is bounded by the service, which pauses a request whose tokens are not taken.
//
// Threads: none of its own; the stream's lock guards it.
class ChunkQueue final {
 public:
  void push(GenerateChunk chunk);
  // The oldest chunk. One whose logprobs make it larger than about 1 MiB comes in several parts,
  // the text with the first, the finish reason with the last: clients take 4 MiB by default.
  // Requires: !empty().
  GenerateChunk pop();
  bool empty() const { return chunks_.empty(); }
  // Chunks, not messages.
  size_t size() const { return chunks_.size(); }
  void clear() { chunks_.clear(); }

 private:
  std::deque<GenerateChunk> chunks_;
};

}  // namespace sluice::server
