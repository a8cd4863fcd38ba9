#include "model/golden_logits.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>

#include "base/json.h"
#include "base/json_read.h"

namespace sluice::model {
namespace {

constexpr int32_t kNumTokens = 24;  // more than a KV block, and few enough for a large model
constexpr int32_t kNumColumns = 40;

// `count` different numbers below `limit`, spread evenly.
std::vector<int32_t> spread(int32_t count, int32_t limit) {
  std::vector<int32_t> numbers(static_cast<size_t>(std::min(count, limit)));
  for (size_t i = 0; i < numbers.size(); ++i) {
    numbers[i] =
        static_cast<int32_t>((2 * i + 1) * static_cast<size_t>(limit) / (2 * numbers.size()));
  }
  return numbers;
}

Result<std::vector<int32_t>> read_ids(const Json& json, int32_t limit) {
  std::vector<int64_t> wide;
  if (auto read = read_json(json, wide); !read) return std::unexpected(read.error());
  if (wide.empty()) return invalid_argument("token ids");
  for (const int64_t id : wide) {
    if (id < 0 || id >= limit) return invalid_argument("token ids of the model");
  }
  return std::vector<int32_t>(wide.begin(), wide.end());
}

Result<std::vector<float>> read_row(const Json& json, size_t num_columns) {
  const auto expected = [] { return invalid_argument("a row of numbers for each token"); };
  if (!json.is_array() || json.size() != num_columns) return expected();
  std::vector<float> row;
  row.reserve(num_columns);
  for (const Json& number : json) {
    const auto value = as_double(number);
    if (!value || std::abs(*value) > std::numeric_limits<float>::max()) return expected();
    row.push_back(static_cast<float>(*value));
  }
  return row;
}

// The message goes on from "NAME must be".
struct BadField {
  std::string name;
  std::string expected;
};

std::expected<GoldenLogits, BadField> read_fields(const Json& json, int32_t vocabulary_size) {
  GoldenLogits golden;
  const auto package = as_string(json["package"]);
  if (!package) return std::unexpected(BadField{"package", package.error().message});
  golden.package = *package;
  const auto profile = as_string(json["profile"]);
  if (!profile || profile->size() > 64) return std::unexpected(BadField{"profile", "a short name"});
  golden.profile = *profile;
  for (const auto& [name, member] : {std::pair{"token_ids", &GoldenLogits::token_ids},
                                     std::pair{"columns", &GoldenLogits::columns}}) {
    auto ids = read_ids(json[name], vocabulary_size);
    if (!ids) return std::unexpected(BadField{name, ids.error().message});
    golden.*member = *std::move(ids);
  }
  const Json& logits = json["logits"];
  if (!logits.is_array() || logits.size() != golden.token_ids.size()) {
    return std::unexpected(BadField{"logits", "a row of numbers for each token"});
  }
  for (const Json& item : logits) {
    auto row = read_row(item, golden.columns.size());
    if (!row) return std::unexpected(BadField{"logits", row.error().message});
    golden.logits.push_back(*std::move(row));
  }
  return golden;
}

std::unexpected<Error> bad_file(const std::string& reason) {
  return fail(ErrorCode::kDataLoss, std::string(kGoldenFile) + ": " + reason);
}

}  // namespace

GoldenLogits plan_golden(const ModelConfig& config) {
  GoldenLogits golden;
  golden.package = config.digest;
  golden.columns = spread(kNumColumns, config.vocabulary_size);
  // In an order that is not the vocabulary's.
  const auto ids = spread(kNumTokens, config.vocabulary_size);
  const auto length = static_cast<size_t>(std::min(kNumTokens, config.context_length));
  for (size_t i = 0; i < length; ++i) golden.token_ids.push_back(ids[7 * i % ids.size()]);
  return golden;
}

bool has_finite_logits(const GoldenLogits& golden) {
  return std::ranges::all_of(golden.logits, [](const std::vector<float>& row) {
    return std::ranges::all_of(row, [](float value) { return std::isfinite(value); });
  });
}

std::string write_golden(const GoldenLogits& golden) {
  nlohmann::ordered_json json;
  json["package"] = golden.package;
  json["profile"] = golden.profile;
  json["token_ids"] = golden.token_ids;
  json["columns"] = golden.columns;
  json["logits"] = golden.logits;
  return json.dump() + "\n";
}

Result<GoldenLogits> parse_golden(std::string_view text, int32_t vocabulary_size) {
  const auto json = parse_json(text, 4);
  if (!json) return bad_file(json.error().message);
  constexpr const char* kNames[] = {"package", "profile", "token_ids", "columns", "logits"};
  const bool has_all =
      json->is_object() && json->size() == std::size(kNames) &&
      std::ranges::all_of(kNames, [&](const char* name) { return json->contains(name); });
  if (!has_all) return bad_file("must have package, profile, token_ids, columns and logits");
  auto golden = read_fields(*json, vocabulary_size);
  if (!golden) return bad_file(golden.error().name + " must be " + golden.error().expected);
  return *std::move(golden);
}

double golden_difference(const GoldenLogits& golden,
                         const std::vector<std::vector<float>>& logits) {
  double sum = 0;
  double square_sum = 0;
  double difference_sum = 0;
  double count = 0;
  for (size_t row = 0; row < logits.size(); ++row) {
    for (size_t column = 0; column < golden.columns.size(); ++column) {
      const double expected = golden.logits[row][column];
      const double difference = logits[row][column] - expected;
      sum += expected;
      square_sum += expected * expected;
      difference_sum += difference * difference;
      ++count;
    }
  }
  const double variance = square_sum / count - sum / count * (sum / count);
  // Logits that are all the same say nothing about their size: compared as they are.
  const double scale = variance > 0 ? variance : 1;
  return std::sqrt(difference_sum / count / scale);
}

double golden_bound(const GoldenPrecision& precision) {
  constexpr double kRoundingsOfALayer = 10;
  double u = 0x1p-18;  // float32's sums of thousands of products
  if (precision.is_16_bit) u = 0x1p-9;
  if (precision.is_8_bit) u = std::max(u, 0x1p-7);
  return std::min(0.5, 8 * u * std::sqrt(kRoundingsOfALayer * precision.num_layers));
}

}  // namespace sluice::model
