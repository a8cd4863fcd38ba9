// A request that finds its prompt in the prefix cache gets the bits that it would have computed.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cctype>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "sluice/runtime.h"
#include "tests/device/test_device.h"
#include "tests/engine/waiting_observer.h"

namespace sluice::engine {
namespace {

namespace fs = std::filesystem;

constexpr int32_t kBlockSize = 16;

// Everything a request got, bit for bit, but for how much of it was cached.
struct Answer {
  std::vector<int32_t> tokens;  // with their completion's index
  std::vector<uint32_t> bits;   // of logprobs
  bool operator==(const Answer&) const = default;
};

struct Outcome {
  Answer answer;
  int32_t cached_tokens = 0;
};

struct Setting {
  bool caches = true;
  int32_t max_num_batched_tokens = 512;
  int64_t kv_tokens = 0;  // 0: plenty
};

class PrefixCacheTest : public testing::TestWithParam<const char*> {
 protected:
  std::unique_ptr<Service> make(const Setting& setting) {
    RuntimeOptions options;
    options.models = {{"model", fs::path(SLUICE_SOURCE_DIR) / GetParam()}};
    options.device = test_device::name();
    options.num_threads = 2;
    options.block_size = kBlockSize;
    options.max_num_seqs = std::min(16, setting.max_num_batched_tokens);
    options.max_num_batched_tokens = setting.max_num_batched_tokens;
    options.enable_prefix_caching = setting.caches;
    options.kv_cache_bytes = int64_t{32} << 20;
    auto service = create_service(options);
    if (setting.kv_tokens > 0 && service) {
      options.kv_cache_bytes = (*service)->models()[0].kv_bytes_per_token * setting.kv_tokens;
      service = create_service(options);
    }
    EXPECT_TRUE(service.has_value()) << service.error().message;
    return service ? std::move(*service) : nullptr;
  }

  static std::shared_ptr<WaitingObserver> start(Service& service, const GenerateRequest& request) {
    auto observer = std::make_shared<WaitingObserver>();
    const auto call = service.generate(request, observer);
    EXPECT_TRUE(call.has_value()) << call.error().message;
    return observer;
  }

  static Outcome outcome(WaitingObserver& observer) {
    Outcome outcome;
    const auto& summary = observer.wait();
    EXPECT_TRUE(summary.has_value()) << summary.error().message;
    if (!summary) return outcome;
    outcome.cached_tokens = summary->usage.cached_tokens;
    // Chunks join tokens by chance, and completions come in any order.
    for (int32_t index = 0; index < 8; ++index) {
      for (const GenerateChunk& chunk : observer.chunks()) {
        if (chunk.index != index) continue;
        outcome.answer.tokens.insert(outcome.answer.tokens.end(), chunk.token_ids.begin(),
                                     chunk.token_ids.end());
        for (const PositionLogprobs& position : chunk.logprobs) {
          outcome.answer.bits.push_back(std::bit_cast<uint32_t>(position.token.logprob));
          for (const TokenLogprob& entry : position.top) {
            outcome.answer.bits.push_back(std::bit_cast<uint32_t>(entry.logprob));
          }
        }
      }
      outcome.answer.tokens.push_back(-index - 1);
    }
    return outcome;
  }

