// Import, and what is refused of a Hugging Face folder.
#include "sluice/import.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "tests/model/fixtures.h"

namespace sluice::model {
namespace {

namespace fs = std::filesystem;

const std::vector<int32_t> kTokens = {5, 17, 3, 198, 44, 0, 9, 9, 120, 7, 61, 2, 33, 8, 100, 1, 77};

Result<void> import_to(const fs::path& source, const fs::path& package,
                       const std::string& dtype = "") {
  ImportOptions options;
  options.source = source;
  options.package = package;
  options.dtype = dtype;
  return import_model(options);
}

class Variant : public testing::TestWithParam<std::string> {};

TEST_P(Variant, PackageGivesTheBitsOfTheFolder) {
  for (const char* dtype : {"", "f32", "bf16", "f16"}) {
    const TemporaryFolder folder;
    const auto imported = import_to(variant(GetParam()), folder / "package", dtype);
    ASSERT_TRUE(imported.has_value()) << imported.error().message;
    LoadOptions options;
    options.dtype = dtype;
    const auto from_folder = load(variant(GetParam()), options);
    const auto from_package = load(folder / "package");
    ASSERT_TRUE(from_folder && from_package);
    EXPECT_EQ(from_package->config().dtype, from_folder->config().dtype);
    EXPECT_EQ(from_package->config().num_parameters, from_folder->config().num_parameters);
    EXPECT_EQ(from_package->config().end_token_ids, (std::vector<int32_t>{2}));
    EXPECT_EQ(prompt_logits(*from_package, kTokens), prompt_logits(*from_folder, kTokens));
  }
}

INSTANTIATE_TEST_SUITE_P(Import, Variant,
                         testing::Values("llama_mha_untied_f32", "llama_gqa_tied_bf16",
                                         "llama_mqa_untied_f16", "bloom_3_heads_f32",
                                         "bloom_4_heads_bf16"),
                         [](const auto& item) { return item.param; });

TEST(Import, SameSourceGivesSameDigest) {
  const TemporaryFolder folder;
  ASSERT_TRUE(import_to(variant("llama_gqa_tied_bf16"), folder / "a").has_value());
  ASSERT_TRUE(import_to(variant("llama_gqa_tied_bf16"), folder / "b").has_value());
  const auto a = load(folder / "a");
  const auto b = load(folder / "b");
  ASSERT_TRUE(a && b);
  EXPECT_EQ(a->config().digest, b->config().digest);
  EXPECT_EQ(a->config().digest.size(), 64U);
}

TEST(Import, TakesTheTokenizerAlong) {
  const TemporaryFolder folder;
  copy_variant("bloom_3_heads_f32", folder / "source");
  write_text(folder / "source/tokenizer.json", "{}");
  ASSERT_TRUE(import_to(folder / "source", folder / "package").has_value());
  EXPECT_EQ(read_text(folder / "package/tokenizer.json"), "{}");
  EXPECT_NE(load(folder / "package"), nullptr);
}

TEST(Import, GenerationConfigsEndTokensCount) {
  const TemporaryFolder folder;
  copy_variant("bloom_3_heads_f32", folder / "source");
  write_text(folder / "source/generation_config.json", R"({"eos_token_id": [3, 7]})");
  const auto runner = load(folder / "source");
  ASSERT_NE(runner, nullptr);
  EXPECT_EQ(runner->config().end_token_ids, (std::vector<int32_t>{3, 7}));
}

TEST(Import, ReplacesPackagesOnlyAndOnlyWhenAsked) {
  const TemporaryFolder folder;
  ASSERT_TRUE(import_to(variant("bloom_3_heads_f32"), folder / "package").has_value());
  const auto again = import_to(variant("bloom_3_heads_f32"), folder / "package");
  ASSERT_FALSE(again.has_value());
  EXPECT_EQ(again.error().code, ErrorCode::kAlreadyExists);

  ImportOptions options;
  options.source = variant("llama_mha_untied_f32");
  options.package = folder / "package";
  options.overwrite = true;
  ASSERT_TRUE(import_model(options).has_value());
  const auto runner = load(folder / "package");
  ASSERT_NE(runner, nullptr);
  EXPECT_EQ(runner->config().family, "llama");

  fs::create_directories(folder / "precious");
  write_text(folder / "precious/thesis.txt", "mine");
  options.package = folder / "precious";
  const auto refused = import_model(options);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, ErrorCode::kAlreadyExists);
  EXPECT_EQ(read_text(folder / "precious/thesis.txt"), "mine");
}

TEST(Import, AStopAtAnyPointLeavesNothing) {
  const TemporaryFolder folder;
  ImportOptions options;
  options.source = variant("llama_gqa_tied_bf16");
  options.package = folder / "package";
  int calls = 0;
  int64_t last = 0;
  options.progress = [&](int64_t done, int64_t total) {
    ++calls;
    EXPECT_GE(done, last);
    EXPECT_LE(done, total);
    last = done;
    return true;
  };
  ASSERT_TRUE(import_model(options).has_value());
  fs::remove_all(folder / "package");
  for (int stop_at = 1; stop_at <= calls; ++stop_at) {
    int count = 0;
    options.progress = [&](int64_t, int64_t) { return ++count < stop_at; };
    const auto stopped = import_model(options);
    ASSERT_FALSE(stopped.has_value());
    EXPECT_EQ(stopped.error().code, ErrorCode::kCancelled);
    EXPECT_TRUE(fs::is_empty(folder.path())) << "after " << stop_at << " calls";
  }
}

TEST(Import, AFailureLeavesNothing) {
  const TemporaryFolder folder;
  copy_variant("bloom_3_heads_f32", folder / "source");
  std::string weights = read_text(folder / "source/model.safetensors");
  weights.replace(weights.size() - 4, 4, "\xff\xff\xff\x7f");  // a NaN
  write_text(folder / "source/model.safetensors", weights);
  const auto imported = import_to(folder / "source", folder / "package");
  ASSERT_FALSE(imported.has_value());
  EXPECT_NE(imported.error().message.find("NaN"), std::string::npos) << imported.error().message;
  EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), {}), 1) << "the source only";
  EXPECT_NE(load_error(folder / "source").find("NaN"), std::string::npos);
}

