#pragma once

#include <cstdint>
#include <optional>

#include "server/chunk_queue.h"
#include "sluice/error.h"
#include "sluice/generation.h"

namespace sluice::server {

// What one request has for a reader who takes one message at a time: its chunks in order, then how
// it ended.
//
// Threads: none of its own; the stream's lock guards it.
class PendingOutput final {
 public:
  struct Message {
    GenerateChunk chunk;
    std::optional<GenerateSummary> summary;  // in the very last message
  };

  explicit PendingOutput(int64_t num_completions) : num_completions_(num_completions) {}

  void push(GenerateChunk chunk);
  // Nothing may be pushed afterwards.
  void end(Result<GenerateSummary> end) { end_ = std::move(end); }
  bool has_ended() const { return end_.has_value(); }
  bool has_failed() const { return end_ && !*end_; }

  // The next message; the error that ended the request, once its chunks are out; nothing if none is
  // due. The very last chunk waits for the end, which follows it at once, and comes with the
  // summary. Requires: neither the last message nor the error was taken.
  std::optional<Result<Message>> take();
  void clear() { queue_.clear(); }

 private:
  int64_t num_completions_;
  int64_t num_finished_ = 0;  // completions whose last chunk has come
  ChunkQueue queue_;
  std::optional<Result<GenerateSummary>> end_;
};

}  // namespace sluice::server
