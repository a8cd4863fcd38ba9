#include "server/chunk_queue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

namespace sluice::server {
namespace {

GenerateChunk token(int32_t index, int32_t id, std::string text) {
  GenerateChunk chunk;
  chunk.index = index;
  chunk.token_ids = {id};
  chunk.text = std::move(text);
  return chunk;
}

TEST(ChunkQueue, JoinsChunksOfOneCompletionOnly) {
  ChunkQueue queue;
  queue.push(token(0, 1, "a"));
  queue.push(token(1, 2, "b"));
  queue.push(token(0, 3, "c"));
  ASSERT_EQ(queue.size(), 2u);
  const GenerateChunk first = queue.pop();
  EXPECT_EQ(first.index, 0);
  EXPECT_EQ(first.text, "ac");
  EXPECT_THAT(first.token_ids, ::testing::ElementsAre(1, 3));
  EXPECT_EQ(queue.pop().text, "b");
  EXPECT_TRUE(queue.empty());
}

TEST(ChunkQueue, KeepsPromptAndCompletionApart) {
  ChunkQueue queue;
  GenerateChunk prompt = token(0, 1, "p");
  prompt.is_prompt = true;
  queue.push(prompt);
  queue.push(token(0, 2, "a"));
  queue.push(token(0, 3, "b"));
  EXPECT_TRUE(queue.pop().is_prompt);
  const GenerateChunk out = queue.pop();
  EXPECT_FALSE(out.is_prompt);
  EXPECT_EQ(out.text, "ab");
}

TEST(ChunkQueue, TheFinishReasonJoinsTheTokensBeforeIt) {
  ChunkQueue queue;
  queue.push(token(0, 1, "a"));
  GenerateChunk last;
  last.finish_reason = FinishReason::kStop;
  last.stop_reason = "END";
  queue.push(last);
  const GenerateChunk joined = queue.pop();
  EXPECT_EQ(joined.text, "a");
  EXPECT_EQ(joined.finish_reason, FinishReason::kStop);
  EXPECT_EQ(joined.stop_reason, "END");
}

TEST(ChunkQueue, SplitsWhatManyLogprobsMakeTooLarge) {
  constexpr int32_t kTokens = 5000;
  GenerateChunk chunk;
  chunk.text = "whole text";
  chunk.finish_reason = FinishReason::kLength;
  for (int32_t i = 0; i < kTokens; ++i) {
    chunk.token_ids.push_back(i);
    PositionLogprobs at;
    at.token.token_id = i;
    at.top.resize(20);
    chunk.logprobs.push_back(at);
  }
  ChunkQueue queue;
  queue.push(chunk);
  std::string text;
  int32_t next = 0;
  size_t parts = 0;
  while (!queue.empty()) {
    const GenerateChunk part = queue.pop();
    ++parts;
    text += part.text;
    ASSERT_EQ(part.token_ids.size(), part.logprobs.size());
    EXPECT_LE(part.token_ids.size() * 21 * 32, size_t{1} << 20);
    for (size_t i = 0; i < part.token_ids.size(); ++i, ++next) {
      EXPECT_EQ(part.token_ids[i], next);
      EXPECT_EQ(part.logprobs[i].token.token_id, next);
    }
    EXPECT_EQ(part.finish_reason.has_value(), queue.empty());
  }
  EXPECT_GT(parts, 2u);
  EXPECT_EQ(next, kTokens);
  EXPECT_EQ(text, "whole text");
}

// Any order of pushes and pops gives each completion's tokens and text whole and in order.
TEST(ChunkQueue, LosesNothingUnderRandomOperations) {
  for (uint32_t seed = 0; seed < 200; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    ChunkQueue queue;
    std::vector<std::string> in(3), out(3);
    const auto take = [&] {
      const GenerateChunk chunk = queue.pop();
      for (const int32_t id : chunk.token_ids) {
        out[static_cast<size_t>(chunk.index)] += static_cast<char>(id);
      }
      EXPECT_EQ(out[static_cast<size_t>(chunk.index)].substr(
                    out[static_cast<size_t>(chunk.index)].size() - chunk.text.size()),
                chunk.text);
    };
    for (int step = 0; step < 100; ++step) {
      if (random() % 3 == 0 && !queue.empty()) {
        take();
        continue;
      }
      const auto index = static_cast<int32_t>(random() % 3);
      const char letter = static_cast<char>('a' + random() % 26);
      in[static_cast<size_t>(index)] += letter;
      queue.push(token(index, letter, std::string(1, letter)));
    }
    EXPECT_LE(queue.size(), 3u);
    while (!queue.empty()) take();
    EXPECT_EQ(in, out);
  }
}

}  // namespace
}  // namespace sluice::server
