#pragma once

#include <memory>

#include "sluice/service.h"
#include "tokenizer/tokenizer.h"

namespace sluice::engine {

// What the front-end side knows of a model. Fixed once it serves. Threads: any.
struct ServedModel {
  ModelInfo info;
  std::unique_ptr<tokenizer::Tokenizer> tokenizer;  // null: token ids in, token ids out
};

}  // namespace sluice::engine
