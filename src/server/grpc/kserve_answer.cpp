#include "server/grpc/kserve_answer.h"

#include <iterator>
#include <type_traits>
#include <utility>

#include "base/json.h"

namespace sluice::server {
namespace {

using Response = inference::ModelInferResponse;
using O = KserveOutput;

// Puts the elements where clients look for the tensor's datatype.
void set_contents(const std::vector<std::string>& texts, inference::InferTensorContents& contents) {
  for (const std::string& text : texts) contents.add_bytes_contents(text);
}
void set_contents(const std::vector<int32_t>& numbers, inference::InferTensorContents& contents) {
  contents.mutable_int_contents()->Add(numbers.begin(), numbers.end());
}
void set_contents(const std::vector<uint32_t>& numbers, inference::InferTensorContents& contents) {
  contents.mutable_uint_contents()->Add(numbers.begin(), numbers.end());
}
void set_contents(const std::vector<float>& numbers, inference::InferTensorContents& contents) {
  contents.mutable_fp32_contents()->Add(numbers.begin(), numbers.end());
}

template <typename T>
void append_bytes(const T& value, std::string& raw) {
  raw.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

template <typename T>
std::string raw_bytes(const std::vector<T>& elements) {
  std::string raw;
  for (const T& element : elements) {
    if constexpr (std::is_same_v<T, std::string>) {
      append_bytes(static_cast<uint32_t>(element.size()), raw);
      raw += element;
    } else {
      append_bytes(element, raw);
    }
  }
  return raw;
}

template <typename T>
void add_tensor(KserveOutput output, bool is_raw, const std::vector<T>& elements,
                Response& response) {
  const KserveTensor& tensor = describe(output);
  auto& added = *response.add_outputs();
  added.set_name(std::string(tensor.name));
  added.set_datatype(std::string(tensor.datatype));
  added.add_shape(static_cast<int64_t>(elements.size()));
  if (is_raw) {
    response.add_raw_output_contents(raw_bytes(elements));
  } else {
    set_contents(elements, *added.mutable_contents());
  }
}

// As vLLM's backend writes it: for each token an object of candidates by id. A drawn token that is
// not among the most likely ones has no rank, since nobody counted it.
std::string top_logprobs_json(const GenerateChunk& completion) {
  const auto candidate = [](const TokenLogprob& token) {
    return Json{{"logprob", token.logprob}, {"decoded_token", token.text}};
  };
  Json list = Json::array();
  for (const PositionLogprobs& at : completion.logprobs) {
    Json position = {{std::to_string(at.token.token_id), candidate(at.token)}};
    for (size_t i = 0; i < at.top.size(); ++i) {
      Json& added = position[std::to_string(at.top[i].token_id)];
      added = candidate(at.top[i]);
      added["rank"] = i + 1;
    }
    list.push_back(std::move(position));
  }
  return list.dump(-1, ' ', false, Json::error_handler_t::replace);
}

// Only the completion's own tokens count as output, not an echoed prompt's.
void drop_prompt_tokens(GenerateChunk& chunk) {
  if (!chunk.is_prompt) return;
  chunk.token_ids.clear();
  chunk.logprobs.clear();
}

template <typename T>
void append(std::vector<T>&& from, std::vector<T>& to) {
  to.insert(to.end(), std::make_move_iterator(from.begin()), std::make_move_iterator(from.end()));
}

}  // namespace

KserveAnswer::KserveAnswer(const KserveCall& call, std::string model_name, std::string id)
    : model_name_(std::move(model_name)),
      id_(std::move(id)),
      outputs_(call.outputs),
      is_raw_(call.is_raw) {}

Response KserveAnswer::piece(GenerateChunk chunk, const GenerateSummary* summary) {
  drop_prompt_tokens(chunk);
  std::vector<GenerateChunk> completions;
  completions.push_back(std::move(chunk));
  return make(std::move(completions), summary);
}

void KserveAnswer::add(GenerateChunk chunk) {
  drop_prompt_tokens(chunk);
  const auto [at, is_new] = completions_.try_emplace(chunk.index);
  GenerateChunk& completion = at->second;
  completion.index = chunk.index;
  completion.text += chunk.text;
  append(std::move(chunk.token_ids), completion.token_ids);
  append(std::move(chunk.logprobs), completion.logprobs);
  if (chunk.finish_reason) completion.finish_reason = chunk.finish_reason;
}

Response KserveAnswer::whole(const GenerateSummary& summary) {
  std::vector<GenerateChunk> completions;
  for (auto& [index, completion] : completions_) completions.push_back(std::move(completion));
  if (completions.empty()) completions.emplace_back();  // it ended without output
  return make(std::move(completions), &summary);
}

Response KserveAnswer::make(std::vector<GenerateChunk> completions,
                            const GenerateSummary* summary) {
  for (const GenerateChunk& completion : completions) {
    double& sum = sums_[completion.index];
    for (const PositionLogprobs& at : completion.logprobs) sum += at.token.logprob;
  }
  Response response;
  response.set_model_name(model_name_);
  response.set_model_version("1");
  response.set_id(id_);
  for (const KserveOutput output : outputs_) add_output(output, completions, summary, response);
  auto& parameters = *response.mutable_parameters();
  parameters["triton_final_response"].set_bool_param(summary != nullptr);
  if (summary == nullptr) return response;
  parameters["sluice_seed"].set_string_param(std::to_string(summary->seed));
  parameters["sluice_profile"].set_string_param(summary->profile);
  parameters["sluice_digest"].set_string_param(summary->digest);
  parameters["sluice_request_id"].set_string_param(summary->request_id);
  return response;
}

void KserveAnswer::add_output(KserveOutput output, const std::vector<GenerateChunk>& completions,
                              const GenerateSummary* summary, Response& response) const {
  const auto each = [&]<typename T>(T (*make_element)(const GenerateChunk&)) {
    std::vector<T> elements;
    for (const GenerateChunk& completion : completions) {
      elements.push_back(make_element(completion));
    }
    add_tensor(output, is_raw_, elements, response);
  };
  switch (output) {
    case O::kText:
      return each(+[](const GenerateChunk& c) { return c.text; });
    case O::kFinishReason:
      return each(+[](const GenerateChunk& c) {
        return std::string(c.finish_reason ? to_string(*c.finish_reason) : "");
      });
    case O::kTopLogprobs:
      return each(+[](const GenerateChunk& c) { return top_logprobs_json(c); });
    case O::kNumOutputTokens:
      return each(
          +[](const GenerateChunk& c) { return static_cast<uint32_t>(c.token_ids.size()); });
    case O::kSequenceIndex:
      return each(+[](const GenerateChunk& c) { return c.index; });
    case O::kIds:
      return add_tensor(output, is_raw_, completions.front().token_ids, response);
    case O::kTokenLogprobs: {
      std::vector<float> logprobs;
      for (const PositionLogprobs& at : completions.front().logprobs) {
        logprobs.push_back(at.token.logprob);
      }
      return add_tensor(output, is_raw_, logprobs, response);
    }
    case O::kSumLogprobs:
    case O::kCumulativeLogprobs: {
      std::vector<float> sums;
      for (const GenerateChunk& completion : completions) {
        sums.push_back(static_cast<float>(sums_.at(completion.index)));
      }
      return add_tensor(output, is_raw_, sums, response);
    }
    case O::kNumInputTokens: {
      if (summary == nullptr) return;  // known at the end
      return add_tensor(output, is_raw_,
                        std::vector<uint32_t>{static_cast<uint32_t>(summary->usage.prompt_tokens)},
                        response);
    }
  }
}

}  // namespace sluice::server
