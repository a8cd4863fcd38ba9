#pragma once

#include <memory>

#include "engine/chat_renderer.h"
#include "sluice/error.h"
#include "tokenizer/chat/chat_template.h"
#include "tokenizer/tokenizer.h"

namespace sluice::engine {

// What a chat may be, besides the limits of ServiceLimits.
//
// | part            | must be |
// |-----------------|------------------------------------------------------------------------------|
// | messages        | array of 1 .. max_chat_messages objects | | role            | string of 1 ..
// 64 bytes                                                      | | content         | string, null,
// or array of {"type": "text", "text": ...}; or tool_calls there | | tools           | array of
// objects                                                             | | template_kwargs | object
// | | all of them     | UTF-8, at most 64 deep, 1,024 keys an object, max_prompt_bytes together |
inline constexpr size_t kMaxRoleBytes = 64;

// A renderer over a model's own template. `tokenizer` must outlive it.
std::unique_ptr<ChatRenderer> make_chat_renderer(tokenizer::ModelChat chat,
                                                 const tokenizer::Tokenizer& tokenizer);

}  // namespace sluice::engine
