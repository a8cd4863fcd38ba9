// The logits that a package has of its import, and what a load makes of them.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <limits>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/sha256.h"
#include "model/golden_logits.h"
#include "model/manifest.h"
#include "model/safetensors.h"
#include "sluice/import.h"
#include "tests/model/fixtures.h"

namespace sluice::model {
namespace {

namespace fs = std::filesystem;

class GoldenFile : public testing::Test {
 protected:
  void make(const std::string& name, const std::string& dtype = "", bool packed = false) {
    fs::remove_all(package_);
    ImportOptions options;
    options.source = variant(name);
    options.package = package_;
    options.dtype = dtype;
    options.packed = packed;
    const auto imported = import_model(options);
    ASSERT_TRUE(imported.has_value()) << imported.error().message;
  }

  GoldenLogits golden() const {
    const auto parsed = parse_golden(read_text(file()), std::numeric_limits<int32_t>::max());
    EXPECT_TRUE(parsed.has_value()) << parsed.error().message;
    return parsed.value_or(GoldenLogits{});
  }
  void store(const GoldenLogits& golden) const { write_text(file(), write_golden(golden)); }
  fs::path file() const { return package_ / kGoldenFile; }

  TemporaryFolder folder_;
  fs::path package_ = folder_ / "package";
};

TEST_F(GoldenFile, EveryFamilyAndFormatLoadsWithItsOwn) {
  for (const char* name : {"llama_gqa_tied_bf16", "llama_mqa_untied_f16", "bloom_3_heads_f32",
                           "gpt2_tied_f32", "gpt_neox_sequential_bf16", "qwen3_tied_bf16"}) {
    for (const char* dtype : {"", "int8", "int4"}) {
      SCOPED_TRACE(std::string(name) + " " + dtype);
      make(name, dtype);
      EXPECT_NE(load(package_), nullptr);
      const GoldenLogits kept = golden();
      EXPECT_EQ(kept.package, sha256_hex(read_text(package_ / kManifestFile)));
      EXPECT_GT(kept.token_ids.size(), 16U) << "a KV block";
    }
  }
}

TEST_F(GoldenFile, PackedWeightsAnswerAsTheOthers) {
  make("llama_gqa_tied_bf16", "int8");
  const GoldenLogits plain = golden();
  make("llama_gqa_tied_bf16", "int8", true);
  EXPECT_EQ(golden().logits, plain.logits);
}

TEST_F(GoldenFile, IsNoPartOfTheDigest) {
  make("llama_gqa_tied_bf16");
  const std::string manifest = read_text(package_ / kManifestFile);
  EXPECT_EQ(manifest.find(kGoldenFile), std::string::npos);
  fs::remove(file());
  EXPECT_NE(load(package_), nullptr) << "packages made without it are served";
}

TEST_F(GoldenFile, CanBeLeftOut) {
  ImportOptions options;
  options.source = variant("llama_gqa_tied_bf16");
  options.package = package_;
  options.golden = false;
  ASSERT_TRUE(import_model(options).has_value());
  EXPECT_FALSE(fs::exists(file()));
}

// What a load may change: the KV cache's format and a shorter context are within the bound, another
// dtype is another model.
TEST_F(GoldenFile, HoldsForEveryWayToLoad) {
  make("llama_gqa_tied_bf16");
  LoadOptions options;
  options.kv_cache_dtype = "int8";
  EXPECT_NE(load(package_, options), nullptr);
  options = {};
  for (const int32_t max_model_len : {1, 5, 17}) {
    options.max_model_len = max_model_len;
    EXPECT_NE(load(package_, options), nullptr) << max_model_len;
  }
  options = {};
  options.block_size = 32;
  EXPECT_NE(load(package_, options), nullptr);
  for (const char* dtype : {"f32", "int4"}) {
    options = {};
    options.dtype = dtype;
    EXPECT_NE(load(package_, options), nullptr) << dtype;
  }
}

// Changes a tensor's bytes in a checkpoint.
template <typename Change>
void change_tensor(const fs::path& folder, const std::string& tensor, Change change) {
  std::string text = read_text(folder / "model.safetensors");
  {
    const auto file = SafetensorsFile::open(folder / "model.safetensors");
    ASSERT_TRUE(file.has_value());
    for (const TensorEntry& entry : file->tensors()) {
      if (entry.name != tensor) continue;
      const auto bytes = file->bytes(entry);
      const std::string right(reinterpret_cast<const char*>(bytes.data()), bytes.size());
      std::string wrong = right;
      change(wrong);
      text.replace(text.find(right), right.size(), wrong);
    }
  }
  write_text(folder / "model.safetensors", text);
}

// One product of one layer that is wrong, which hashes cannot see where it is computed.
TEST_F(GoldenFile, OtherWeightsAreFound) {
  make("llama_gqa_tied_bf16");
  const GoldenLogits right = golden();
  const fs::path checkpoint = folder_ / "source";
  copy_variant("llama_gqa_tied_bf16", checkpoint);
  change_tensor(checkpoint, "model.layers.1.mlp.down_proj.weight", [](std::string& bytes) {
    for (size_t i = 1; i < bytes.size(); i += 4) bytes[i] = static_cast<char>(bytes[i] ^ 0x80);
  });
  ImportOptions options;
  options.source = checkpoint;
  options.package = package_;
  options.overwrite = true;
  ASSERT_TRUE(import_model(options).has_value());
  GoldenLogits mixed = right;
  mixed.package = golden().package;
  mixed.profile = "cpu-other/1";
  store(mixed);
  const std::string message = load_error(package_);
  EXPECT_TRUE(message.starts_with("golden_logits.json: the logits of 24 tokens differ")) << message;
  EXPECT_NE(message.find("(cpu-other/1)"), std::string::npos) << message;
}

// Weights that are finite and overflow: the package is made, and loads as it did before.
TEST_F(GoldenFile, LogitsThatAreNotFiniteAreLeftOut) {
  copy_variant("llama_gqa_tied_bf16", folder_ / "source");
  change_tensor(folder_ / "source", "model.norm.weight", [](std::string& bytes) {
    for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = '\x7f';  // 3.4e38
  });
  ImportOptions options;
  options.source = folder_ / "source";
  options.package = package_;
  std::string notices;
  options.notice = [&](const std::string& line) { notices += line; };
  const auto imported = import_model(options);
  ASSERT_TRUE(imported.has_value()) << imported.error().message;
  EXPECT_EQ(notices, "no golden logits are made: they are not finite");
  EXPECT_FALSE(fs::exists(file()));
  EXPECT_NE(load(package_), nullptr);
}

TEST_F(GoldenFile, OneWrongRowIsFound) {
  make("llama_gqa_tied_bf16");
  GoldenLogits wrong = golden();
  std::swap(wrong.logits.back(), wrong.logits.front());  // the last one is a step of decode
  store(wrong);
  EXPECT_NE(load_error(package_).find("computes something else"), std::string::npos);
}

TEST_F(GoldenFile, OfAnotherPackageIsRefused) {
  make("llama_gqa_tied_bf16");
  GoldenLogits other = golden();
  other.package = std::string(64, '0');
  store(other);
  EXPECT_NE(load_error(package_).find("belongs to another package"), std::string::npos);
}

TEST_F(GoldenFile, DamageIsNamed) {
  make("llama_gqa_tied_bf16");
  const Json whole = Json::parse(read_text(file()));
  const auto refused = [&](const std::string& text) {
    write_text(file(), text);
    const std::string message = load_error(package_);
    EXPECT_TRUE(message.starts_with("golden_logits.json: ")) << message;
    EXPECT_LT(message.size(), 200U);
    return message;
  };
  refused("");
  refused("[]");
  refused("{\"package\": ");
  refused(std::string(kMaxGoldenBytes + 1, ' '));
  const auto changed = [&](const char* name, const Json& value) {
    Json json = whole;
    json[name] = value;
    return refused(json.dump());
  };
  for (const auto& [name, value] : whole.items()) {
    Json json = whole;
    json.erase(name);
    EXPECT_NE(refused(json.dump()).find("must have"), std::string::npos) << name;
    EXPECT_NE(changed(name.c_str(), nullptr).find(name), std::string::npos);
    EXPECT_NE(changed(name.c_str(), Json::object()).find(name), std::string::npos);
  }
  changed("more", 1);
  for (const char* name : {"token_ids", "columns"}) {
    changed(name, Json::array());
    changed(name, {-1});
    changed(name, {1 << 30});
    changed(name, {0.5});
    changed(name, {0, 1});  // fewer than there are logits for
  }
  changed("logits", Json::array());
  Json logits = whole["logits"];
  logits[3][4] = 1e39;  // above what a float holds
  changed("logits", logits);
  logits[3][4] = "1";
  changed("logits", logits);
  logits[3].erase(4);
  changed("logits", logits);
}

TEST(GoldenFiles, TheEmbeddedPackagesHaveTheirs) {
  for (const char* name : {"llama-tiny", "bloom-tiny"}) {
    const fs::path package = fs::path(SLUICE_SOURCE_DIR) / "models" / name;
    const auto runner = load(package);
    ASSERT_NE(runner, nullptr);
    const auto golden =
        parse_golden(read_text(package / kGoldenFile), runner->config().vocabulary_size);
    ASSERT_TRUE(golden.has_value()) << golden.error().message;
    EXPECT_EQ(golden->package, runner->config().digest);
  }
}

TEST(GoldenDifference, IsRelativeToTheSpread) {
  GoldenLogits golden;
  golden.columns = {0, 1};
  golden.token_ids = {0, 1};
  golden.logits = {{99, 101}, {99, 101}};
  EXPECT_EQ(golden_difference(golden, golden.logits), 0);
  EXPECT_DOUBLE_EQ(golden_difference(golden, {{100, 102}, {98, 100}}), 1);
  EXPECT_DOUBLE_EQ(golden_difference(golden, {{99.5, 101.5}}), 0.5);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_TRUE(std::isnan(golden_difference(golden, {{99, 101}, {99, nan}})));
  EXPECT_FALSE(golden_difference(golden, {{99, 101}, {99, nan}}) <= golden_bound({1, true, true}));
  golden.logits = {{1, 1}, {1, 1}};
  EXPECT_EQ(golden_difference(golden, golden.logits), 0);
}

TEST(GoldenBound, GrowsWithLayersAndStaysBelowAWrongResult) {
  EXPECT_LT(golden_bound({32, false, false}), 1e-3);
  EXPECT_LT(golden_bound({32, false, false}), golden_bound({32, true, false}));
  EXPECT_LT(golden_bound({2, true, false}), golden_bound({2, true, true}));
  EXPECT_LE(golden_bound({1000, true, true}), 0.5);
}

}  // namespace
}  // namespace sluice::model
