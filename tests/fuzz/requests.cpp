#include "tests/fuzz/requests.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/json.h"
#include "base/utf8.h"
#include "engine/model_chat.h"
#include "engine/validator.h"
#include "tests/fuzz/driver.h"
#include "tokenizer/detokenizer.h"

namespace sluice::fuzz {
namespace {

// A token a byte, and one that ends a turn.
class ByteTokenizer final : public tokenizer::Tokenizer {
 public:
  static constexpr int32_t kEnd = 256;
  static constexpr std::string_view kEndText = "</s>";

  Result<std::vector<int32_t>> encode(std::string_view text, bool) const override {
    if (auto checked = tokenizer::check_text(text); !checked) {
      return std::unexpected(checked.error());
    }
    std::vector<int32_t> token_ids;
    for (const char c : text) token_ids.push_back(static_cast<uint8_t>(c));
    return token_ids;
  }

  Result<std::vector<int32_t>> encode_with_special_tokens(
      std::string_view text, std::span<const size_t> plain_at) const override {
    std::vector<int32_t> token_ids;
    for (size_t at = 0; at < text.size();) {
      const auto is_inside = [&](size_t place) {
        return place >= at && place < at + kEndText.size();
      };
      const bool is_end =
          text.substr(at).starts_with(kEndText) && std::ranges::none_of(plain_at, is_inside);
      token_ids.push_back(is_end ? kEnd : static_cast<uint8_t>(text[at]));
      at += is_end ? kEndText.size() : 1;
    }
    return token_ids;
  }

  std::vector<size_t> find_special_tokens(std::string_view text) const override {
    std::vector<size_t> places;
    for (size_t at = text.find(kEndText); at != std::string_view::npos;
         at = text.find(kEndText, at + 1)) {
      places.push_back(at);
    }
    return places;
  }

