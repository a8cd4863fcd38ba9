#include "server/grpc/kserve_value.h"

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <concepts>
#include <cstring>
#include <limits>
#include <optional>
#include <string_view>
#include <utility>

#include "base/json_read.h"

namespace sluice::server {
namespace {

using Tensor = inference::ModelInferRequest::InferInputTensor;
using Contents = inference::InferTensorContents;

static_assert(std::endian::native == std::endian::little, "raw tensors are little-endian");

// Elements of T as they are in raw_input_contents, in the widest type of their kind.
template <typename T, typename Wide>
std::optional<KserveValue> from_raw(std::string_view raw) {
  if (raw.size() % sizeof(T) != 0) return std::nullopt;
  std::vector<Wide> elements;
  elements.reserve(raw.size() / sizeof(T));
  for (size_t at = 0; at < raw.size(); at += sizeof(T)) {
    T element{};
    std::memcpy(&element, raw.data() + at, sizeof(T));
    elements.push_back(static_cast<Wide>(element));
  }
  return elements;
}

std::optional<KserveValue> texts_from_raw(std::string_view raw) {
  std::vector<std::string> texts;
  while (!raw.empty()) {
    uint32_t size = 0;
    if (raw.size() < sizeof(size)) return std::nullopt;
    std::memcpy(&size, raw.data(), sizeof(size));
    raw.remove_prefix(sizeof(size));
    if (raw.size() < size) return std::nullopt;
    texts.emplace_back(raw.substr(0, size));
    raw.remove_prefix(size);
  }
  return texts;
}

// A tensor's elements in the field of its datatype.
template <typename Element>
using Field = const google::protobuf::RepeatedField<Element>& (Contents::*)() const;

template <typename Wide, typename Element, Field<Element> field>
KserveValue from_contents(const Contents& contents) {
  const auto& elements = (contents.*field)();
  return std::vector<Wide>(elements.begin(), elements.end());
}

KserveValue texts_from_contents(const Contents& contents) {
  const auto& texts = contents.bytes_contents();
  return std::vector<std::string>(texts.begin(), texts.end());
}

struct Datatype {
  std::string_view name;
  std::optional<KserveValue> (*raw)(std::string_view);
  KserveValue (*contents)(const Contents&);
};

constexpr auto kInt = from_contents<int64_t, int32_t, &Contents::int_contents>;
constexpr auto kUint = from_contents<uint64_t, uint32_t, &Contents::uint_contents>;
constexpr auto kDatatypes = std::to_array<Datatype>({
    {"BOOL", from_raw<uint8_t, bool>, from_contents<bool, bool, &Contents::bool_contents>},
    {"INT8", from_raw<int8_t, int64_t>, kInt},
    {"INT16", from_raw<int16_t, int64_t>, kInt},
    {"INT32", from_raw<int32_t, int64_t>, kInt},
    {"INT64", from_raw<int64_t, int64_t>,
     from_contents<int64_t, int64_t, &Contents::int64_contents>},
    {"UINT8", from_raw<uint8_t, uint64_t>, kUint},
    {"UINT16", from_raw<uint16_t, uint64_t>, kUint},
    {"UINT32", from_raw<uint32_t, uint64_t>, kUint},
    {"UINT64", from_raw<uint64_t, uint64_t>,
     from_contents<uint64_t, uint64_t, &Contents::uint64_contents>},
    {"FP32", from_raw<float, double>, from_contents<double, float, &Contents::fp32_contents>},
    {"FP64", from_raw<double, double>, from_contents<double, double, &Contents::fp64_contents>},
    {"BYTES", texts_from_raw, texts_from_contents},
});

size_t num_elements(const KserveValue& value) {
  return std::visit([](const auto& elements) { return elements.size(); }, value);
}

// All typed fields together, so that elements in a field of another datatype are not overlooked.
int num_contents(const Contents& contents) {
  return contents.bool_contents_size() + contents.int_contents_size() +
         contents.int64_contents_size() + contents.uint_contents_size() +
         contents.uint64_contents_size() + contents.fp32_contents_size() +
         contents.fp64_contents_size() + contents.bytes_contents_size();
}

// True if the sizes' product is `count`.
bool has_elements(const Tensor& tensor, size_t count) {
  uint64_t product = 1;
  for (const int64_t size : tensor.shape()) {
    if (size < 0) return false;
    if (size > 0 && product > std::numeric_limits<uint32_t>::max() / static_cast<uint64_t>(size)) {
      return false;
    }
    product *= static_cast<uint64_t>(size);
  }
  return product == count;
}

// The value's only element.
template <typename T>
const T* single(const KserveValue& value) {
  const auto* elements = std::get_if<std::vector<T>>(&value);
  return elements != nullptr && elements->size() == 1 ? elements->data() : nullptr;
}

template <typename Number>
std::optional<Number> parse_number(std::string_view text) {
  Number number{};
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), number);
  if (parsed.ec != std::errc() || parsed.ptr != text.data() + text.size()) return std::nullopt;
  return number;
}

template <std::integral Number>
std::optional<Number> whole_number(const KserveValue& value) {
  if (const int64_t* number = single<int64_t>(value); number && std::in_range<Number>(*number)) {
    return static_cast<Number>(*number);
  }
  if (const uint64_t* number = single<uint64_t>(value); number && std::in_range<Number>(*number)) {
    return static_cast<Number>(*number);
  }
  if (const std::string* text = single<std::string>(value)) return parse_number<Number>(*text);
  return std::nullopt;
}

}  // namespace

