#include "engine/validator.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <string_view>
#include <utility>

#include "base/random_id.h"
#include "base/utf8.h"

namespace sluice::engine {
namespace {

// A number as a person would write it: no digits that a double does not have.
std::string show(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.9g", value);
  return text;
}
std::string show(int64_t value) {
  return std::to_string(value);
}

template <typename Number>
std::unexpected<Error> must_be(const std::string& name, Number value, const std::string& range) {
  return invalid_argument(name + " is " + show(value) + ", must be " + range);
}

// The value or its default, if in [low, high]; NaN is in no range.
template <typename Number>
Result<Number> in_range(const char* name, std::optional<Number> value, Number fallback, Number low,
                        Number high) {
  const Number number = value.value_or(fallback);
  if (number >= low && number <= high) return number;
  return must_be(name, number, "from " + show(low) + " to " + show(high));
}

uint64_t draw_seed() {
  static thread_local std::random_device device;
  return uint64_t{device()} << 32 | device();
}

// Checks one request, part by part; each part writes what it found into `checked_`.
class RequestCheck final {
 public:
  RequestCheck(GenerateRequest&& request, const ServedModel& model, const ServiceLimits& limits)
      : request_(std::move(request)), model_(model), limits_(limits) {}

  Result<CheckedRequest> run(base::TimePoint now) {
    using Part = Result<void> (RequestCheck::*)();
    for (const Part part :
         {&RequestCheck::check_id, &RequestCheck::check_distribution,
          &RequestCheck::check_penalties, &RequestCheck::check_logit_bias,
          &RequestCheck::check_logprobs, &RequestCheck::check_stops, &RequestCheck::check_times,
          &RequestCheck::check_prompt, &RequestCheck::check_lengths}) {
      if (auto result = (this->*part)(); !result) return std::unexpected(result.error());
    }
    checked_.arrival = now;
    checked_.deadline = base::after(now, limits_.max_request_age);
    if (request_.deadline) checked_.deadline = std::min(checked_.deadline, *request_.deadline);
    if (checked_.deadline <= now) {
      return fail(ErrorCode::kDeadlineExceeded, "the request's deadline has passed");
    }
    if (request_.ttft_limit) checked_.first_token_by = now + *request_.ttft_limit;
    if (request_.total_limit) checked_.last_token_by = now + *request_.total_limit;
    checked_.client = std::move(request_.client);
    checked_.sampling.seed = request_.seed.value_or(draw_seed());
    checked_.echo = request_.echo;
    checked_.skip_special_tokens = request_.skip_special_tokens;
    return std::move(checked_);
  }

 private:
  Result<void> check_id() {
    if (request_.request_id.size() > kMaxRequestIdBytes) {
      return must_be("length of request_id", static_cast<int64_t>(request_.request_id.size()),
                     "at most " + std::to_string(kMaxRequestIdBytes) + " bytes");
    }
    if (find_ill_formed_utf8(request_.request_id) != std::string::npos) {
      return invalid_argument("request_id is not well-formed UTF-8");
    }
    checked_.id = request_.request_id.empty() ? random_id(kRequestIdDigits) : request_.request_id;
    return {};
  }

  Result<void> check_times() {
    using Milliseconds = std::chrono::duration<double, std::milli>;
    const auto check = [](const char* name, const auto& limit) -> Result<void> {
      if (!limit || (*limit >= std::chrono::milliseconds(1) && *limit <= kMaxTimeLimit)) return {};
      return must_be(name, Milliseconds(*limit).count(),
                     "from 1 to " + show(int64_t{kMaxTimeLimit.count()}));
    };
    if (auto checked = check("ttft_ms", request_.ttft_limit); !checked) return checked;
    return check("total_ms", request_.total_limit);
  }

  Result<void> check_distribution() {
    sampling::SamplingParams& params = checked_.sampling;
    const auto temperature =
        in_range("temperature", request_.temperature, 1.0, 0.0, kMaxTemperature);
    if (!temperature) return std::unexpected(temperature.error());
    params.temperature = static_cast<float>(*temperature);

    // Rounded to float first: what is above 0 only as a double would be 0 to the sampler.
    const double top_p = request_.top_p.value_or(1);
    params.top_p = static_cast<float>(top_p);
    if (!(params.top_p > 0 && top_p <= 1)) {
      return must_be("top_p", top_p, "above 0 and at most 1");
    }
    const int64_t top_k = request_.top_k.value_or(0);
    const int64_t vocabulary = model_.info.vocabulary_size;
    if (top_k < -1 || top_k > vocabulary) {
      return must_be("top_k", top_k,
                     "from 1 to " + show(vocabulary) + " (the vocabulary), or 0 or -1 for off");
    }
    params.top_k = static_cast<int32_t>(std::max<int64_t>(0, top_k));

    const auto min_p = in_range("min_p", request_.min_p, 0.0, 0.0, 1.0);
    if (!min_p) return std::unexpected(min_p.error());
    params.min_p = static_cast<float>(*min_p);
    return {};
  }

