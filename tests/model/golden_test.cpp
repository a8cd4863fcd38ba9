// Our logits and greedy tokens against Transformers' (models/training/golden.py made the files).
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "base/json.h"
#include "model/safetensors.h"
#include "tests/model/fixtures.h"

namespace sluice::model {
namespace {

namespace fs = std::filesystem;

struct Prompt {
  std::vector<int32_t> token_ids;
  std::vector<int32_t> greedy;
  std::vector<std::vector<float>> logits;  // [tokens, V]
};

std::vector<float> floats_of(const SafetensorsFile& file, const TensorEntry& entry) {
  const auto bytes = file.bytes(entry);
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

std::vector<Prompt> read_golden(const fs::path& folder) {
  std::vector<Prompt> prompts;
  const auto json = parse_json(read_text(folder / "golden.json"));
  const auto file = SafetensorsFile::open(folder / "golden.safetensors");
  EXPECT_TRUE(json.has_value() && file.has_value()) << folder;
  if (!json || !file) return prompts;
  for (const Json& item : (*json)["prompts"]) {
    Prompt prompt{item["token_ids"].get<std::vector<int32_t>>(),
                  item["greedy"].get<std::vector<int32_t>>(),
                  {}};
    const std::string name = "logits." + std::to_string(prompts.size());
    for (const TensorEntry& entry : file->tensors()) {
      if (entry.name != name) continue;
      const auto values = floats_of(*file, entry);
      const auto width = static_cast<size_t>(entry.shape[1]);
      for (size_t row = 0; row < values.size() / width; ++row) {
        prompt.logits.emplace_back(values.begin() + static_cast<int64_t>(row * width),
                                   values.begin() + static_cast<int64_t>((row + 1) * width));
      }
    }
    prompts.push_back(std::move(prompt));
  }
  return prompts;
}

struct Difference {
  double worst = 0;
  double scale = 0;  // largest golden logit
  std::string where;
};

Difference compare(const std::vector<std::vector<float>>& ours,
                   const std::vector<std::vector<float>>& golden) {
  Difference difference;
  for (size_t row = 0; row < golden.size(); ++row) {
    for (size_t column = 0; column < golden[row].size(); ++column) {
      const double error = std::abs(double{ours.at(row).at(column)} - golden[row][column]);
      difference.scale = std::max(difference.scale, std::abs(double{golden[row][column]}));
      if (error > difference.worst || std::isnan(error)) {
        difference.worst = error;
        difference.where = "row " + std::to_string(row) + " column " + std::to_string(column) +
                           ": " + std::to_string(ours[row][column]) + " against " +
                           std::to_string(golden[row][column]);
      }
    }
  }
  return difference;
}

int32_t argmax(const std::vector<float>& row) {
  return static_cast<int32_t>(std::ranges::max_element(row) - row.begin());
}

class Golden : public testing::TestWithParam<std::string> {};

// Both sides sum K <= 256 products in float32 in their own order. Each product's error is about
// sqrt(K) u of its row's size (u = 2^-24; random signs), some 10 products and norms a layer follow
// each other, and every norm may enlarge what came before by a small factor (taken as 4 in all):
// 2 sides * 4 * 10 * layers (2) * 16 * u = 1.5e-4 of the largest logit.
TEST_P(Golden, LogitsOfEveryPositionInFloat32) {
  const auto prompts = read_golden(variant(GetParam()));
  ASSERT_FALSE(prompts.empty());
  LoadOptions options;
  options.dtype = "f32";  // the golden data widened 16-bit weights, too
  const auto runner = load(variant(GetParam()), options);
  ASSERT_NE(runner, nullptr);
  for (const Prompt& prompt : prompts) {
    ASSERT_EQ(prompt.logits.size(), prompt.token_ids.size());
    const Difference difference = compare(prompt_logits(*runner, prompt.token_ids), prompt.logits);
    EXPECT_LE(difference.worst, 1.5e-4 * difference.scale) << difference.where;
    printf("[ worst    ] %s: %.2e of %.2f\n", GetParam().c_str(), difference.worst,
           difference.scale);
  }
}

TEST_P(Golden, SixtyFourGreedyTokens) {
  LoadOptions options;
  options.dtype = "f32";
  const auto runner = load(variant(GetParam()), options);
  ASSERT_NE(runner, nullptr);
  for (const Prompt& prompt : read_golden(variant(GetParam()))) {
    Session session(*runner, static_cast<int32_t>(prompt.token_ids.size()) + 64);
    std::vector<int32_t> greedy = {argmax(session.step(prompt.token_ids).back())};
    while (greedy.size() < prompt.greedy.size()) {
      greedy.push_back(argmax(session.step({greedy.back()}).back()));
    }
    EXPECT_EQ(greedy, prompt.greedy);
  }
}

// In the checkpoint's own dtype: activations are rounded after each of some 10 operators a layer
// (u = 2^-9 for bfloat16, 2^-12 for float16; float32's sums as above), with random signs. What
// enlarges it is the softmax: it turns a score's absolute error into a weight's relative one, and
// these variants' scores reach some 8. So 8 * sqrt(10 * layers) * u of the largest logit.
TEST_P(Golden, LogitsInTheCheckpointsDtype) {
  const auto runner = load(variant(GetParam()));
  ASSERT_NE(runner, nullptr);
  const std::string dtype = runner->config().dtype;
  EXPECT_TRUE(GetParam().ends_with(dtype)) << dtype;
  const double u = dtype == "bf16" ? 0x1p-9 : dtype == "f16" ? 0x1p-12 : 0x1p-24 * 16;
  const double bound = 8 * std::sqrt(10.0 * runner->config().num_layers) * u;
  for (const Prompt& prompt : read_golden(variant(GetParam()))) {
    const Difference difference = compare(prompt_logits(*runner, prompt.token_ids), prompt.logits);
    EXPECT_LE(difference.worst, bound * difference.scale) << difference.where;
    printf("[ worst    ] %s: %.2e of %.2f, bound %.2e\n", GetParam().c_str(), difference.worst,
           difference.scale, bound * difference.scale);
  }
}

TEST_P(Golden, ChunksGiveTheSameBitsAsTheWhole) {
  const auto runner = load(variant(GetParam()));
  ASSERT_NE(runner, nullptr);
  for (const Prompt& prompt : read_golden(variant(GetParam()))) {
    const auto whole = prompt_logits(*runner, prompt.token_ids);
    for (const size_t chunk : {1, 5, 16}) {
      EXPECT_EQ(prompt_logits(*runner, prompt.token_ids, chunk), whole) << "chunk " << chunk;
    }
  }
}

// The embedded packages: their vocabulary is too large for golden logits of every position, so the
// best ones and the logarithm of their sum stand for a row.
class GoldenPackage : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    const fs::path root = SLUICE_SOURCE_DIR;
    golden_ = root / "tests/golden" / (GetParam() + "_tiny");
    LoadOptions options;
    options.dtype = "f32";
    runner_ = load(root / "models" / (GetParam() + "-tiny"), options);
    ASSERT_NE(runner_, nullptr);
  }

