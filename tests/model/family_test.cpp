// Families without weights: what each config.json field does, and tables that are computed.
#include <gtest/gtest.h>
#include <torch/csrc/jit/api/module.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "base/json.h"
#include "model/family.h"
#include "model/program.h"
#include "model/safetensors.h"
#include "tests/model/fixtures.h"

namespace sluice::model {
namespace {

namespace fs = std::filesystem;

// A program's attributes but its tensors, as text.
using Attributes = std::map<std::string, std::string>;

Attributes attributes_of(const torch::jit::Module& program) {
  Attributes attributes;
  const auto object = program._ivalue();
  const auto& type = *program.type();
  for (size_t i = 0; i < type.numAttributes(); ++i) {
    if (object->getSlot(i).isTensor()) continue;
    std::ostringstream text;
    text.precision(17);
    text << object->getSlot(i);
    attributes[type.getAttributeName(i)] = text.str();
  }
  return attributes;
}

// What configure() makes of a config.json.
Result<Family> configured(const Json& json, const fs::path& families = {}) {
  const TemporaryFolder folder;
  write_text(folder / "config.json", json.dump());
  const auto config = ConfigFile::open(folder / "config.json");
  if (!config) return std::unexpected(config.error());
  auto family = Family::find(json["model_type"], families);
  if (!family) return family;
  if (auto done = family->configure(*config); !done) return std::unexpected(done.error());
  return family;
}

Json config_of(const std::string& name) {
  auto json = parse_json(read_text(variant(name) / "config.json"));
  EXPECT_TRUE(json.has_value());
  return json ? *json : Json::object();
}

// A variant's config.json with other fields.
Json changed(const std::string& name, const char* fields) {
  Json json = config_of(name);
  json.update(Json::parse(fields), /*merge_objects=*/false);
  return json;
}

struct Change {
  const char* what;
  const char* name;  // of the variant
  const char* fields;
  const char* reason;  // of the refusal
};

std::string name_of(const testing::TestParamInfo<Change>& item) {
  return item.param.what;
}

class RefusedField : public testing::TestWithParam<Change> {};

TEST_P(RefusedField, IsNamed) {
  const auto family = configured(changed(GetParam().name, GetParam().fields));
  ASSERT_FALSE(family.has_value()) << "is not refused";
  EXPECT_EQ(family.error().message.find("config.json: "), 0U) << family.error().message;
  EXPECT_NE(family.error().message.find(GetParam().reason), std::string::npos)
      << family.error().message;
}

constexpr const char* kLlama = "llama_linear_rope_biased_f32";
constexpr const char* kMistral = "mistral_window_bf16";
constexpr const char* kQwen2 = "qwen2_window_from_layer_1_f32";
constexpr const char* kQwen3 = "qwen3_tied_bf16";
constexpr const char* kBloom = "bloom_post_layernorm_f32";
constexpr const char* kGpt2 = "gpt2_tied_f32";
constexpr const char* kNeox = "gpt_neox_parallel_f32";

INSTANTIATE_TEST_SUITE_P(
    Rope, RefusedField,
    testing::Values(
        Change{"longrope", kLlama,
               R"({"rope_scaling": {"rope_type": "longrope", "factor": 2.0, "long_factor": [1.0],
                   "short_factor": [1.0]}})",
               "rope_scaling.rope_type is 'longrope', supported: default, linear, dynamic"},
        Change{"su", kMistral, R"({"rope_scaling": {"type": "su", "factor": 2.0}})",
               "rope_scaling.type is 'su'"},
        Change{"no_type", kQwen2, R"({"rope_scaling": {"factor": 2.0}})",
               "rope_scaling.rope_type is missing"},
        Change{"two_types", kLlama,
               R"({"rope_scaling": {"rope_type": "yarn", "type": "linear", "factor": 2.0}})",
               "rope_scaling.type is 'linear', supported: yarn"},
        Change{"no_factor", kQwen3, R"({"rope_scaling": {"type": "dynamic"}})",
               "rope_scaling.factor is missing"},
        Change{"factor_as_text", kLlama, R"({"rope_scaling": {"type": "yarn", "factor": "4"}})",
               "rope_scaling.factor has the wrong type"},
        Change{"small_factor", kLlama, R"({"rope_scaling": {"type": "linear", "factor": 0.5}})",
               "rope_scaling.factor is below 1"},
        Change{"llama3_without_wavelengths", kLlama,
               R"({"rope_scaling": {"rope_type": "llama3", "factor": 8.0,
                   "original_max_position_embeddings": 64}})",
               "rope_scaling.low_freq_factor is missing"},
        Change{"alpha", kLlama,
               R"({"rope_scaling": {"type": "dynamic", "factor": 1.0, "alpha": 1000.0}})",
               "rope_scaling.alpha is '1000.0'"},
        Change{"sections_of_heads", kQwen2,
               R"({"rope_scaling": {"type": "default", "mrope_section": [1, 2, 3]}})",
               "rope_scaling.mrope_section"},
        Change{
            "by_layer_type", kQwen3,
            R"({"rope_scaling": null, "rope_parameters": {"full_attention": {"rope_theta": 1.0}}})",
            "rope_parameters.full_attention is '{...}'"},
        Change{"two_sections", kLlama,
               R"({"rope_parameters": {"rope_type": "linear", "factor": 2.0}})",
               "rope_scaling is set beside rope_parameters"},
        Change{"two_bases", kLlama,
               R"({"rope_scaling": null, "rope_parameters": {"rope_theta": 500000.0}})",
               "rope_parameters.rope_theta is not the base that the file gives elsewhere"},
        Change{"two_bases_of_neox", kNeox, R"({"rope_theta": 500000.0})",
               "rope_theta is not the base"},
        Change{"odd_rotary_size", kLlama, R"({"partial_rotary_factor": 0.3})",
               "partial_rotary_factor leaves an odd number"},
        Change{"odd_rotary_pct", kNeox, R"({"rotary_pct": 0.2})", "an odd number"},
        Change{"neox_longrope", kNeox, R"({"rope_scaling": {"type": "longrope", "factor": 2.0}})",
               "rope_scaling.type is 'longrope'"}),
    name_of);

