// Greedy tokens through the whole service against Transformers' (models/training/golden.py).
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "base/json.h"
#include "sluice/runtime.h"
#include "tests/device/test_device.h"
#include "tests/engine/waiting_observer.h"

namespace sluice::engine {
namespace {

namespace fs = std::filesystem;

class GoldenTest : public testing::TestWithParam<const char*> {};

TEST_P(GoldenTest, GreedyTokensEqualTransformers) {
  const fs::path folder = fs::path(SLUICE_SOURCE_DIR) / "tests/golden/variants" / GetParam();
  std::ostringstream text;
  text << std::ifstream(folder / "golden.json").rdbuf();
  const auto golden = parse_json(text.str());
  ASSERT_TRUE(golden.has_value());

  RuntimeOptions options;
  options.models = {{"model", folder}};
  options.device = test_device::name();
  options.num_threads = 2;
  options.max_num_seqs = 4;  // few sizes to warm up
  options.kv_cache_bytes = int64_t{64} << 20;
  auto service = create_service(options);
  ASSERT_TRUE(service.has_value()) << service.error().message;
  std::vector<std::shared_ptr<WaitingObserver>> observers;
  for (const Json& prompt : (*golden)["prompts"]) {
    GenerateRequest request;
    request.token_ids = prompt["token_ids"].get<std::vector<int64_t>>();
    request.max_tokens = static_cast<int64_t>(prompt["greedy"].size());
    request.temperature = 0;
    request.ignore_eos = true;
    observers.push_back(std::make_shared<WaitingObserver>());
    const auto call = (*service)->generate(request, observers.back());
    ASSERT_TRUE(call.has_value()) << call.error().message;
  }
  for (size_t i = 0; i < observers.size(); ++i) {
    ASSERT_TRUE(observers[i]->wait().has_value()) << observers[i]->wait().error().message;
    std::vector<int32_t> tokens;
    for (const GenerateChunk& chunk : observers[i]->chunks()) {
      tokens.insert(tokens.end(), chunk.token_ids.begin(), chunk.token_ids.end());
    }
    EXPECT_EQ(tokens, (*golden)["prompts"][i]["greedy"].get<std::vector<int32_t>>())
        << "prompt " << i;
  }
  EXPECT_EQ((*service)->drain(std::chrono::seconds(10)), DrainEnd::kFinished);
}

INSTANTIATE_TEST_SUITE_P(Variants, GoldenTest,
                         testing::Values("llama_mha_untied_f32", "bloom_3_heads_f32",
                                         "qwen3_layer_types_biased_f32", "gpt2_tied_f32",
                                         "gpt_neox_parallel_f32"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace sluice::engine
