// A user's own torch.jit.script'ed module: program.pt and golden.json of examples/custom_model,
// made by
//   python export.py --out ../../tests/golden/scripted --golden
//   ../../tests/golden/scripted/golden.json
// (with runpy.run_path in that folder, so that the archive holds no absolute path).
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include "base/json.h"
#include "sluice/import.h"
#include "tests/model/fixtures.h"

namespace sluice::model {
namespace {

namespace fs = std::filesystem;

struct Expected {
  std::vector<int32_t> prompt;
  std::vector<std::vector<float>> logits;
  std::vector<int32_t> greedy;
};

fs::path exported() {
  return fs::path(SLUICE_SOURCE_DIR) / "tests/golden/scripted";
}

Expected expected() {
  const auto json = parse_json(read_text(exported() / "golden.json"));
  EXPECT_TRUE(json.has_value());
  return {(*json)["prompt"].get<std::vector<int32_t>>(),
          (*json)["logits"].get<std::vector<std::vector<float>>>(),
          (*json)["greedy"].get<std::vector<int32_t>>()};
}

// The bound of golden_test.cpp's float32 test: sums of at most 128 products, two layers.
void expect_golden(ModelRunner& runner) {
  const Expected golden = expected();
  const auto ours = prompt_logits(runner, golden.prompt);
  ASSERT_EQ(ours.size(), golden.logits.size());
  double worst = 0;
  double scale = 0;
  for (size_t row = 0; row < ours.size(); ++row) {
    for (size_t column = 0; column < ours[row].size(); ++column) {
      const double value = golden.logits[row].at(column);
      worst = std::max(worst, std::abs(ours[row][column] - value));
      scale = std::max(scale, std::abs(value));
    }
  }
  EXPECT_LE(worst, 1.5e-4 * scale);
  printf("[ worst    ] %.2e of %.2f\n", worst, scale);

  Session session(runner, static_cast<int32_t>(golden.prompt.size() + golden.greedy.size()));
  const auto best = [](const std::vector<float>& row) {
    return static_cast<int32_t>(std::ranges::max_element(row) - row.begin());
  };
  std::vector<int32_t> greedy = {best(session.step(golden.prompt).back())};
  while (greedy.size() < golden.greedy.size()) {
    greedy.push_back(best(session.step({greedy.back()}).back()));
  }
  EXPECT_EQ(greedy, golden.greedy);
}

TEST(CustomModel, GivesWhatPyTorchComputes) {
  const auto runner = load(exported());
  ASSERT_NE(runner, nullptr);
  EXPECT_EQ(runner->config().family, "scripted");
  EXPECT_EQ(runner->config().dtype, "f32");
  EXPECT_EQ(runner->config().end_token_ids, (std::vector<int32_t>{2}));
  expect_golden(*runner);
}

TEST(CustomModel, AsAPackageToo) {
  const TemporaryFolder folder;
  ImportOptions options;
  options.source = exported();
  options.package = folder / "package";
  const auto imported = import_model(options);
  ASSERT_TRUE(imported.has_value()) << imported.error().message;
  const auto runner = load(folder / "package");
  ASSERT_NE(runner, nullptr);
  expect_golden(*runner);
}

}  // namespace
}  // namespace sluice::model