  Result<void> check_penalties() {
    sampling::SamplingParams& params = checked_.sampling;
    const auto repetition = in_range("repetition_penalty", request_.repetition_penalty, 1.0,
                                     kMinRepetitionPenalty, kMaxRepetitionPenalty);
    if (!repetition) return std::unexpected(repetition.error());
    params.repetition_penalty = static_cast<float>(*repetition);
    const auto presence = in_range("presence_penalty", request_.presence_penalty, 0.0,
                                   -kMaxAdditivePenalty, kMaxAdditivePenalty);
    if (!presence) return std::unexpected(presence.error());
    params.presence_penalty = static_cast<float>(*presence);
    const auto frequency = in_range("frequency_penalty", request_.frequency_penalty, 0.0,
                                    -kMaxAdditivePenalty, kMaxAdditivePenalty);
    if (!frequency) return std::unexpected(frequency.error());
    params.frequency_penalty = static_cast<float>(*frequency);
    return {};
  }

  Result<void> check_logit_bias() {
    if (auto count = check_count("logit_bias", request_.logit_bias.size(), limits_.max_logit_bias);
        !count) {
      return count;
    }
    auto& biases = checked_.sampling.logit_bias;
    for (size_t i = 0; i < request_.logit_bias.size(); ++i) {
      const LogitBias& entry = request_.logit_bias[i];
      const std::string name = "logit_bias[" + std::to_string(i) + "]";
      if (auto id = check_token_id(name + ".token_id", entry.token_id); !id) return id;
      const bool forbids = std::isinf(entry.bias) && entry.bias < 0;
      if (!forbids && !(std::abs(entry.bias) <= kMaxLogitBias)) {
        return must_be(
            name + ".bias", entry.bias,
            "from " + show(-kMaxLogitBias) + " to " + show(kMaxLogitBias) + ", or -infinity");
      }
      biases.emplace_back(static_cast<int32_t>(entry.token_id), static_cast<float>(entry.bias));
    }
    std::ranges::sort(biases);
    const auto twice =
        std::ranges::adjacent_find(biases, {}, [](const auto& b) { return b.first; });
    if (twice != biases.end()) {
      return invalid_argument("logit_bias names token_id " + std::to_string(twice->first) +
                              " twice");
    }
    return {};
  }

  Result<void> check_logprobs() {
    const auto check = [&](const char* name, std::optional<int64_t> value, int32_t& result) {
      const auto number = in_range<int64_t>(name, value, 0, 0, limits_.max_logprobs);
      if (number && value) result = static_cast<int32_t>(*number);
      return number;
    };
    sampling::SamplingParams& params = checked_.sampling;
    if (auto r = check("logprobs", request_.logprobs, params.num_logprobs); !r) {
      return std::unexpected(r.error());
    }
    if (auto r = check("prompt_logprobs", request_.prompt_logprobs, params.num_prompt_logprobs);
        !r) {
      return std::unexpected(r.error());
    }
    const auto n = in_range<int64_t>("n", request_.n, 1, 1, limits_.max_n);
    if (!n) return std::unexpected(n.error());
    checked_.n = static_cast<int32_t>(*n);
    return {};
  }

