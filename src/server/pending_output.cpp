#include "server/pending_output.h"

#include <utility>

namespace sluice::server {

void PendingOutput::push(GenerateChunk chunk) {
  if (chunk.finish_reason) ++num_finished_;
  queue_.push(std::move(chunk));
}

std::optional<Result<PendingOutput::Message>> PendingOutput::take() {
  Message message;
  if (!queue_.empty()) {
    const bool is_very_last = queue_.size() == 1 && num_finished_ >= num_completions_;
    if (is_very_last && !end_) return std::nullopt;
    message.chunk = queue_.pop();
  } else if (!end_) {
    return std::nullopt;
  } else if (!*end_) {
    return std::unexpected(end_->error());
  }
  // The service may also end without a last chunk.
  if (end_ && *end_ && queue_.empty()) message.summary = std::move(**end_);
  return message;
}

}  // namespace sluice::server
