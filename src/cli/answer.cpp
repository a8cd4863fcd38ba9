#include "cli/answer.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <iterator>
#include <nlohmann/json.hpp>

namespace sluice::cli {
namespace {

using OrderedJson = nlohmann::ordered_json;

// A double that prints as the float's shortest decimal; JSON has no infinity, so that is null.
OrderedJson shortest(float value) {
  if (!std::isfinite(value)) return nullptr;
  char digits[32];
  const auto written = std::to_chars(std::begin(digits), std::end(digits), value);
  double parsed = 0;
  std::from_chars(digits, written.ptr, parsed);
  return parsed;
}

OrderedJson to_json(const TokenLogprob& token) {
  return {{"token_id", token.token_id}, {"logprob", shortest(token.logprob)}, {"text", token.text}};
}

OrderedJson to_json(const std::vector<PositionLogprobs>& positions) {
  OrderedJson list = OrderedJson::array();
  for (const PositionLogprobs& position : positions) {
    OrderedJson entry = to_json(position.token);
    OrderedJson top = OrderedJson::array();
    for (const TokenLogprob& candidate : position.top) top.push_back(to_json(candidate));
    entry["top"] = std::move(top);
    list.push_back(std::move(entry));
  }
  return list;
}

std::string dump(const OrderedJson& json) {
  return json.dump(-1, ' ', false, OrderedJson::error_handler_t::replace) + "\n";
}

}  // namespace

Answer::Answer(const GenerateRequest& request)
    : completions(std::clamp<int64_t>(request.n.value_or(1), 1, 1 << 16)),
      has_logprobs(request.logprobs.has_value()) {}

void Answer::add(const GenerateChunk& chunk) {
  if (chunk.index < 0 || static_cast<size_t>(chunk.index) >= completions.size()) return;
  Completion& completion = completions[chunk.index];
  completion.text += chunk.text;
  completion.token_ids.insert(completion.token_ids.end(), chunk.token_ids.begin(),
                              chunk.token_ids.end());
  auto& logprobs = chunk.is_prompt ? completion.prompt_logprobs : completion.logprobs;
  logprobs.insert(logprobs.end(), chunk.logprobs.begin(), chunk.logprobs.end());
  if (!chunk.is_prompt) completion.num_tokens += static_cast<int32_t>(chunk.token_ids.size());
  if (chunk.finish_reason) completion.finish_reason = chunk.finish_reason;
  if (chunk.stop_reason) completion.stop_reason = chunk.stop_reason;
}

std::string answer_lines(int64_t index, const Answer& answer, const GenerateSummary& summary) {
  std::string lines;
  for (size_t i = 0; i < answer.completions.size(); ++i) {
    const Completion& completion = answer.completions[i];
    OrderedJson json = {{"index", index}};
    if (answer.completions.size() > 1) json["completion"] = i;
    json["text"] = completion.text;
    json["token_ids"] = completion.token_ids;
    json["logprobs"] = answer.has_logprobs ? to_json(completion.logprobs) : OrderedJson(nullptr);
    if (!completion.prompt_logprobs.empty()) {
      json["prompt_logprobs"] = to_json(completion.prompt_logprobs);
    }
    json["finish_reason"] = completion.finish_reason
                                ? OrderedJson(to_string(*completion.finish_reason))
                                : OrderedJson(nullptr);
    if (completion.stop_reason) json["stop_reason"] = *completion.stop_reason;
    json["usage"] = {{"prompt_tokens", summary.usage.prompt_tokens},
                     {"cached_tokens", summary.usage.cached_tokens},
                     {"completion_tokens", completion.num_tokens}};
    json["seed"] = summary.seed;
    json["profile"] = summary.profile;
    json["digest"] = summary.digest;
    lines += dump(json);
  }
  return lines;
}

std::string error_line(int64_t index, const Error& error) {
  return dump(
      {{"index", index}, {"error", {{"code", to_string(error.code)}, {"message", error.message}}}});
}

}  // namespace sluice::cli
