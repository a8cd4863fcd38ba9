#pragma once

#include <cstddef>
#include <vector>

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
  bool empty() const { return size() == 0; }
  // Chunks, not messages.
  size_t size() const { return chunks_.size() - num_popped_; }
  void clear() {
    chunks_.clear();
    num_popped_ = 0;
  }

 private:
  // A vector keeps its memory: a queue that is filled and emptied again and again asks for none.
  std::vector<GenerateChunk> chunks_;
  size_t num_popped_ = 0;  // at the front
};

}  // namespace sluice::server
