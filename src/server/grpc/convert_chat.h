#pragma once

#include "sluice/error.h"
#include "sluice/generation.h"
#include "sluice/v1/generation.pb.h"

namespace sluice::server {

// sluice.v1.Chat as the one form that the validator reads: JSON texts, which it checks.
// kInvalidArgument: both messages and messages_json are set, or tool_calls_json is not JSON.
Result<ChatPrompt> chat_from_proto(v1::Chat&& message);
v1::Chat to_proto(const ChatPrompt& chat);

}  // namespace sluice::server