INSTANTIATE_TEST_SUITE_P(
    Graph, RefusedField,
    testing::Values(
        Change{"activation", kLlama, R"({"hidden_act": "gelu"})", "hidden_act is 'gelu'"},
        Change{"llama_window", kLlama, R"({"sliding_window": 64})", "sliding_window is '64'"},
        Change{"llama_layer_types", kLlama,
               R"({"layer_types": ["full_attention", "sliding_attention"]})",
               "layer_types has 'sliding_attention' for a layer"},
        Change{"mistral_layer_types", kMistral,
               R"({"layer_types": ["full_attention", "sliding_attention"]})",
               "layer_types has 'full_attention' for a layer"},
        Change{"chunked_layers", kQwen3,
               R"({"layer_types": ["full_attention", "chunked_attention"]})",
               "layer_types has 'chunked_attention'"},
        Change{"layers_without_window", kQwen3,
               R"({"layer_types": ["full_attention", "sliding_attention"]})",
               "layer_types has 'sliding_attention'"},
        Change{"too_few_layer_types", kQwen3, R"({"layer_types": ["full_attention"]})",
               "layer_types does not have num_hidden_layers entries"},
        Change{"layer_types_as_text", kQwen3, R"({"layer_types": "full_attention"})",
               "layer_types has the wrong type"},
        Change{"no_window", kMistral, R"({"sliding_window": 0})", "sliding_window is 0"},
        Change{"experts", kLlama, R"({"num_experts": 8})", "num_experts is '8'"},
        Change{"local_experts", kMistral, R"({"num_local_experts": 8})", "num_local_experts"},
        Change{"soft_cap", kLlama, R"({"attn_logit_softcapping": 50.0})", "attn_logit_softcapping"},
        Change{"logit_cap", kQwen2, R"({"final_logit_softcapping": 30.0})", "final_logit_soft"},
        Change{"multiplier", kLlama, R"({"embedding_multiplier": 12.0})", "embedding_multiplier"},
        Change{"logit_scale", kLlama, R"({"logits_scaling": 8.0})", "logits_scaling is '8.0'"},
        Change{"head_norms", kLlama, R"({"qk_layernorm": true})", "qk_layernorm is 'true'"},
        Change{"alibi", kLlama, R"({"alibi": true})", "alibi is 'true'"},
        Change{"no_rope_layers", kLlama, R"({"no_rope_layers": [1, 0]})", "no_rope_layers"},
        Change{"latent_attention", kLlama, R"({"kv_lora_rank": 512})", "kv_lora_rank is '512'"},
        Change{"bloom_heads", kBloom, R"({"n_head": 3})",
               "hidden_size is no multiple of the number of heads"},
        Change{"bloom_inner", kBloom, R"({"n_inner": 100})", "n_inner is '100', supported: 160"},
        Change{"bloom_pruned", kBloom, R"({"pruned_heads": {"0": [1]}})",
               "pruned_heads is '{...}', supported: null"},
        Change{"gpt2_activation", kGpt2, R"({"activation_function": "tanh"})",
               "activation_function is 'tanh', supported: gelu, gelu_new"},
        Change{"gpt2_cross_attention", kGpt2, R"({"add_cross_attention": true})",
               "add_cross_attention is 'true'"},
        Change{"gpt2_pruned", kGpt2, R"({"pruned_heads": {"1": [0]}})", "pruned_heads"},
        Change{"gpt2_heads", kGpt2, R"({"n_head": 5})", "hidden_size is no multiple"},
        Change{"gpt2_flag", kGpt2, R"({"scale_attn_weights": 1})", "scale_attn_weights has the"},
        Change{"neox_activation", kNeox, R"({"hidden_act": "quick_gelu"})",
               "hidden_act is 'quick_gelu'"},
        Change{"neox_heads", kNeox, R"({"num_attention_heads": 3})", "hidden_size is no multiple"},
        Change{"huge_layers", kGpt2, R"({"n_layer": 4000000000})", "n_layer is 4000000000"}),
    name_of);

