#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "inference/grpc_predict_v2.pb.h"
#include "sluice/error.h"
#include "sluice/generation.h"

namespace sluice::server {

// The tensors of an answer, under the names that Triton's LLM models have for them.
enum class KserveOutput : uint8_t {
  kText,                // text_output
  kIds,                 // output_ids, of the completion alone
  kFinishReason,        // finish_reason, empty until it is known
  kTokenLogprobs,       // output_log_probs, of each token of output_ids
  kSumLogprobs,         // cum_log_probs (TensorRT-LLM)
  kCumulativeLogprobs,  // cumulative_logprob (vLLM), the same
  kTopLogprobs,         // logprobs (vLLM), JSON
  kNumInputTokens,      // num_input_tokens, with the last answer of a request
  kNumOutputTokens,     // num_output_tokens, of this answer
  kSequenceIndex,       // sequence_index: which completion a streamed answer belongs to
};

struct KserveTensor {
  std::string_view name;
  std::string_view datatype;
  int64_t size;  // -1: any
};
const KserveTensor& describe(KserveOutput output);
// What a model takes and what it can answer, for its metadata.
std::vector<KserveTensor> kserve_inputs();
std::vector<KserveTensor> kserve_outputs();

// What a ModelInferRequest asks for. Types and names are checked, values are the validator's.
struct KserveCall {
  GenerateRequest request;
  bool stream = false;  // an answer for each piece of output
  bool is_raw = false;  // the inputs came raw, so the outputs go raw
  std::vector<KserveOutput> outputs;
  std::optional<std::chrono::microseconds> timeout;
  // Of the request's fields by our names: the name that the client used.
  std::map<std::string, std::string, std::less<>> client_names;
};

// kInvalidArgument: an unknown name, a value of the wrong type, a tensor whose contents do not fit,
// one parameter twice. kUnimplemented: a parameter that Triton's models have and this server has
// not. kNotFound: another version than "1".
Result<KserveCall> read_kserve_call(const inference::ModelInferRequest& message);

// A validator's error under the client's names: "text_input is empty, ...".
Error name_input(const KserveCall& call, Error error);

}  // namespace sluice::server
