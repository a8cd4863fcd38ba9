#include "server/grpc/kserve_request.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/clock.h"
#include "base/json.h"
#include "server/field_names.h"
#include "server/grpc/kserve_value.h"
#include "server/logit_bias.h"

namespace sluice::server {
namespace {

using R = GenerateRequest;
using O = KserveOutput;

// What has been read of a call so far.
struct Draft {
  KserveCall call;
  std::map<std::string, KserveValue, std::less<>> given;
  std::vector<KserveOutput> extra_outputs;  // asked for by parameters
};

using Read = Result<void> (*)(const KserveValue&, Draft&);

template <typename T>
struct Unwrap {
  using Type = T;
};
template <typename T>
struct Unwrap<std::optional<T>> {
  using Type = T;
};

template <auto Member>
Result<void> request_member(const KserveValue& value, Draft& draft) {
  auto& target = draft.call.request.*Member;
  typename Unwrap<std::remove_reference_t<decltype(target)>>::Type read{};
  if (auto result = read_value(value, read); !result) return result;
  target = std::move(read);
  return {};
}

template <auto Member>
Result<void> read_milliseconds(const KserveValue& value, Draft& draft) {
  int64_t milliseconds = 0;
  if (auto read = read_value(value, milliseconds); !read) return read;
  draft.call.request.*Member = base::from_milliseconds(milliseconds);
  return {};
}

// Triton's lists are filled up with empty words, since a tensor is rectangular.
Result<std::vector<std::string>> words(const KserveValue& value) {
  std::vector<std::string> texts;
  if (auto read = read_value(value, texts); !read) return std::unexpected(read.error());
  std::erase(texts, "");
  return texts;
}
Result<void> read_stop_words(const KserveValue& value, Draft& draft) {
  auto texts = words(value);
  if (!texts) return std::unexpected(texts.error());
  draft.call.request.stop = *std::move(texts);
  return {};
}

Result<void> read_exclude_input(const KserveValue& value, Draft& draft) {
  bool is_excluded = true;
  if (auto read = read_value(value, is_excluded); !read) return read;
  draft.call.request.echo = !is_excluded;
  return {};
}

Result<void> read_stream(const KserveValue& value, Draft& draft) {
  return read_value(value, draft.call.stream);
}

Result<void> read_timeout(const KserveValue& value, Draft& draft) {
  constexpr int64_t kMost = int64_t{10} * 365 * 24 * 3600 * 1'000'000;
  int64_t microseconds = 0;
  if (!read_value(value, microseconds) || microseconds < 0 || microseconds > kMost) {
    return invalid_argument("from 0 (none) to " + std::to_string(kMost) + " microseconds");
  }
  if (microseconds > 0) draft.call.timeout = std::chrono::microseconds(microseconds);
  return {};
}

template <KserveOutput... Outputs>
Result<void> flag_for(const KserveValue& value, Draft& draft) {
  bool is_wanted = false;
  if (auto read = read_value(value, is_wanted); !read) return read;
  if (is_wanted) (draft.extra_outputs.push_back(Outputs), ...);
  return {};
}

// Nothing is padded here, and every last answer of a stream has its mark.
Result<void> ignore_number(const KserveValue& value, Draft&) {
  int64_t number = 0;
  return read_value(value, number);
}
Result<void> ignore_flag(const KserveValue& value, Draft&) {
  bool flag = false;
  return read_value(value, flag);
}

Result<void> read_end_id(const KserveValue& value, Draft& draft) {
  int64_t token_id = 0;
  if (auto read = read_value(value, token_id); !read) return read;
  draft.call.request.stop_token_ids = {token_id};
  return {};
}

// Values that ask for nothing special are let through, for clients that always send them.
std::unexpected<Error> not_here() {
  return fail(ErrorCode::kUnimplemented, "left out: this server does not have it");
}
template <int64_t Allowed>
Result<void> only_number(const KserveValue& value, Draft&) {
  double number = 0;
  if (read_value(value, number) && number == static_cast<double>(Allowed)) return {};
  return not_here();
}
Result<void> only_false(const KserveValue& value, Draft&) {
  bool flag = true;
  if (read_value(value, flag) && !flag) return {};
  return not_here();
}
Result<void> only_empty_words(const KserveValue& value, Draft&) {
  const auto texts = words(value);
  if (texts && texts->empty()) return {};
  return fail(ErrorCode::kUnimplemented, "left out or empty: logit_bias can forbid tokens");
}

struct Parameter {
  std::string_view name;
  std::string_view ours;      // the field of GenerateRequest that it sets; empty: another one
  std::string_view datatype;  // in the model's metadata; empty: not shown there
  int64_t size;               // the same; -1: any
  Read read;                  // null: never taken
};

// Every one may come as an input tensor, in `parameters` or in the JSON of sampling_parameters.
constexpr auto kParameters = std::to_array<Parameter>({
    {"text_input", "prompt", "BYTES", 1, request_member<&R::prompt>},
    {"input_ids", "token_ids", "INT32", -1, request_member<&R::token_ids>},
    {"max_tokens", "max_tokens", "INT32", 1, request_member<&R::max_tokens>},
    {"min_tokens", "min_tokens", "INT32", 1, request_member<&R::min_tokens>},
    {"min_length", "min_tokens", "", 1, request_member<&R::min_tokens>},
    {"n", "n", "", 1, request_member<&R::n>},
    {"num_return_sequences", "n", "INT32", 1, request_member<&R::n>},
    {"temperature", "temperature", "FP32", 1, request_member<&R::temperature>},
    {"top_k", "top_k", "INT32", 1, request_member<&R::top_k>},
    {"top_p", "top_p", "FP32", 1, request_member<&R::top_p>},
    {"min_p", "min_p", "FP32", 1, request_member<&R::min_p>},
    {"repetition_penalty", "repetition_penalty", "FP32", 1, request_member<&R::repetition_penalty>},
    {"presence_penalty", "presence_penalty", "FP32", 1, request_member<&R::presence_penalty>},
    {"frequency_penalty", "frequency_penalty", "FP32", 1, request_member<&R::frequency_penalty>},
    {"seed", "seed", "UINT64", 1, request_member<&R::seed>},
    {"random_seed", "seed", "UINT64", 1, request_member<&R::seed>},
    {"stop", "stop", "", -1, request_member<&R::stop>},
    {"stop_words", "stop", "BYTES", -1, read_stop_words},
    {"stop_token_ids", "stop_token_ids", "INT32", -1, request_member<&R::stop_token_ids>},
    {"end_id", "stop_token_ids", "INT32", 1, read_end_id},
    {"pad_id", "", "INT32", 1, ignore_number},
    {"ignore_eos", "ignore_eos", "BOOL", 1, request_member<&R::ignore_eos>},
    {"skip_special_tokens", "", "BOOL", 1, request_member<&R::skip_special_tokens>},
    {"echo", "echo", "", 1, request_member<&R::echo>},
    {"exclude_input_in_output", "echo", "BOOL", 1, read_exclude_input},
    {"stream", "", "BOOL", 1, read_stream},
    {"logprobs", "logprobs", "INT32", 1, request_member<&R::logprobs>},
    {"timeout", "", "", 1, read_timeout},
    {"ttft_ms", "ttft_ms", "", 1, read_milliseconds<&R::ttft_limit>},
    {"total_ms", "total_ms", "", 1, read_milliseconds<&R::total_limit>},
    {"return_log_probs", "", "BOOL", 1, flag_for<O::kTokenLogprobs, O::kSumLogprobs>},
    {"return_logprobs", "", "BOOL", 1, flag_for<O::kTopLogprobs>},
    {"return_cumulative_logprob", "", "BOOL", 1, flag_for<O::kCumulativeLogprobs>},
    {"return_finish_reason", "", "BOOL", 1, flag_for<O::kFinishReason>},
    {"return_num_input_tokens", "", "BOOL", 1, flag_for<O::kNumInputTokens>},
    {"return_num_output_tokens", "", "BOOL", 1, flag_for<O::kNumOutputTokens>},
    {"triton_enable_empty_final_response", "", "", 1, ignore_flag},
    // Known elsewhere.
    {"bad_words", "", "", -1, only_empty_words},
    {"beam_width", "", "", 1, only_number<1>},
    {"best_of", "", "", 1, only_number<1>},
    {"length_penalty", "", "", 1, only_number<1>},
    {"priority", "", "", 1, only_number<0>},
    {"early_stopping", "", "", 1, only_false},
    {"use_beam_search", "", "", 1, only_false},
    {"return_context_logits", "", "", 1, only_false},
    {"return_generation_logits", "", "", 1, only_false},
    {"return_perf_metrics", "", "", 1, only_false},
    {"decoder_input_ids", "", "", 1, nullptr},
    {"decoder_text_input", "", "", 1, nullptr},
    {"draft_input_ids", "", "", 1, nullptr},
    {"embedding_bias_weights", "", "", 1, nullptr},
    {"embedding_bias_words", "", "", 1, nullptr},
    {"embedding_request", "", "", 1, nullptr},
    {"guided_decoding_guide", "", "", 1, nullptr},
    {"guided_decoding_guide_type", "", "", 1, nullptr},
    {"image", "", "", 1, nullptr},
    {"lora_config", "", "", 1, nullptr},
    {"lora_name", "", "", 1, nullptr},
    {"lora_task_id", "", "", 1, nullptr},
    {"lora_weights", "", "", 1, nullptr},
    {"prompt_embedding_table", "", "", 1, nullptr},
    {"prompt_logprobs", "", "", 1, nullptr},
    {"prompt_table_extra_id", "", "", 1, nullptr},
    {"prompt_vocab_size", "", "", 1, nullptr},
    {"sequence_end", "", "", 1, nullptr},
    {"sequence_id", "", "", 1, nullptr},
    {"sequence_start", "", "", 1, nullptr},
    {"structured_outputs", "", "", 1, nullptr},
});

constexpr std::string_view kSamplingParameters = "sampling_parameters";
constexpr std::string_view kLogitBias = "logit_bias";

struct NamedOutput {
  KserveOutput output;
  KserveTensor tensor;
};
constexpr auto kOutputs = std::to_array<NamedOutput>({
    {O::kText, {"text_output", "BYTES", -1}},
    {O::kIds, {"output_ids", "INT32", -1}},
    {O::kFinishReason, {"finish_reason", "BYTES", -1}},
    {O::kTokenLogprobs, {"output_log_probs", "FP32", -1}},
    {O::kSumLogprobs, {"cum_log_probs", "FP32", -1}},
    {O::kCumulativeLogprobs, {"cumulative_logprob", "FP32", -1}},
    {O::kTopLogprobs, {"logprobs", "BYTES", -1}},
    {O::kNumInputTokens, {"num_input_tokens", "UINT32", 1}},
    {O::kNumOutputTokens, {"num_output_tokens", "UINT32", -1}},
    {O::kSequenceIndex, {"sequence_index", "INT32", 1}},
});

bool needs_logprobs(KserveOutput output) {
  return output == O::kTokenLogprobs || output == O::kSumLogprobs ||
         output == O::kCumulativeLogprobs || output == O::kTopLogprobs;
}

Result<const Parameter*> find_parameter(std::string_view name) {
  const auto found = std::ranges::find(kParameters, name, &Parameter::name);
  if (found == kParameters.end()) {
    return invalid_argument("unknown parameter \"" + echoed_name(name) + "\"");
  }
  if (found->read == nullptr) {
    return fail(ErrorCode::kUnimplemented,
                std::string(name) + " must be left out: this server does not have it");
  }
  return &*found;
}

Result<void> take_value(const Parameter& parameter, KserveValue value, Draft& draft) {
  const std::string name(parameter.name);
  const auto [given, is_new] = draft.given.try_emplace(name, value);
  if (!is_new) {
    // Some of Triton's clients send a parameter in two ways at once.
    if (given->second == value) return {};
    return invalid_argument(name + " is given twice, with different values");
  }
  if (!parameter.ours.empty()) {
    const auto [named, is_first] =
        draft.call.client_names.try_emplace(std::string(parameter.ours), name);
    if (!is_first) {
      return invalid_argument(named->second + " and " + name + " are both given, must be one");
    }
  }
  if (auto read = parameter.read(value, draft); !read) {
    return fail(read.error().code, name + " must be " + read.error().message);
  }
  return {};
}

// vLLM's way: a JSON object, because its ensemble hands on tensors only.
Result<void> read_sampling_parameters(const KserveValue& value, Draft& draft) {
  const std::string name(kSamplingParameters);
  std::string text;
  if (auto read = read_value(value, text); !read) {
    return invalid_argument(name + " must be " + read.error().message);
  }
  const auto json = parse_json(text);
  if (!json) return invalid_argument(name + ": " + json.error().message);
  if (!json->is_object()) return invalid_argument(name + " must be a JSON object");
  for (const auto& [key, member] : json->items()) {
    if (member.is_null()) continue;
    if (key == kLogitBias) {
      auto biases = read_logit_bias(member);
      if (!biases) return invalid_argument("logit_bias must be " + biases.error().message);
      draft.call.request.logit_bias = *std::move(biases);
      continue;
    }
    const auto parameter = find_parameter(key);
    if (!parameter) return std::unexpected(parameter.error());
    auto read = value_of(member);
    if (!read) return invalid_argument(key + " must be " + read.error().message);
    if (auto taken = take_value(**parameter, *std::move(read), draft); !taken) return taken;
  }
  return {};
}

Result<void> read_inputs(const inference::ModelInferRequest& message, Draft& draft) {
  const int num_raw = message.raw_input_contents_size();
  draft.call.is_raw = num_raw > 0;
  if (num_raw > 0 && num_raw != message.inputs_size()) {
    return invalid_argument("raw_input_contents has " + std::to_string(num_raw) + " elements for " +
                            std::to_string(message.inputs_size()) + " inputs");
  }
  for (int i = 0; i < message.inputs_size(); ++i) {
    const auto& tensor = message.inputs(i);
    const bool is_sampling = tensor.name() == kSamplingParameters;
    Result<const Parameter*> parameter = nullptr;
    if (!is_sampling) parameter = find_parameter(tensor.name());
    if (!parameter) return std::unexpected(parameter.error());
    if (!tensor.parameters().empty()) {
      return fail(ErrorCode::kUnimplemented,
                  tensor.name() +
                      " has parameters of its own, such as shared memory: this server "
                      "takes none");
    }
    if (num_raw > 0 && tensor.has_contents()) {
      return invalid_argument(tensor.name() + " has contents beside raw_input_contents");
    }
    auto value = value_of(tensor, num_raw > 0 ? &message.raw_input_contents(i) : nullptr);
    if (!value) return std::unexpected(value.error());
    auto taken = is_sampling ? read_sampling_parameters(*value, draft)
                             : take_value(**parameter, *std::move(value), draft);
    if (!taken) return taken;
  }
  return {};
}

Result<void> read_parameters(const inference::ModelInferRequest& message, Draft& draft) {
  // In the order of their names, so that of several faults always the same one is told.
  std::map<std::string_view, const inference::InferParameter*> sorted;
  for (const auto& [name, parameter] : message.parameters()) sorted.emplace(name, &parameter);
  for (const auto& [name, sent] : sorted) {
    auto value = value_of(*sent);
    if (!value) {
      return invalid_argument("parameter \"" + echoed_name(name) + "\" must be set");
    }
    if (name == kSamplingParameters) {
      if (auto read = read_sampling_parameters(*value, draft); !read) return read;
      continue;
    }
    const auto parameter = find_parameter(name);
    if (!parameter) return std::unexpected(parameter.error());
    if (auto taken = take_value(**parameter, *std::move(value), draft); !taken) return taken;
  }
  return {};
}

Result<void> read_outputs(const inference::ModelInferRequest& message, Draft& draft) {
  std::vector<KserveOutput>& outputs = draft.call.outputs;
  const auto add = [&](KserveOutput output) {
    if (std::ranges::find(outputs, output) == outputs.end()) outputs.push_back(output);
  };
  for (const auto& wanted : message.outputs()) {
    const auto found = std::ranges::find(kOutputs, wanted.name(),
                                         [](const NamedOutput& o) { return o.tensor.name; });
    if (found == kOutputs.end()) {
      return invalid_argument("unknown output \"" + echoed_name(wanted.name()) + "\"");
    }
    if (!wanted.parameters().empty()) {
      return fail(ErrorCode::kUnimplemented,
                  wanted.name() + " is asked for with parameters: this server takes none");
    }
    add(found->output);
  }
  if (message.outputs_size() == 0) add(O::kText);
  std::ranges::for_each(draft.extra_outputs, add);
  R& request = draft.call.request;
  const bool has_several = request.n.value_or(1) != 1;
  if (draft.call.stream && has_several) add(O::kSequenceIndex);
  if (std::ranges::any_of(outputs, needs_logprobs) && !request.logprobs) request.logprobs = 0;
  if (!draft.call.stream && has_several) {
    for (const KserveOutput output : {O::kIds, O::kTokenLogprobs, O::kSequenceIndex}) {
      if (std::ranges::find(outputs, output) == outputs.end()) continue;
      return invalid_argument(std::string(describe(output).name) +
                              " of several completions needs stream, true");
    }
  }
  return {};
}

}  // namespace

const KserveTensor& describe(KserveOutput output) {
  return std::ranges::find(kOutputs, output, &NamedOutput::output)->tensor;
}

std::vector<KserveTensor> kserve_inputs() {
  std::vector<KserveTensor> tensors;
  for (const Parameter& parameter : kParameters) {
    if (parameter.datatype.empty()) continue;
    tensors.push_back({parameter.name, parameter.datatype, parameter.size});
  }
  tensors.push_back({kSamplingParameters, "BYTES", 1});
  return tensors;
}

std::vector<KserveTensor> kserve_outputs() {
  std::vector<KserveTensor> tensors;
  for (const NamedOutput& output : kOutputs) tensors.push_back(output.tensor);
  return tensors;
}

Result<KserveCall> read_kserve_call(const inference::ModelInferRequest& message) {
  if (!message.model_version().empty() && message.model_version() != "1") {
    return fail(ErrorCode::kNotFound, "unknown model_version, models have version 1");
  }
  Draft draft;
  draft.call.request.model = message.model_name();
  draft.call.request.request_id = message.id();
  for (const auto read : {read_inputs, read_parameters, read_outputs}) {
    if (auto result = read(message, draft); !result) return std::unexpected(result.error());
  }
  return std::move(draft.call);
}

Error name_input(const KserveCall& call, Error error) {
  const std::string_view name = leading_name(error.message);
  if (const auto found = call.client_names.find(name); found != call.client_names.end()) {
    error.message.replace(0, name.size(), found->second);
  }
  return error;
}

}  // namespace sluice::server
