#pragma once

#include <cstdint>
#include <optional>

#include "sluice/error.h"
#include "sluice/generation.h"
#include "sluice/service.h"

namespace sluice::engine {

// Turns chats into prompts for one model. Immutable. Threads: any.
//
// An interface, because the core without tokenizers (SLUICE_SERVER=OFF) has no chat templates.
class ChatRenderer {
 public:
  virtual ~ChatRenderer() = default;

  // Checks `chat` and makes its prompt. kInvalidArgument: what is wrong in it, what exceeds a
  // limit, or what the template says, with its line; kUnimplemented: the template needs something
  // that is not supported.
  virtual Result<RenderedChat> render(const ChatPrompt& chat,
                                      const ServiceLimits& limits) const = 0;

  // The token that ends a turn: tokenizer_config.json's eos_token.
  virtual std::optional<int32_t> turn_end_token_id() const = 0;
};

}  // namespace sluice::engine
