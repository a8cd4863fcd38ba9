#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "base/json.h"
#include "inference/grpc_predict_v2.pb.h"
#include "sluice/error.h"

namespace sluice::server {

// A value as a client of the open inference protocol sent it: the elements of a tensor, one
// parameter, or a value of JSON, in the widest type of its kind. Text is bytes, not checked.
using KserveValue = std::variant<std::vector<bool>, std::vector<int64_t>, std::vector<uint64_t>,
                                 std::vector<double>, std::vector<std::string>>;

// A tensor's elements, from its contents or from `raw` (null: none came raw). kInvalidArgument: a
// shape or datatype that does not fit the elements; the tensor's name is in the message.
Result<KserveValue> value_of(const inference::ModelInferRequest::InferInputTensor& tensor,
                             const std::string* raw);
// kInvalidArgument if it has no value.
Result<KserveValue> value_of(const inference::InferParameter& parameter);
// true or false, a number, a string, or a list of whole numbers or of strings.
Result<KserveValue> value_of(const Json& json);

// What a value is to be. A single element, where a list is not asked for; text that spells a
// number, "true" or "false" counts as that, because Triton's clients send all their parameters as
// text. The error says only what is expected ("a whole number"), so that the caller can put the
// name before.
Result<void> read_value(const KserveValue& value, bool& target);
Result<void> read_value(const KserveValue& value, int64_t& target);
Result<void> read_value(const KserveValue& value, uint64_t& target);
Result<void> read_value(const KserveValue& value, double& target);
Result<void> read_value(const KserveValue& value, std::string& target);
Result<void> read_value(const KserveValue& value, std::vector<int64_t>& target);
Result<void> read_value(const KserveValue& value, std::vector<std::string>& target);

}  // namespace sluice::server