  Result<void> check_stops() {
    if (auto count = check_count("stop", request_.stop.size(), limits_.max_stop_strings); !count) {
      return count;
    }
    if (!request_.stop.empty() && model_.tokenizer == nullptr) {
      return invalid_argument(
          "stop needs text, and the model has no tokenizer: use stop_token_ids");
    }
    for (size_t i = 0; i < request_.stop.size(); ++i) {
      const std::string& text = request_.stop[i];
      const std::string name = "stop[" + std::to_string(i) + "]";
      if (text.empty() || text.size() > static_cast<size_t>(limits_.max_stop_bytes)) {
        return must_be("length of " + name, static_cast<int64_t>(text.size()),
                       "from 1 to " + std::to_string(limits_.max_stop_bytes) + " bytes");
      }
      if (find_ill_formed_utf8(text) != std::string::npos) {
        return invalid_argument(name + " is not well-formed UTF-8");
      }
    }
    if (!request_.stop.empty()) {
      checked_.stop_strings =
          std::make_shared<const sequence::StopStrings>(std::move(request_.stop));
    }
    if (auto count = check_count("stop_token_ids", request_.stop_token_ids.size(),
                                 limits_.max_stop_token_ids);
        !count) {
      return count;
    }
    auto ids =
        check_token_ids(request_.stop_token_ids, "stop_token_ids", model_.info.vocabulary_size);
    if (!ids) return std::unexpected(ids.error());
    checked_.stop.stop_token_ids = std::move(*ids);
    checked_.stop.end_token_ids = model_.info.end_token_ids;
    checked_.stop.ignore_eos = request_.ignore_eos;
    return {};
  }

  Result<void> check_prompt() {
    const int num_prompts =
        (request_.prompt ? 1 : 0) + (request_.token_ids ? 1 : 0) + (request_.chat ? 1 : 0);
    if (num_prompts != 1) {
      return invalid_argument(num_prompts == 0
                                  ? "prompt, token_ids and chat are all absent, must be one of them"
                                  : "more than one of prompt, token_ids and chat is set, must be "
                                    "one of them");
    }
    const auto read = request_.prompt ? tokenize_prompt()
                      : request_.chat ? read_chat()
                                      : read_token_ids();
    if (!read) return read;
    const auto num_tokens = static_cast<int64_t>(checked_.prompt.size());
    if (num_tokens == 0) {
      const std::string name = request_.token_ids ? "token_ids is empty"
                               : request_.chat    ? "the rendered chat has no tokens"
                                                  : "prompt has no tokens";
      return invalid_argument(name + ", must have at least one token");
    }
    return check_prompt_length(num_tokens);
  }

  Result<void> read_chat() {
    if (model_.chat == nullptr) {
      return fail(ErrorCode::kFailedPrecondition, model_.no_chat_reason);
    }
    auto rendered = model_.chat->render(*request_.chat, limits_);
    if (!rendered) return std::unexpected(rendered.error());
    checked_.prompt = std::move(rendered->token_ids);
    if (request_.echo) {
      checked_.prompt_text =
          model_.tokenizer->decode(checked_.prompt, request_.skip_special_tokens);
    }
    // A model whose configuration does not end at it would go on with the next speaker's words.
    const std::optional<int32_t> turn_end = model_.chat->turn_end_token_id();
    auto& ends = checked_.stop.end_token_ids;
    if (turn_end && std::ranges::find(ends, *turn_end) == ends.end()) ends.push_back(*turn_end);
    return {};
  }

  Result<void> tokenize_prompt() {
    std::string& text = *request_.prompt;
    if (model_.tokenizer == nullptr) {
      return invalid_argument("prompt is text, and the model has no tokenizer: use token_ids");
    }
    if (text.empty()) return invalid_argument("prompt is empty, must have at least one token");
    if (auto result = check_text("prompt", text, limits_); !result) return result;
    auto ids = model_.tokenizer->encode(text, /*add_special_tokens=*/true);
    if (!ids) return std::unexpected(ids.error());
    checked_.prompt = std::move(*ids);
    if (request_.echo) checked_.prompt_text = std::move(text);
    return {};
  }

  Result<void> read_token_ids() {
    // The number first: a list that cannot fit is not worth reading.
    const auto num_tokens = static_cast<int64_t>(request_.token_ids->size());
    if (auto result = check_prompt_length(num_tokens); !result) return result;
    auto ids = check_token_ids(*request_.token_ids, "token_ids", model_.info.vocabulary_size);
    if (!ids) return std::unexpected(ids.error());
    checked_.prompt = std::move(*ids);
    if (request_.echo && model_.tokenizer != nullptr) {
      checked_.prompt_text =
          model_.tokenizer->decode(checked_.prompt, request_.skip_special_tokens);
    }
    return {};
  }

