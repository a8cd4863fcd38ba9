#pragma once

#include <memory>
#include <string>

#include "engine/chat_renderer.h"
#include "sluice/service.h"
#include "tokenizer/tokenizer.h"

namespace sluice::engine {

// What the front-end side knows of a model. Fixed once it serves. Threads: any.
struct ServedModel {
  ModelInfo info;
  std::unique_ptr<tokenizer::Tokenizer> tokenizer;  // null: token ids in, token ids out
  std::unique_ptr<ChatRenderer> chat;               // null: no chats, for the reason that follows
  std::string no_chat_reason = "the model has no chat template: use prompt or token_ids";
};

}  // namespace sluice::engine