TEST(Import, ANumberTooLargeForTheWantedDtypeIsRefused) {
  const TemporaryFolder folder;
  copy_variant("bloom_3_heads_f32", folder / "source");
  std::string weights = read_text(folder / "source/model.safetensors");
  weights.replace(weights.size() - 4, 4, std::string("\x00\x00\x80\x49", 4));  // 2^20
  write_text(folder / "source/model.safetensors", weights);
  EXPECT_FALSE(import_to(folder / "source", folder / "package", "f16").has_value());
  EXPECT_TRUE(import_to(folder / "source", folder / "package", "bf16").has_value());
}

TEST(Import, ShardsGiveTheBitsOfTheWhole) {
  const TemporaryFolder folder;
  const std::string name = "llama_gqa_tied_bf16";
  copy_variant(name, folder / "source");
  split_checkpoint(folder / "source", 3);
  const auto runner = load(folder / "source");
  const auto expected = load(variant(name));
  ASSERT_TRUE(runner && expected);
  EXPECT_EQ(prompt_logits(*runner, kTokens), prompt_logits(*expected, kTokens));

  const fs::path index = folder / "source/model.safetensors.index.json";
  const std::string good = read_text(index);
  fs::rename(folder / "source/shard-1.safetensors", folder / "source/gone");
  EXPECT_NE(load_error(folder / "source").find("shard-1.safetensors"), std::string::npos);
  fs::rename(folder / "source/gone", folder / "source/shard-1.safetensors");
  replace_in(index, "shard-1.safetensors", "../shard-1.safetensors");
  EXPECT_NE(load_error(folder / "source").find("outside the folder"), std::string::npos);
  write_text(index, good);
  replace_in(index, "shard-1.safetensors", "shard-0.safetensors");
  EXPECT_NE(load_error(folder / "source").find("is not in shard-0"), std::string::npos);
  write_text(index, "[]");
  EXPECT_NE(load_error(folder / "source").find("has no weight_map"), std::string::npos);
}