class HarmlessField : public testing::TestWithParam<Change> {};

TEST_P(HarmlessField, ChangesNothing) {
  const auto plain = configured(config_of(GetParam().name));
  ASSERT_TRUE(plain.has_value()) << plain.error().message;
  const auto family = configured(changed(GetParam().name, GetParam().fields));
  ASSERT_TRUE(family.has_value()) << family.error().message;
  EXPECT_EQ(attributes_of(Family(*family).program()), attributes_of(Family(*plain).program()));
}

INSTANTIATE_TEST_SUITE_P(
    Known, HarmlessField,
    testing::Values(
        Change{"llama", kLlama,
               R"({"pretraining_tp": 4, "use_cache": false, "attention_dropout": 0.5,
                   "initializer_range": 1.0, "torch_dtype": "float16", "architectures": null,
                   "hidden_act": "swish", "max_window_layers": 1, "use_sliding_window": false,
                   "layer_types": ["full_attention", "full_attention"], "num_experts": 0})",
               ""},
        Change{"of_every_type", kLlama,
               R"({"output_hidden_states": true, "output_attentions": true, "return_dict": false,
                   "torchscript": true, "dtype": "float16", "chunk_size_feed_forward": 4,
                   "is_encoder_decoder": false, "is_decoder": true, "add_cross_attention": false,
                   "cross_attention_hidden_size": null, "tie_encoder_decoder": false,
                   "finetuning_task": "x", "id2label": {"0": "a"}, "label2id": {"a": 0},
                   "num_labels": 1, "problem_type": "regression", "tokenizer_class": "T",
                   "prefix": "p", "bos_token_id": 5, "pad_token_id": 6, "eos_token_id": [7, 8],
                   "sep_token_id": 9, "decoder_start_token_id": 3, "max_length": 20,
                   "temperature": 0.1, "repetition_penalty": 2.0, "suppress_tokens": [1],
                   "_name_or_path": "x", "auto_map": {"AutoConfig": "a.B"}, "a_new_field": 1})",
               ""},
        Change{"rope", kLlama,
               R"({"rope_scaling": {"rope_type": "linear", "type": "linear", "factor": 2,
                   "rope_theta": 10000.0, "beta_fast": 7.0, "finetuned": true}})",
               ""},
        Change{"mistral", kMistral,
               R"({"attention_bias": true, "mlp_bias": true, "head_dim": null,
                   "layer_types": ["sliding_attention", "sliding_attention"]})",
               ""},
        Change{"qwen2", kQwen2, R"({"attention_bias": false, "mlp_bias": true})", ""},
        Change{"qwen3", kQwen3,
               R"({"sliding_window": 8, "max_window_layers": 0, "mlp_bias": true,
                   "rope_scaling": {"rope_type": "default", "factor": 8.0}})",
               ""},
        Change{"bloom", kBloom,
               R"({"pretraining_tp": 4, "slow_but_exact": true, "offset_alibi": 100,
                   "attention_softmax_in_fp32": true, "masked_softmax_fusion": true,
                   "skip_bias_add": true, "n_inner": null, "hidden_dropout": 0.5})",
               ""},
        Change{"gpt2", kGpt2,
               R"({"reorder_and_upcast_attn": true, "resid_pdrop": 0.5, "summary_type": "first",
                   "embd_pdrop": 0.5, "attn_pdrop": 0.5, "summary_use_proj": false,
                   "summary_activation": "tanh", "summary_proj_to_labels": false,
                   "summary_first_dropout": 0.5, "n_ctx": 8, "n_inner": 144,
                   "activation_function": "gelu_pytorch_tanh",
                   "pruned_heads": {}, "task_specific_params": {"a": {"max_length": 5}}})",
               ""},
        Change{"neox", kNeox,
               R"({"classifier_dropout": 0.5, "rope_theta": 10000, "hidden_dropout": 0.5,
                   "partial_rotary_factor": 0.25, "is_decoder": true})",
               ""}),
    name_of);

