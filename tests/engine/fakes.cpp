#include "tests/engine/fakes.h"

#include <algorithm>

#include "base/utf8.h"

namespace sluice::engine {
namespace {

constexpr std::string_view kEndSpelling = "</s>";

}  // namespace

Result<std::vector<int32_t>> LetterTokenizer::encode(std::string_view text, bool) const {
  std::vector<int32_t> ids;
  for (const char letter : text) {
    if (letter >= 'a' && letter <= 'z') ids.push_back(letter - 'a');
  }
  return ids;
}

Result<std::vector<int32_t>> LetterTokenizer::encode_with_special_tokens(
    std::string_view text, std::span<const size_t> plain_at) const {
  std::vector<int32_t> ids;
  size_t done = 0;
  const auto add_plain = [&](size_t end) {
    const auto letters = *encode(text.substr(done, end - done), false);
    ids.insert(ids.end(), letters.begin(), letters.end());
  };
  for (const size_t begin : find_special_tokens(text)) {
    if (std::ranges::binary_search(plain_at, begin)) continue;
    add_plain(begin);
    ids.push_back(kEnd);
    done = begin + kEndSpelling.size();
  }
  add_plain(text.size());
  return ids;
}

std::vector<size_t> LetterTokenizer::find_special_tokens(std::string_view text) const {
  std::vector<size_t> offsets;
  for (size_t pos = text.find(kEndSpelling); pos != std::string_view::npos;
       pos = text.find(kEndSpelling, pos + 1)) {
    offsets.push_back(pos);
  }
  return offsets;
}

std::string LetterTokenizer::decode(std::span<const int32_t> token_ids,
                                    bool skip_special_tokens) const {
  std::string bytes;
  for (const int32_t id : token_ids) {
    if (!(skip_special_tokens && is_special(id))) bytes += token_bytes(id, false);
  }
  std::string text;
  append_repaired_utf8(bytes, true, utf8_repair(), &text);
  return text;
}

std::string LetterTokenizer::token_bytes(int32_t token_id, bool) const {
  if (token_id == kEnd) return std::string(kEndSpelling);
  if (token_id == 27) return "\xc3";
  if (token_id == 28) return "\xa9";
  return std::string(1, static_cast<char>('a' + token_id));
}

// Draws at once; time passes when it is collected.
Result<void> ScriptedExecutor::launch(StepInput& input) {
  EXPECT_LT(num_under_way_, overlaps_ ? 2u : 1u);
  ++script_->num_steps;
  model::StepBatch& batch = input.batch;
  script_->max_rows = std::max(script_->max_rows, static_cast<int32_t>(batch.tokens.size()));
  const std::vector<sampling::RowResult>& drawn = steps_[newest_].results;
  for (size_t t = 0; t < batch.tokens.size(); ++t) {
    if (batch.tokens[t] < 0) {
      EXPECT_EQ(num_under_way_, 1u) << "a token of no step under way";
      batch.tokens[t] = drawn.at(static_cast<size_t>(-1 - batch.tokens[t])).token_id;
    }
    if (batch.positions[t] == 0) script_->starts.push_back(batch.tokens[t]);
  }
  newest_ = 1 - newest_;
  Step& step = steps_[newest_];
  step.input = &input;
  step.error.reset();
  if (script_->fails) step.error = script_->fails(input);
  if (step.error && overlaps_) {
    newest_ = 1 - newest_;
    return std::unexpected(*step.error);
  }
  if (!step.error) draw(input, step.results);
  ++num_under_way_;
  return {};
}

Result<std::span<sampling::RowResult>> ScriptedExecutor::collect() {
  EXPECT_GT(num_under_way_, 0u);
  Step& step = steps_[--num_under_way_ == 0 ? newest_ : 1 - newest_];
  if (script_->computes) script_->computes(*step.input);
  if (step.error) return std::unexpected(*step.error);
  return std::span(step.results);
}

void ScriptedExecutor::draw(const StepInput& input, std::vector<sampling::RowResult>& results) {
  const model::StepBatch& batch = input.batch;
  results.assign(input.rows.size(), {});
  script_->last_forbidden.clear();
  for (size_t r = 0; r < input.rows.size(); ++r) {
    const sampling::RowTask& task = input.rows[r];
    sampling::RowResult& result = results[r];
    const auto row = static_cast<size_t>(batch.logit_rows[r]);
    const int32_t last = batch.tokens[row];
    const auto position = static_cast<uint32_t>(batch.positions[row]) + 1;
    script_->last_forbidden.emplace_back(task.forbidden.begin(), task.forbidden.end());
    result.token_id = task.scored_token >= 0 ? task.scored_token
                      : script_->token       ? script_->token(last, position)
                                             : default_token(last, position);
    result.logprob = -0.5f * static_cast<float>(position);
    if (task.num_logprobs > 0) result.top.push_back({result.token_id, result.logprob});
    if (script_->fault) result.fault = script_->fault(last, position);
  }
}

void Recorder::on_chunk(GenerateChunk chunk) {
  const std::lock_guard lock(mutex_);
  EXPECT_FALSE(end_.has_value()) << "a chunk after the end";
  chunks_.push_back(std::move(chunk));
}

void Recorder::on_usage(const Usage& usage, FinishReason reason) {
  const std::lock_guard lock(mutex_);
  EXPECT_FALSE(usage_.has_value() || end_.has_value()) << "once, before the end";
  usage_ = {usage, reason};
}

void Recorder::on_end(Result<GenerateSummary> end) {
  const std::lock_guard lock(mutex_);
  EXPECT_FALSE(end_.has_value()) << "a second end";
  EXPECT_TRUE(usage_.has_value()) << "an end without its usage";
  end_ = std::move(end);
  has_ended_.store(true);
}

std::pair<Usage, FinishReason> Recorder::usage() const {
  const std::lock_guard lock(mutex_);
  return usage_.value();
}

std::vector<GenerateChunk> Recorder::chunks() const {
  const std::lock_guard lock(mutex_);
  return chunks_;
}

std::vector<int32_t> Recorder::tokens(int32_t index) const {
  std::vector<int32_t> tokens;
  for (const GenerateChunk& chunk : chunks()) {
    if (chunk.index != index || chunk.is_prompt) continue;
    tokens.insert(tokens.end(), chunk.token_ids.begin(), chunk.token_ids.end());
  }
  return tokens;
}

std::string Recorder::text(int32_t index) const {
  std::string text;
  for (const GenerateChunk& chunk : chunks()) {
    if (chunk.index == index && !chunk.is_prompt) text += chunk.text;
  }
  return text;
}

std::optional<GenerateChunk> Recorder::last_chunk(int32_t index) const {
  std::optional<GenerateChunk> last;
  for (const GenerateChunk& chunk : chunks()) {
    if (chunk.index == index) last = chunk;
  }
  return last;
}

Result<GenerateSummary> Recorder::end() const {
  const std::lock_guard lock(mutex_);
  return *end_;
}

FakeService::FakeService(const FakeServiceOptions& options) {
  scheduler::SchedulerOptions scheduling;
  scheduling.num_blocks = options.num_blocks;
  scheduling.block_size = options.block_size;
  scheduling.max_model_len = options.max_model_len;
  scheduling.max_num_seqs = options.max_num_seqs;
  scheduling.max_num_batched_tokens = options.max_num_batched_tokens;
  scheduling.keep_prefixes = options.keep_prefixes;
  scheduling.stall_time = options.limits.stall_time;
  auto scheduler = scheduler::Scheduler::create(scheduling);
  EXPECT_TRUE(scheduler.has_value());

  ServiceParts parts;
  ServedModel& model = parts.models.emplace_back();
  model.info.name = "letters";
  model.info.vocabulary_size = LetterTokenizer::kSize;
  model.info.context_length = options.max_model_len;
  model.info.kv_capacity_tokens = int64_t{options.num_blocks} * options.block_size;
  model.info.end_token_ids = options.end_token_ids;
  model.info.profile = "scripted/1";
  if (options.has_tokenizer) model.tokenizer = std::make_unique<LetterTokenizer>();
  if (options.make_chat) model.chat = options.make_chat(*model.tokenizer);
  parts.lanes.push_back(std::make_unique<Lane>(
      std::move(*scheduler), std::make_unique<ScriptedExecutor>(script, options.overlaps),
      [this](const std::string& line) { notices.push_back(line); }));
  parts.on_device_lost = [this](const std::string& why) { lost.push_back(why); };
  parts.limits = options.limits;
  parts.live_within = options.live_within;
  parts.max_num_seqs = options.max_num_seqs;
  service = std::make_unique<EngineService>(std::move(parts), clock);
}

std::shared_ptr<Recorder> FakeService::start(GenerateRequest request) {
  auto recorder = std::make_shared<Recorder>();
  auto accepted = service->generate(std::move(request), recorder);
  EXPECT_TRUE(accepted.has_value()) << accepted.error().message;
  if (accepted) call = *accepted;
  return recorder;
}

void FakeService::run_until_idle() {
  for (int round = 0; round < 10000; ++round) {
    if (!service->tick()) return;
  }
  FAIL() << "the service does not come to rest";
}

GenerateRequest request_of(std::vector<int64_t> token_ids, int64_t max_tokens) {
  GenerateRequest request;
  request.token_ids = std::move(token_ids);
  request.max_tokens = max_tokens;
  return request;
}

std::vector<int32_t> expected_tokens(const std::vector<int64_t>& prompt, int32_t count) {
  std::vector<int32_t> tokens;
  auto last = static_cast<int32_t>(prompt.back());
  for (int32_t i = 0; i < count; ++i) {
    last = ScriptedExecutor::default_token(
        last, static_cast<uint32_t>(prompt.size()) + static_cast<uint32_t>(i));
    tokens.push_back(last);
  }
  return tokens;
}

}  // namespace sluice::engine