  fs::path golden_;
  std::unique_ptr<ModelRunner> runner_;
};

float log_sum_exp(const std::vector<float>& row) {
  const double most = *std::ranges::max_element(row);
  double sum = 0;
  for (const float value : row) sum += std::exp(value - most);
  return static_cast<float>(most + std::log(sum));
}

const TensorEntry* find(const SafetensorsFile& file, const std::string& name) {
  for (const TensorEntry& entry : file.tensors()) {
    if (entry.name == name) return &entry;
  }
  ADD_FAILURE() << name << " is missing";
  return nullptr;
}

// Of each row the logits with these ids, then the logarithm of the sum of all.
std::vector<std::vector<float>> summaries(const std::vector<std::vector<float>>& logits,
                                          const std::vector<int32_t>& ids) {
  const size_t count = ids.size() / logits.size();
  std::vector<std::vector<float>> rows(logits.size());
  for (size_t row = 0; row < logits.size(); ++row) {
    for (size_t k = 0; k < count; ++k) {
      rows[row].push_back(logits[row].at(static_cast<size_t>(ids[row * count + k])));
    }
    rows[row].push_back(log_sum_exp(logits[row]));
  }
  return rows;
}

// The bound of the float32 test above, with 6 layers and sums of K = 768.
TEST_P(GoldenPackage, BestLogitsOfEveryPosition) {
  const auto file = SafetensorsFile::open(golden_ / "golden.safetensors");
  ASSERT_TRUE(file.has_value());
  const auto prompts = read_golden(golden_);
  ASSERT_FALSE(prompts.empty());
  for (size_t i = 0; i < prompts.size(); ++i) {
    const std::string suffix = "." + std::to_string(i);
    const TensorEntry* last = find(*file, "last" + suffix);
    const TensorEntry* top_ids = find(*file, "top_ids" + suffix);
    const TensorEntry* top_values = find(*file, "top_values" + suffix);
    const TensorEntry* sums = find(*file, "logsumexp" + suffix);
    ASSERT_TRUE(last && top_ids && top_values && sums);
    std::vector<int32_t> ids((top_ids->end - top_ids->begin) / sizeof(int32_t));
    std::memcpy(ids.data(), file->bytes(*top_ids).data(), ids.size() * sizeof(int32_t));
    const auto ours = prompt_logits(*runner_, prompts[i].token_ids);
    ASSERT_EQ(static_cast<int64_t>(ours.size()), top_ids->shape[0]);

    std::vector<std::vector<float>> golden(ours.size());
    const auto values = floats_of(*file, *top_values);
    const auto logsumexp = floats_of(*file, *sums);
    const size_t count = ids.size() / ours.size();
    for (size_t row = 0; row < ours.size(); ++row) {
      golden[row].assign(values.begin() + static_cast<int64_t>(row * count),
                         values.begin() + static_cast<int64_t>((row + 1) * count));
      golden[row].push_back(logsumexp[row]);
    }
    for (const Difference& difference : {compare(summaries(ours, ids), golden),
                                         compare({ours.back()}, {floats_of(*file, *last)})}) {
      EXPECT_LE(difference.worst, 6e-4 * difference.scale) << difference.where;
      printf("[ worst    ] prompt %zu: %.2e of %.2f\n", i, difference.worst, difference.scale);
    }
  }
}

TEST_P(GoldenPackage, SixtyFourGreedyTokens) {
  for (const Prompt& prompt : read_golden(golden_)) {
    Session session(*runner_, static_cast<int32_t>(prompt.token_ids.size()) + 64);
    std::vector<int32_t> greedy = {argmax(session.step(prompt.token_ids).back())};
    while (greedy.size() < prompt.greedy.size()) {
      greedy.push_back(argmax(session.step({greedy.back()}).back()));
    }
    EXPECT_EQ(greedy, prompt.greedy);
  }
}

INSTANTIATE_TEST_SUITE_P(Embedded, GoldenPackage, testing::Values("llama", "bloom"),
                         [](const auto& item) { return item.param; });

// Every folder of tests/golden/variants.
std::vector<std::string> variants() {
  std::vector<std::string> names;
  for (const auto& item : fs::directory_iterator(variant(""))) {
    names.push_back(item.path().filename().string());
  }
  std::ranges::sort(names);
  return names;
}

INSTANTIATE_TEST_SUITE_P(Variants, Golden, testing::ValuesIn(variants()),
                         [](const auto& item) { return item.param; });

TEST(GoldenVariants, CoverTheFamilies) {
  EXPECT_GE(variants().size(), 23U);
}

}  // namespace
}  // namespace sluice::model