// Where configs keep a field, and the models' defaults.
TEST(FamilyConfig, FindsFieldsWhereverTheyAre) {
  const auto same = [](const std::string& name, const char* one, const char* other) {
    const auto a = configured(changed(name, one));
    const auto b = configured(changed(name, other));
    ASSERT_TRUE(a.has_value() && b.has_value()) << one << " " << other;
    EXPECT_EQ(attributes_of(Family(*a).program()), attributes_of(Family(*b).program())) << other;
  };
  for (const char* theta :
       {R"({"rope_theta": null, "rope_scaling": {"rope_type": "default", "rope_theta": 5e5}})",
        R"({"rope_theta": null, "rope_scaling": null, "rope_parameters": {"rope_theta": 5e5}})",
        R"({"rope_theta": 5e5, "rope_scaling": null, "rope_parameters": {"rope_theta": 5e5}})"}) {
    same(kLlama, R"({"rope_theta": 5e5, "rope_scaling": null})", theta);
  }
  same(kLlama, R"({"partial_rotary_factor": 0.5, "rope_scaling": null, "rope_theta": null})",
       R"({"rope_scaling": null, "rope_theta": null,
           "rope_parameters": {"partial_rotary_factor": 0.5}})");
  same(kNeox, R"({"rotary_emb_base": 5e5, "rope_theta": null})",
       R"({"rotary_emb_base": null, "rotary_pct": null, "rope_theta": null,
           "rope_parameters": {"rope_theta": 5e5, "partial_rotary_factor": 0.25}})");
  same(kGpt2, R"({})",
       R"({"n_embd": null, "hidden_size": 36, "n_head": null, "num_attention_heads": 3,
           "n_layer": null, "num_hidden_layers": 2, "n_positions": null,
           "max_position_embeddings": 128})");
}

TEST(FamilyConfig, TellsNullFromNothing) {
  const auto windows = [](const Json& json) {
    const auto family = configured(json);
    EXPECT_TRUE(family.has_value());
    return family ? attributes_of(Family(*family).program())["windows"] : "";
  };
  Json json = config_of(kMistral);
  EXPECT_EQ(windows(json), "[12, 12]");
  json["sliding_window"] = nullptr;
  EXPECT_EQ(windows(json), "[0, 0]");
  json.erase("sliding_window");
  EXPECT_EQ(windows(json), "[4096, 4096]");
  EXPECT_EQ(windows(config_of(kQwen2)), "[0, 9]");
  EXPECT_EQ(windows(config_of("qwen3_layer_types_biased_f32")), "[10, 0]");
  EXPECT_EQ(windows(changed(kQwen2, R"({"use_sliding_window": false})")), "[0, 0]");
  EXPECT_EQ(windows(changed(kQwen2, R"({"max_window_layers": 0})")), "[9, 9]");
}

// config.json files as published: each model type's own fields, at their real sizes.
TEST(FamilyConfig, TakesPublishedConfigs) {
  const auto json =
      parse_json(read_text(fs::path(SLUICE_SOURCE_DIR) / "tests/golden/published_configs.json"));
  ASSERT_TRUE(json.has_value());
  for (const Json& model : (*json)["models"]) {
    SCOPED_TRACE(model["model"].get<std::string>());
    auto family = configured(model["config"]);
    ASSERT_TRUE(family.has_value()) << family.error().message;
    const auto sizes = declared_sizes(family->program());
    ASSERT_TRUE(sizes.has_value()) << sizes.error().message;
    EXPECT_EQ(sizes->vocabulary_size, model["config"]["vocab_size"]);
    EXPECT_EQ(sizes->context_length, model["context_length"]);
    EXPECT_EQ(sizes->head_size, model["head_size"]);
    EXPECT_EQ(sizes->num_kv_heads, model["num_kv_heads"]);
  }
}

// A family of a user's own, which imports a built-in helper.
constexpr const char* kProbe =
    R"(from rope import rope_context, rope_settings, rope_table, rope_theta
from typing import Dict


class Probe(Module):
    settings: Dict[str, float]
    context_length: int


def model_types() -> List[str]:
    return ["probe"]


def configure(model: Probe, config: Config) -> None:
    size = config.count("head_dim")
    rotated = int(size * config.number("partial_rotary_factor", 1.0))
    theta = rope_theta(config, [])
    model.settings = rope_settings(config, theta, rotated, config.count("max_position_embeddings"))
    model.context_length = rope_context(model.settings)