struct BadConfig {
  const char* what;
  const char* from;
  const char* to;
  const char* reason;
};

class RefusedConfig : public testing::TestWithParam<BadConfig> {};

TEST_P(RefusedConfig, NamesTheField) {
  const TemporaryFolder folder;
  copy_variant("llama_gqa_tied_bf16", folder / "source");
  replace_in(folder / "source/config.json", GetParam().from, GetParam().to);
  const std::string message = load_error(folder / "source");
  EXPECT_NE(message.find(GetParam().reason), std::string::npos) << message;
  EXPECT_FALSE(import_to(folder / "source", folder / "package").has_value());
  EXPECT_FALSE(fs::exists(folder / "package"));
}

INSTANTIATE_TEST_SUITE_P(
    Import, RefusedConfig,
    testing::Values(
        BadConfig{"not_json", "{", "(", "config.json: not valid JSON"},
        BadConfig{"model_type", "\"llama\"", "\"lama\"", "model_type is 'lama', supported: "},
        BadConfig{"no_model_type", "\"model_type\"", "\"type\"", "model_type is missing"},
        BadConfig{"rope_scaling", "\"rope_scaling\": null",
                  "\"rope_scaling\": {\"type\": \"longrope\", \"factor\": 2.0}",
                  "rope_scaling.type is 'longrope', supported: default, linear, dynamic"},
        BadConfig{"llama3_scaling", "\"rope_scaling\": null",
                  "\"rope_scaling\": {\"rope_type\": \"llama3\"}",
                  "rope_scaling.factor is missing"},
        BadConfig{"activation", "\"silu\"", "\"gelu\"", "hidden_act is 'gelu'"},
        BadConfig{"sliding_window", "\"mlp_bias\"", "\"sliding_window\": 64, \"mlp_bias\"",
                  "sliding_window is '64'"},
        BadConfig{"quantized", "\"mlp_bias\"",
                  "\"quantization_config\": {\"quant_method\": \"gptq\"}, \"mlp_bias\"",
                  "quantization_config"},
        BadConfig{"no_vocabulary", "\"vocab_size\"", "\"vocabulary\"", "vocab_size is missing"},
        BadConfig{"vocabulary_as_text", "199", "\"199\"", "vocab_size has the wrong type"},
        BadConfig{"larger_vocabulary", "199", "200", "has shape [199, 64], config.json says"},
        BadConfig{"no_heads", "\"num_attention_heads\": 4", "\"num_attention_heads\": 0",
                  "num_attention_heads is 0, must be at least 1"},
        BadConfig{"odd_groups", "\"num_key_value_heads\": 2", "\"num_key_value_heads\": 3",
                  "no multiple"},
        BadConfig{"negative_layers", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": -2",
                  "num_hidden_layers is -2"},
        BadConfig{"fewer_layers", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1",
                  "does not use, the first is 'model.layers.1."},
        BadConfig{"more_layers", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3",
                  "has no tensor 'model.layers.2."},
        BadConfig{"huge_layers", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 4000000000",
                  "num_hidden_layers is 4000000000"},
        BadConfig{"huge_number", "199", "1e999", "not valid JSON"},
        BadConfig{"huge_context", "\"max_position_embeddings\": 256",
                  "\"max_position_embeddings\": 99999999999",
                  "max_position_embeddings is 99999999999"},
        BadConfig{"other_width", "\"hidden_size\": 64", "\"hidden_size\": 32", "has shape"},
        BadConfig{"untied", "\"tie_word_embeddings\": true", "\"tie_word_embeddings\": false",
                  "has no tensor 'lm_head.weight'"},
        BadConfig{"bias", "\"attention_bias\": false", "\"attention_bias\": true",
                  "has no tensor 'model.layers.0.self_attn.q_proj.bias'"},
        BadConfig{"end_token", "\"eos_token_id\": 2", "\"eos_token_id\": 199",
                  "eos_token_id 199 is outside the vocabulary"},
        BadConfig{"end_token_text", "\"eos_token_id\": 2", "\"eos_token_id\": \"2\"",
                  "eos_token_id is neither"}),
    [](const auto& item) { return std::string(item.param.what); });