  std::string decode(std::span<const int32_t> token_ids, bool skip_special_tokens) const override {
    return tokenizer::decode_tokens(*this, token_ids, skip_special_tokens);
  }
  std::string token_bytes(int32_t token_id, bool) const override {
    if (token_id == kEnd) return std::string(kEndText);
    return std::string(1, static_cast<char>(token_id));
  }
  bool stays_at_start(int32_t) const override { return false; }
  bool is_special(int32_t token_id) const override { return token_id == kEnd; }
  int32_t vocabulary_size() const override { return kEnd + 1; }
};

// Ends each message once. Nothing that a client writes stands between '<' and '>'.
constexpr std::string_view kTemplate =
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}{{ eos_token }}{% endfor %}"
    "{% if tools %}{{ tools | tojson }}{% endif %}{% if extra is defined %}{{ extra }}"
    "{{ extra | tojson(ensure_ascii=true) }}{% endif %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}";

engine::ServedModel make_model() {
  engine::ServedModel model;
  model.info.vocabulary_size = ByteTokenizer::kEnd + 1;
  model.info.context_length = 1024;
  model.info.kv_capacity_tokens = 1024;
  model.info.end_token_ids = {ByteTokenizer::kEnd};
  model.tokenizer = std::make_unique<ByteTokenizer>();
  auto compiled = tokenizer::ChatTemplate::compile(kTemplate);
  require(compiled.has_value(), "the template compiles");
  auto special_tokens = std::make_unique<const tokenizer::OrderedJson>(
      tokenizer::OrderedJson{{"eos_token", ByteTokenizer::kEndText}});
  model.chat = engine::make_chat_renderer(
      {*std::move(compiled), std::nullopt, std::move(special_tokens)}, *model.tokenizer);
  return model;
}

bool is_within(double value, double low, double high) {
  return value >= low && value <= high;
}

void require_sampling(const sampling::SamplingParams& params, const ServiceLimits& limits,
                      int32_t vocabulary_size) {
  require(is_within(params.temperature, 0, static_cast<float>(engine::kMaxTemperature)),
          "temperature is in its range");
  require(params.top_p > 0 && params.top_p <= 1, "top_p is in its range");
  require(is_within(params.min_p, 0, 1), "min_p is in its range");
  require(params.top_k >= 0 && params.top_k <= vocabulary_size, "top_k is in its range");
  require(is_within(params.repetition_penalty, static_cast<float>(engine::kMinRepetitionPenalty),
                    engine::kMaxRepetitionPenalty),
          "repetition_penalty is in its range");
  for (const float penalty : {params.presence_penalty, params.frequency_penalty}) {
    require(is_within(penalty, -engine::kMaxAdditivePenalty, engine::kMaxAdditivePenalty),
            "a penalty is in its range");
  }
  for (const int32_t number : {params.num_logprobs, params.num_prompt_logprobs}) {
    require(number >= -1 && number <= limits.max_logprobs, "logprobs are in their range");
  }
  int32_t previous = -1;
  for (const auto& [token_id, bias] : params.logit_bias) {
    require(token_id > previous && token_id < vocabulary_size, "biases are ascending and unique");
    require(std::abs(bias) <= engine::kMaxLogitBias || (std::isinf(bias) && bias < 0),
            "a bias is in its range");
    previous = token_id;
  }
}

void require_checked(const engine::CheckedRequest& checked, const ServiceLimits& limits,
                     const ModelInfo& info) {
  require(!checked.id.empty() && checked.id.size() <= engine::kMaxRequestIdBytes &&
              find_ill_formed_utf8(checked.id) == std::string::npos,
          "a request has a name");
  require(checked.n >= 1 && checked.n <= limits.max_n, "n is in its range");
  const auto num_prompt = std::ssize(checked.prompt);
  require(num_prompt >= 1 && checked.stop.max_tokens >= 1 &&
              num_prompt + checked.stop.max_tokens <= info.context_length &&
              num_prompt + checked.stop.max_tokens - 1 <= info.kv_capacity_tokens,
          "prompt and completion have room");
  require(checked.stop.min_tokens >= 0 && checked.stop.min_tokens <= checked.stop.max_tokens,
          "min_tokens is in its range");
  for (const auto* token_ids : {&checked.prompt, &checked.stop.stop_token_ids}) {
    for (const int32_t token_id : *token_ids) {
      require(token_id >= 0 && token_id < info.vocabulary_size, "an id has a token");
    }
  }
  require(std::ssize(checked.stop.stop_token_ids) <= limits.max_stop_token_ids,
          "stop_token_ids are few");
  require(find_ill_formed_utf8(checked.prompt_text) == std::string::npos, "an echo is UTF-8");
  for (const auto& moment : {checked.first_token_by, checked.last_token_by}) {
    require(moment > checked.arrival, "a limit lies ahead");
  }
  require_sampling(checked.sampling, limits, info.vocabulary_size);
}

}  // namespace

void require_refusal(const Error& error) {
  constexpr size_t kMaxBytes = 512;
  const std::string& message = error.message;
  require(error.code != ErrorCode::kInternal && error.code != ErrorCode::kUnavailable,
          "a refusal is the client's affair");
  require(!message.empty(), "a refusal says why");
  require(message.size() <= kMaxBytes, "a refusal is short");
  require(find_ill_formed_utf8(message) == std::string::npos, "a refusal is UTF-8");
  require(std::ranges::none_of(message,
                               [](char c) { return static_cast<uint8_t>(c) < 0x20 || c == 0x7F; }),
          "a refusal is printable");
  // Names that nobody knows are repeated, cut.
  const bool repeats_name = message.starts_with("unknown ") || message.starts_with("parameter \"");
  require(repeats_name || message.find(kPrivateText) == std::string::npos,
          "a refusal does not repeat the client's texts");
}

Result<engine::CheckedRequest> check(GenerateRequest request) {
  static const engine::ServedModel model = make_model();
  static const ServiceLimits limits;
  const std::optional<ChatPrompt> chat = request.chat;
  auto checked = engine::check_request(std::move(request), model, limits,
                                       base::TimePoint(std::chrono::hours(1)));
  if (!checked) return checked;
  require_checked(*checked, limits, model.info);
  if (chat && !chat->parse_special_tokens) {
    const auto messages = tokenizer::parse_ordered_json(chat->messages);
    require(messages.has_value(), "what was rendered is JSON");
    require(std::ranges::count(checked->prompt, ByteTokenizer::kEnd) <= std::ssize(*messages),
            "nobody ends a turn by writing so");
  }
  return checked;
}

}  // namespace sluice::fuzz