  static Outcome run(Service& service, const GenerateRequest& request) {
    return outcome(*start(service, request));
  }
};

// Prompts of one beginning, `num_tokens` long; `last` makes the last token its own.
GenerateRequest request_of(int num_tokens, int64_t last, uint64_t seed = 5) {
  GenerateRequest request;
  request.token_ids.emplace();
  for (int t = 0; t < num_tokens; ++t) request.token_ids->push_back(3 + t * 37 % 190);
  request.token_ids->back() = last;
  request.max_tokens = 12;
  request.ignore_eos = true;
  request.seed = seed;
  request.top_p = 0.9;
  request.logprobs = 2;
  return request;
}

TEST_P(PrefixCacheTest, AHitChangesNoBit) {
  const auto computing = make({.caches = false});
  const auto caching = make({});
  const auto chunking = make({.max_num_batched_tokens = 5});
  ASSERT_TRUE(computing && caching && chunking);
  for (const int num_tokens : {1, 15, 16, 17, 31, 32, 33, 49, 80}) {
    SCOPED_TRACE(num_tokens);
    const GenerateRequest request = request_of(num_tokens, 11);
    const Outcome expected = run(*computing, request);
    EXPECT_EQ(expected.cached_tokens, 0);
    for (Service* service : {caching.get(), chunking.get()}) {
      EXPECT_EQ(run(*service, request).answer, expected.answer);
      const Outcome hit = run(*service, request);
      EXPECT_EQ(hit.answer, expected.answer);
      EXPECT_EQ(hit.cached_tokens, (num_tokens - 1) / kBlockSize * kBlockSize);
      // Another end: the full blocks before it are shared, its own block is not.
      const GenerateRequest other = request_of(num_tokens, 12, 6);
      EXPECT_EQ(run(*service, other).answer, run(*computing, other).answer);
    }
  }
  EXPECT_EQ(computing->server_info().prefix_cache_hits, 0);
  EXPECT_GT(caching->server_info().prefix_cache_hits, 0);
  EXPECT_GT(caching->server_info().prefix_cache_queries, caching->server_info().prefix_cache_hits);
}

TEST_P(PrefixCacheTest, AConversationGoesOnFromItsOwnAnswer) {
  const auto computing = make({.caches = false});
  const auto caching = make({});
  ASSERT_TRUE(computing && caching);
  GenerateRequest request = request_of(30, 11);
  for (int turn = 0; turn < 3; ++turn) {
    const Outcome found = run(*caching, request);
    EXPECT_EQ(found.answer, run(*computing, request).answer);
    // Of the turn before all but its last drawn token was in the cache.
    const auto before = static_cast<int32_t>(request.token_ids->size()) - 14;
    EXPECT_EQ(found.cached_tokens, turn == 0 ? 0 : (before + 11) / kBlockSize * kBlockSize);
    for (const int32_t token : found.answer.tokens) {
      if (token >= 0) request.token_ids->push_back(token);
    }
    request.token_ids->insert(request.token_ids->end(), {21, 22});
  }
}

TEST_P(PrefixCacheTest, CompletionsPromptLogprobsAndEcho) {
  const auto computing = make({.caches = false});
  const auto caching = make({});
  ASSERT_TRUE(computing && caching);
  GenerateRequest many = request_of(40, 11);
  many.n = 3;
  const Answer expected = run(*computing, many).answer;
  EXPECT_EQ(run(*caching, many).answer, expected);
  const Outcome hit = run(*caching, many);
  EXPECT_EQ(hit.answer, expected);
  EXPECT_EQ(hit.cached_tokens, 32);

  GenerateRequest scored = request_of(40, 11);
  scored.prompt_logprobs = 2;
  const Outcome computed = run(*caching, scored);
  EXPECT_EQ(computed.answer, run(*computing, scored).answer);
  EXPECT_EQ(computed.cached_tokens, 0);  // every position's logits are wanted

  GenerateRequest echoed = request_of(40, 11);
  echoed.echo = true;
  const Outcome echo = run(*caching, echoed);
  EXPECT_EQ(echo.answer, run(*computing, echoed).answer);
  EXPECT_EQ(echo.cached_tokens, 32);
}

// A pool that is too small for all: prefixes are evicted, sequences preempted, and start again from
// what is left of their own blocks.
TEST_P(PrefixCacheTest, EvictedAndPreempted) {
  const auto computing = make({.caches = false});
  const auto caching = make({.max_num_batched_tokens = 48, .kv_tokens = 160});
  ASSERT_TRUE(computing && caching);
  constexpr int kRequests = 8;
  const auto request = [](int i) {
    GenerateRequest one = request_of(20 + i, i, static_cast<uint64_t>(i));
    one.max_tokens = 40;
    return one;
  };
  std::vector<Answer> expected;
  for (int i = 0; i < kRequests; ++i) expected.push_back(run(*computing, request(i)).answer);
  for (int round = 0; round < 3; ++round) {
    std::vector<std::shared_ptr<WaitingObserver>> observers;
    for (int i = 0; i < kRequests; ++i) observers.push_back(start(*caching, request(i)));
    for (int i = 0; i < kRequests; ++i) {
      EXPECT_EQ(outcome(*observers[static_cast<size_t>(i)]).answer,
                expected[static_cast<size_t>(i)]);
    }
  }
  const ServerInfo info = caching->server_info();
  EXPECT_GT(info.preemptions, 0);
  EXPECT_GT(info.prefix_cache_hits, 0);
  EXPECT_EQ(info.kv_blocks_used, 0);
}

INSTANTIATE_TEST_SUITE_P(Models, PrefixCacheTest,
                         testing::Values("tests/golden/variants/llama_gqa_tied_bf16",
                                         "tests/golden/variants/bloom_3_heads_f32"),
                         [](const auto& info) { return fs::path(info.param).filename().string(); });

}  // namespace
}  // namespace sluice::engine