TEST(Import, RefusesPickleFilesWithTheCommandThatConverts) {
  struct Case {
    const char* name;
    const char* command;
  };
  for (const Case& pickle :
       {Case{"pytorch_model.bin", "M.from_pretrained('.', torch_dtype='auto').save_pretrained"},
        Case{"pytorch_model-00001-of-00002.bin", "M.from_pretrained('.', torch_dtype='auto')"},
        Case{"weights.pth", "torch.load('weights.pth', 'cpu', weights_only=True)"},
        Case{"a'b.pt", "torch.load('FILE', 'cpu', weights_only=True)"}}) {
    const TemporaryFolder folder;
    copy_variant("llama_gqa_tied_bf16", folder / "source");
    fs::rename(folder / "source/model.safetensors", folder / "source" / pickle.name);
    const std::string message = load_error(folder / "source");
    EXPECT_NE(message.find(std::string(pickle.name) + ": is a pickle file"), std::string::npos)
        << message;
    EXPECT_NE(message.find(pickle.command), std::string::npos) << message;
  }
}

TEST(Import, RefusesMetasLayoutWithTheScriptThatConverts) {
  const TemporaryFolder folder;
  write_text(folder / "params.json", "{}");
  write_text(folder / "consolidated.00.pth", "PK");
  const std::string message = load_error(folder.path());
  EXPECT_NE(message.find("consolidated.00.pth: is a pickle file"), std::string::npos) << message;
  EXPECT_NE(message.find("convert_llama_weights_to_hf.py"), std::string::npos) << message;
}

TEST(Import, RefusesAPackage) {
  const TemporaryFolder folder;
  ASSERT_TRUE(import_to(variant("bloom_3_heads_f32"), folder / "package").has_value());
  const auto imported = import_to(folder / "package", folder / "other");
  ASSERT_FALSE(imported.has_value());
  EXPECT_EQ(imported.error().message, "package: is a package already");
}

TEST(Import, NamesWhatIsMissing) {
  const TemporaryFolder folder;
  EXPECT_NE(load_error(folder / "absent").find("no such folder"), std::string::npos);
  EXPECT_NE(load_error(folder.path()).find("config.json"), std::string::npos);
  fs::copy_file(variant("bloom_3_heads_f32") / "config.json", folder / "config.json");
  EXPECT_NE(load_error(folder.path()).find("model.safetensors"), std::string::npos);
}

TEST(Import, RefusesTensorsOfOtherDtypes) {
  const TemporaryFolder folder;
  copy_variant("bloom_4_heads_bf16", folder / "source");
  replace_in(folder / "source/model.safetensors", "\"BF16\"", "\"I16\" ");
  EXPECT_NE(load_error(folder / "source").find("has dtype I16"), std::string::npos);
}

TEST(Import, RefusesAnUnknownDtype) {
  LoadOptions options;
  options.dtype = "int3";
  EXPECT_NE(load_error(variant("bloom_3_heads_f32"), options).find("dtype is 'int3'"),
            std::string::npos);
  const TemporaryFolder folder;
  EXPECT_FALSE(import_to(variant("bloom_3_heads_f32"), folder / "package", "int3").has_value());
}

TEST(Import, RefusesALongerContextThanTheModels) {
  LoadOptions options;
  options.max_model_len = 256;
  EXPECT_NE(load(variant("bloom_3_heads_f32"), options), nullptr);
  options.max_model_len = 257;
  EXPECT_NE(
      load_error(variant("bloom_3_heads_f32"), options).find("257, the model's context is 256"),
      std::string::npos);
}

}  // namespace
}  // namespace sluice::model