  Result<void> check_prompt_length(int64_t num_tokens) {
    const int64_t context = model_.info.context_length;
    if (num_tokens > context) {
      return invalid_argument("prompt has " + show(num_tokens) + " tokens, limit is " +
                              show(context) + " (--max-model-len)");
    }
    if (num_tokens == context) {
      return invalid_argument("prompt has " + show(num_tokens) + " tokens, limit is " +
                              show(context) +
                              " (--max-model-len) with one at least to be generated");
    }
    return {};
  }

  Result<void> check_lengths() {
    const auto num_prompt = static_cast<int64_t>(checked_.prompt.size());
    const int64_t room = model_.info.context_length - num_prompt;
    const int64_t max_tokens = request_.max_tokens.value_or(room);
    if (max_tokens < 1 || max_tokens > room) {
      return must_be("max_tokens", max_tokens,
                     "from 1 to " + show(room) + ": " + show(int64_t{model_.info.context_length}) +
                         " (--max-model-len) less the prompt's " + show(num_prompt));
    }
    const int64_t min_tokens = request_.min_tokens.value_or(0);
    if (min_tokens < 0 || min_tokens > max_tokens) {
      return must_be("min_tokens", min_tokens,
                     "from 0 to max_tokens, which is " + show(max_tokens));
    }
    // The last token is drawn and never computed.
    const int64_t most = num_prompt + max_tokens - 1;
    if (most > model_.info.kv_capacity_tokens) {
      return invalid_argument("prompt and max_tokens need a KV cache of " + show(most) +
                              " tokens, there is room for " + show(model_.info.kv_capacity_tokens) +
                              ": lower max_tokens or raise --kv-cache-memory-bytes");
    }
    if (checked_.sampling.num_prompt_logprobs >= 0) {
      const int64_t entries =
          num_prompt * (checked_.sampling.num_prompt_logprobs + 1) * int64_t{checked_.n};
      if (entries > limits_.max_prompt_logprob_entries) {
        return invalid_argument("prompt_logprobs asks for " + show(entries) +
                                " entries (prompt tokens x (prompt_logprobs + 1) x n), limit is " +
                                show(limits_.max_prompt_logprob_entries));
      }
    }
    checked_.stop.max_tokens = static_cast<int32_t>(max_tokens);
    checked_.stop.min_tokens = static_cast<int32_t>(min_tokens);
    checked_.stop.max_length = model_.info.context_length;
    return {};
  }

  static Result<void> check_count(const char* name, size_t count, int32_t limit) {
    if (count <= static_cast<size_t>(limit)) return {};
    return invalid_argument(std::string(name) + " has " + std::to_string(count) +
                            " entries, limit is " + std::to_string(limit));
  }

  Result<void> check_token_id(const std::string& name, int64_t token_id) const {
    if (token_id >= 0 && token_id < model_.info.vocabulary_size) return {};
    return must_be(name, token_id, "from 0 to " + std::to_string(model_.info.vocabulary_size - 1));
  }

  GenerateRequest request_;
  const ServedModel& model_;
  const ServiceLimits& limits_;
  CheckedRequest checked_;
};

}  // namespace

Result<CheckedRequest> check_request(GenerateRequest&& request, const ServedModel& model,
                                     const ServiceLimits& limits, base::TimePoint now) {
  return RequestCheck(std::move(request), model, limits).run(now);
}

Result<void> check_text(const std::string& name, std::string_view text,
                        const ServiceLimits& limits) {
  if (text.size() > static_cast<size_t>(limits.max_prompt_bytes)) {
    return invalid_argument(name + " has " + std::to_string(text.size()) + " bytes, limit is " +
                            std::to_string(limits.max_prompt_bytes));
  }
  const size_t wrong = find_ill_formed_utf8(text);
  if (wrong != std::string_view::npos) {
    return invalid_argument(name + " is not well-formed UTF-8 at byte " + std::to_string(wrong));
  }
  return {};
}

Result<std::vector<int32_t>> check_token_ids(const std::vector<int64_t>& token_ids,
                                             const std::string& name, int32_t vocabulary_size) {
  std::vector<int32_t> checked;
  checked.reserve(token_ids.size());
  for (size_t i = 0; i < token_ids.size(); ++i) {
    if (token_ids[i] < 0 || token_ids[i] >= vocabulary_size) {
      return must_be(name + "[" + std::to_string(i) + "]", token_ids[i],
                     "from 0 to " + std::to_string(vocabulary_size - 1));
    }
    checked.push_back(static_cast<int32_t>(token_ids[i]));
  }
  return checked;
}

}  // namespace sluice::engine