Result<KserveValue> value_of(const Tensor& tensor, const std::string* raw) {
  const auto type = std::ranges::find(kDatatypes, tensor.datatype(), &Datatype::name);
  if (type == kDatatypes.end()) {
    return invalid_argument(tensor.name() +
                            " has a datatype that is not taken: BOOL, INT8 to INT64, UINT8 to "
                            "UINT64, FP32, FP64 and BYTES are");
  }
  std::optional<KserveValue> value;
  if (raw != nullptr) {
    value = type->raw(*raw);
    if (!value) {
      return invalid_argument("raw_input_contents of " + tensor.name() + ": " +
                              std::to_string(raw->size()) + " bytes are no " +
                              std::string(type->name) + " elements");
    }
  } else {
    value = type->contents(tensor.contents());
    if (num_elements(*value) != static_cast<size_t>(num_contents(tensor.contents()))) {
      return invalid_argument(tensor.name() + " has contents of another datatype than " +
                              std::string(type->name));
    }
  }
  if (!has_elements(tensor, num_elements(*value))) {
    return invalid_argument("the shape of " + tensor.name() + " is not that of its " +
                            std::to_string(num_elements(*value)) + " elements");
  }
  return *std::move(value);
}

Result<KserveValue> value_of(const inference::InferParameter& parameter) {
  using Parameter = inference::InferParameter;
  switch (parameter.parameter_choice_case()) {
    case Parameter::kBoolParam:
      return std::vector<bool>{parameter.bool_param()};
    case Parameter::kInt64Param:
      return std::vector<int64_t>{parameter.int64_param()};
    case Parameter::kStringParam:
      return std::vector<std::string>{parameter.string_param()};
    case Parameter::kDoubleParam:
      return std::vector<double>{parameter.double_param()};
    case Parameter::kUint64Param:
      return std::vector<uint64_t>{parameter.uint64_param()};
    case Parameter::PARAMETER_CHOICE_NOT_SET:
      break;
  }
  return invalid_argument("set");
}

Result<KserveValue> value_of(const Json& json) {
  if (json.is_boolean()) return std::vector<bool>{json.get<bool>()};
  if (json.is_number_unsigned()) return std::vector<uint64_t>{json.get<uint64_t>()};
  if (json.is_number_integer()) return std::vector<int64_t>{json.get<int64_t>()};
  if (json.is_number()) return std::vector<double>{json.get<double>()};
  if (json.is_string()) return std::vector<std::string>{json.get<std::string>()};
  if (std::vector<std::string> texts; json.is_array() && read_json(json, texts)) return texts;
  if (std::vector<int64_t> ids; json.is_array() && read_json(json, ids)) return ids;
  return invalid_argument("a single value, or a list of whole numbers or of strings");
}

Result<void> read_value(const KserveValue& value, bool& target) {
  const auto* flags = std::get_if<std::vector<bool>>(&value);
  const std::string* text = single<std::string>(value);
  if (flags != nullptr && flags->size() == 1) {
    target = flags->front();
  } else if (text != nullptr && (*text == "true" || *text == "false")) {
    target = *text == "true";
  } else {
    return invalid_argument("true or false");
  }
  return {};
}

Result<void> read_value(const KserveValue& value, int64_t& target) {
  const auto number = whole_number<int64_t>(value);
  if (!number) return invalid_argument("a whole number of at most 64 bits");
  target = *number;
  return {};
}

Result<void> read_value(const KserveValue& value, uint64_t& target) {
  const auto number = whole_number<uint64_t>(value);
  if (!number) return invalid_argument("a whole number from 0 to 18446744073709551615");
  target = *number;
  return {};
}

Result<void> read_value(const KserveValue& value, double& target) {
  if (const double* number = single<double>(value)) {
    target = *number;
  } else if (const int64_t* whole = single<int64_t>(value)) {
    target = static_cast<double>(*whole);
  } else if (const uint64_t* natural = single<uint64_t>(value)) {
    target = static_cast<double>(*natural);
  } else {
    const std::string* text = single<std::string>(value);
    const auto parsed = text == nullptr ? std::nullopt : parse_number<double>(*text);
    if (!parsed) return invalid_argument("a number");
    target = *parsed;
  }
  return {};
}

Result<void> read_value(const KserveValue& value, std::string& target) {
  const std::string* text = single<std::string>(value);
  if (text == nullptr) return invalid_argument("one text (BYTES)");
  target = *text;
  return {};
}

Result<void> read_value(const KserveValue& value, std::vector<int64_t>& target) {
  constexpr const char* kExpected = "whole numbers of at most 64 bits";
  if (const auto* ids = std::get_if<std::vector<int64_t>>(&value)) {
    target = *ids;
    return {};
  }
  const auto* ids = std::get_if<std::vector<uint64_t>>(&value);
  if (ids == nullptr) return invalid_argument(kExpected);
  if (!std::ranges::all_of(*ids, [](uint64_t id) { return std::in_range<int64_t>(id); })) {
    return invalid_argument(kExpected);
  }
  target.assign(ids->begin(), ids->end());
  return {};
}

Result<void> read_value(const KserveValue& value, std::vector<std::string>& target) {
  const auto* texts = std::get_if<std::vector<std::string>>(&value);
  if (texts == nullptr) return invalid_argument("texts (BYTES)");
  target = *texts;
  return {};
}

}  // namespace sluice::server
