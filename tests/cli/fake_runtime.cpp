#include "tests/cli/fake_runtime.h"

#include <algorithm>

#include "sluice/import.h"

namespace sluice::cli {
namespace {

class FakeCall final : public GenerateCall {
 public:
  explicit FakeCall(FakeService& service) : service_(service) {}
  void cancel() override { ++service_.num_cancelled; }
  void delivered(int32_t num_tokens) override { service_.num_delivered += num_tokens; }
  int32_t num_prompt_tokens() const override { return 1; }

 private:
  FakeService& service_;
};

}  // namespace

Result<std::shared_ptr<GenerateCall>> FakeService::generate(
    GenerateRequest request, std::shared_ptr<GenerateObserver> observer) {
  if (check) {
    if (const auto checked = check(request); !checked) return std::unexpected(checked.error());
  }
  if (held_.size() >= capacity) {
    if (on_full) on_full();
    return fail(ErrorCode::kResourceExhausted, "queue is full");
  }
  held_.emplace_back(std::move(request), std::move(observer));
  most_live = std::max(most_live, held_.size());
  if (!hold) release(held_.size() - 1);
  return std::make_shared<FakeCall>(*this);
}

void FakeService::release(size_t place) {
  const Held held = held_[place];
  held_.erase(held_.begin() + static_cast<std::ptrdiff_t>(place));
  answer(held);
}

// The prompt's letters come back one a token, in every completion.
void FakeService::answer(const Held& held) {
  const auto& [request, observer] = held;
  const auto num_completions = static_cast<int32_t>(request.n.value_or(1));
  for (int32_t index = 0; index < num_completions; ++index) {
    for (const char letter : *request.prompt) {
      GenerateChunk chunk;
      chunk.index = index;
      chunk.text = letter;
      chunk.token_ids = {letter};
      observer->on_chunk(chunk);
    }
    GenerateChunk last;
    last.index = index;
    last.finish_reason = FinishReason::kLength;
    observer->on_chunk(last);
  }
  GenerateSummary summary;
  summary.seed = request.seed.value_or(0);
  summary.usage.prompt_tokens = static_cast<int32_t>(request.prompt->size());
  observer->on_end(summary);
}

Result<std::vector<int32_t>> FakeService::tokenize(std::string_view, std::string_view, bool) {
  return std::vector<int32_t>();
}
Result<RenderedChat> FakeService::render_chat(std::string_view, const ChatPrompt&) {
  return RenderedChat();
}
Result<std::string> FakeService::detokenize(std::string_view, const std::vector<int64_t>&, bool) {
  return std::string();
}
std::vector<ModelInfo> FakeService::models() const {
  ModelInfo model;
  model.vocabulary_size = 256;
  return {model};
}

}  // namespace sluice::cli

// What the engine's layer defines; no test of the command line's parts needs the real ones.
namespace sluice {
Result<std::unique_ptr<Service>> create_service(RuntimeOptions) {
  return fail(ErrorCode::kUnimplemented, "no engine in this test");
}
StepStatistics take_step_statistics(Service&) {
  return {};
}
MachineReport inspect_machine() {
  return {};
}
Result<MemoryPlan> plan_memory(const std::filesystem::path&, const std::string&) {
  return fail(ErrorCode::kUnimplemented, "no engine in this test");
}
Result<void> import_model(const ImportOptions&) {
  return fail(ErrorCode::kUnimplemented, "no engine in this test");
}
}  // namespace sluice
