#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "engine/engine_service.h"
#include "engine/step_executor.h"
#include "tokenizer/tokenizer.h"

// A whole service on a scripted model and a clock that tests set.
namespace sluice::engine {

class FakeClock final : public base::Clock {
 public:
  base::TimePoint now() const override { return base::TimePoint(base::Duration(ticks_.load())); }
  void advance(base::Duration duration) { ticks_.fetch_add(duration.count()); }

 private:
  std::atomic<base::Duration::rep> ticks_{std::chrono::hours(1) / base::Duration(1)};
};

// One letter a token: id 0 is "a". Id 26 is the end token, 27 the first and 28 the second byte of
// a two-byte character.
class LetterTokenizer final : public tokenizer::Tokenizer {
 public:
  static constexpr int32_t kSize = 29;
  static constexpr int32_t kEnd = 26;

  Result<std::vector<int32_t>> encode(std::string_view text, bool) const override;
  // Finds "</s>".
  Result<std::vector<int32_t>> encode_with_special_tokens(
      std::string_view text, std::span<const size_t> plain_at) const override;
  std::vector<size_t> find_special_tokens(std::string_view text) const override;
  std::string decode(std::span<const int32_t> token_ids, bool skip_special_tokens) const override;
  std::string token_bytes(int32_t token_id, bool at_start) const override;
  bool stays_at_start(int32_t) const override { return false; }
  bool is_special(int32_t token_id) const override { return token_id == kEnd; }
  int32_t vocabulary_size() const override { return kSize; }
};

// A model whose next token follows from the last one and its position; what goes wrong is
// scripted.
class ScriptedExecutor final : public StepExecutor {
 public:
  struct Script {
    // The step's error, if it has one. Default: none.
    std::function<std::optional<Error>(const StepInput&)> fails;
    // Called when a step is collected: what takes time.
    std::function<void(const StepInput&)> computes;
    // Whether the row that draws the token at `position` after `last` has this fault.
    std::function<sampling::RowFault(int32_t last, uint32_t position)> fault;
    // The token drawn; the default is default_token.
    std::function<int32_t(int32_t last, uint32_t position)> token;
    int num_steps = 0;
    int32_t max_rows = 0;                              // of any step
    std::vector<int32_t> starts;                       // tokens seen at position 0
    std::vector<std::vector<int32_t>> last_forbidden;  // of the newest step's rows
  };

  // `overlaps`: two steps may be under way. SLUICE_TEST_OVERLAP, if it is set, says so for tests
  // that do not.
  ScriptedExecutor(std::shared_ptr<Script> script, bool overlaps)
      : script_(std::move(script)), overlaps_(overlaps) {}

  // Any letter but "a", so that a prompt of a's never shows in the output.
  static int32_t default_token(int32_t last, uint32_t position) {
    return static_cast<int32_t>((static_cast<uint32_t>(last) * 7 + position * 5 + 3) % 25) + 1;
  }

  int max_under_way() const override { return overlaps_ ? 2 : 1; }
  Result<void> launch(StepInput& input) override;
  Result<std::span<sampling::RowResult>> collect() override;

 private:
  struct Step {
    StepInput* input = nullptr;
    std::optional<Error> error;
    std::vector<sampling::RowResult> results;
  };
  void draw(const StepInput& input, std::vector<sampling::RowResult>& results);

  std::shared_ptr<Script> script_;
  const bool overlaps_;
  Step steps_[2];  // in turns
  size_t newest_ = 0;
  size_t num_under_way_ = 0;
};

// Keeps everything it gets. Threads: any.
class Recorder final : public GenerateObserver {
 public:
  void on_chunk(GenerateChunk chunk) override;
  void on_usage(const Usage& usage, FinishReason reason) override;
  void on_end(Result<GenerateSummary> end) override;

  std::vector<GenerateChunk> chunks() const;
  std::vector<int32_t> tokens(int32_t index = 0) const;  // generated ones
  std::string text(int32_t index = 0) const;
  std::optional<GenerateChunk> last_chunk(int32_t index = 0) const;
  bool has_ended() const { return has_ended_.load(); }
  // Requires: has_ended().
  Result<GenerateSummary> end() const;
  std::pair<Usage, FinishReason> usage() const;  // requires the same

 private:
  mutable std::mutex mutex_;
  std::vector<GenerateChunk> chunks_;
  std::optional<std::pair<Usage, FinishReason>> usage_;
  std::optional<Result<GenerateSummary>> end_;
  std::atomic<bool> has_ended_{false};
};

struct FakeServiceOptions {
  int32_t num_blocks = 64;
  int32_t block_size = 4;
  int32_t max_model_len = 64;
  int32_t max_num_seqs = 8;
  int32_t max_num_batched_tokens = 32;
  bool has_tokenizer = true;
  bool keep_prefixes = false;
  bool overlaps = std::getenv("SLUICE_TEST_OVERLAP") != nullptr;
  std::vector<int32_t> end_token_ids = {LetterTokenizer::kEnd};
  // Default: no chats.
  std::function<std::unique_ptr<ChatRenderer>(const tokenizer::Tokenizer&)> make_chat;
  ServiceLimits limits;
  base::Duration live_within = RuntimeOptions().live_within;
};

struct FakeService {
  explicit FakeService(const FakeServiceOptions& options = {});

  // Accepts the request or fails the test.
  std::shared_ptr<Recorder> start(GenerateRequest request);
  // Ticks until nothing moves. Fails the test after a great many rounds.
  void run_until_idle();

  FakeClock clock;
  std::shared_ptr<ScriptedExecutor::Script> script = std::make_shared<ScriptedExecutor::Script>();
  std::vector<std::string> notices;
  std::vector<std::string> lost;  // reasons of on_device_lost
  std::unique_ptr<EngineService> service;
  std::shared_ptr<GenerateCall> call;  // of the newest start()
};

// A request of token ids.
GenerateRequest request_of(std::vector<int64_t> token_ids, int64_t max_tokens);

// What the scripted model generates after `prompt`.
std::vector<int32_t> expected_tokens(const std::vector<int64_t>& prompt, int32_t count);

}  // namespace sluice::engine