def weights(model: Probe, checkpoint: Checkpoint, out: Weights) -> None:
    out.table("rope", rope_table(model.settings, model.context_length))
)";

struct TableSink final : WeightSink {
  Result<void> add(const std::string&, const std::vector<at::Tensor>& parts, bool) override {
    table = parts.at(0);
    return {};
  }
  Result<void> alias(const std::string&, const std::string&) override { return {}; }
  Result<void> absent(const std::string&) override { return {}; }
  at::Tensor table;
};

std::vector<float> row_of(const SafetensorsFile& file, const std::string& name, size_t row) {
  for (const TensorEntry& entry : file.tensors()) {
    if (entry.name != name) continue;
    std::vector<float> values(static_cast<size_t>(entry.shape[1]));
    std::memcpy(values.data(), file.bytes(entry).data() + row * values.size() * sizeof(float),
                values.size() * sizeof(float));
    return values;
  }
  ADD_FAILURE() << name << " is missing";
  return {};
}

// Two units in the last place of the frequency, which the position multiplies, and of the result.
void expect_row(const at::Tensor& ours, const std::vector<float>& cosines,
                const std::vector<float>& sines, int64_t position, double& worst) {
  const at::Tensor row = ours.select(0, position).contiguous();
  ASSERT_EQ(row.size(0), static_cast<int64_t>(cosines.size()));
  const float* values = row.const_data_ptr<float>();
  for (size_t i = 0; i < cosines.size(); ++i) {
    const double error = std::max(std::abs(double{values[2 * i]} - cosines[i]),
                                  std::abs(double{values[2 * i + 1]} - sines[i]));
    worst = std::max(worst, error);
    EXPECT_LE(error, (static_cast<double>(position) + 2) * 0x1p-23)
        << "position " << position << " frequency " << i << ": " << values[2 * i] << " against "
        << cosines[i];
  }
}

TEST(Rope, TablesEqualTransformers) {
  const TemporaryFolder families;
  write_text(families / "probe.py", kProbe);
  const fs::path golden = fs::path(SLUICE_SOURCE_DIR) / "tests/golden/rope";
  const auto json = parse_json(read_text(golden / "rope.json"));
  const auto file = SafetensorsFile::open(golden / "rope.safetensors");
  auto checkpoint = Checkpoint::open(variant(kLlama));
  ASSERT_TRUE(json.has_value() && file.has_value() && checkpoint.has_value());
  size_t number = 0;
  for (const Json& item : (*json)["cases"]) {
    SCOPED_TRACE(item["name"].get<std::string>());
    Json config = item["config"];
    config["model_type"] = "probe";
    auto family = configured(config, families.path());
    ASSERT_TRUE(family.has_value()) << family.error().message;
    TableSink sink;
    const auto sent = family->send_weights(*checkpoint, sink);
    ASSERT_TRUE(sent.has_value()) << sent.error().message;
    double worst = 0;
    for (size_t row = 0; row < item["positions"].size(); ++row) {
      expect_row(sink.table, row_of(*file, "cos." + std::to_string(number), row),
                 row_of(*file, "sin." + std::to_string(number), row), item["positions"][row],
                 worst);
    }
    printf("[ worst    ] %s: %.2e\n", item["name"].get<std::string>().c_str(), worst);
    ++number;
  }
  EXPECT_GE(number, 14U);
}

TEST(FamilyImports, NameWhatIsWrong) {
  const auto message = [](const std::string& import, const std::string& helper) {
    const TemporaryFolder families;
    write_text(families / "probe.py", import + kProbe);
    write_text(families / "helper.py", helper);
    const auto family = configured({{"model_type", "probe"}, {"head_dim", 8}}, families.path());
    return family ? "" : family.error().message;
  };
  EXPECT_NE(message("from nothing import a\n", "").find("probe.py: imports nothing, which is not"),
            std::string::npos);
  EXPECT_NE(message("from bloom import a\n", "").find("probe.py: imports bloom, a family itself"),
            std::string::npos);
  const std::string twice = "def rope_context(a: int) -> int:\n    return a\n";
  EXPECT_NE(message("from helper import rope_context\n", twice).find("rope_context"),
            std::string::npos);
  EXPECT_NE(message("from helper import a\n", "def a(:\n").find("probe.py: "), std::string::npos);
  // Helpers of helpers, and helpers that nobody imports, are no families.
  EXPECT_NE(message("", "from nothing import a\n").find("max_position_embeddings is missing"),
            std::string::npos);
}

}  // namespace
}  // namespace sluice::model
