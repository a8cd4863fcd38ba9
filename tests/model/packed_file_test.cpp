// Packages that hold their weights as the kernels use them.
#include "model/packed_file.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "base/mapped_file.h"
#include "model/manifest.h"
#include "sluice/import.h"
#include "tests/model/fixtures.h"

namespace sluice::model {
namespace {

namespace fs = std::filesystem;

const std::vector<int32_t> kTokens = {5, 17, 3, 198, 44, 0, 9, 9, 120, 7, 61, 2, 33, 8, 100, 1, 77};

void import_to(const fs::path& source, const fs::path& package, const std::string& dtype,
               bool packed) {
  ImportOptions options;
  options.source = source;
  options.package = package;
  options.dtype = dtype;
  options.packed = packed;
  options.golden = false;  // a manifest that is changed would be refused for them first
  const auto imported = import_model(options);
  ASSERT_TRUE(imported.has_value()) << imported.error().message;
}

void reseal(const fs::path& package) {
  auto manifest = parse_manifest(read_text(package / kManifestFile));
  ASSERT_TRUE(manifest.has_value());
  for (auto& [path, file] : manifest->files) {
    const auto mapped = MappedFile::open(package / path);
    ASSERT_TRUE(mapped.has_value());
    file = digest_file((*mapped)->bytes(), test_pool());
  }
  write_text(package / kManifestFile, write_manifest(*manifest));
}

struct Case {
  const char* variant;
  const char* dtype;
};

class PackedFile : public testing::TestWithParam<Case> {};

TEST_P(PackedFile, GivesTheBitsOfThePackageWithout) {
  const TemporaryFolder folder;
  const auto [name, dtype] = GetParam();
  import_to(variant(name), folder / "plain", dtype, false);
  import_to(variant(name), folder / "packed", dtype, true);
  // What is used is the packed file: the other one is not even opened.
  fs::remove_all(folder / "packed" / kWeightsFolder);
  const auto plain = load(folder / "plain");
  const auto packed = load(folder / "packed");
  ASSERT_TRUE(plain && packed);
  EXPECT_EQ(prompt_logits(*packed, kTokens), prompt_logits(*plain, kTokens));
  EXPECT_EQ(packed->weight_bytes(), plain->weight_bytes());
}

INSTANTIATE_TEST_SUITE_P(
    Import, PackedFile,
    testing::Values(Case{"llama_mha_untied_f32", ""}, Case{"llama_gqa_tied_bf16", ""},
                    Case{"llama_mqa_untied_f16", ""}, Case{"llama_gqa_tied_bf16", "int8"},
                    Case{"llama_mha_untied_f32", "int4"}, Case{"bloom_3_heads_f32", "int8"},
                    Case{"bloom_4_heads_bf16", ""}),
    [](const auto& item) {
      return std::string(item.param.variant) + "_" +
             (item.param.dtype[0] ? item.param.dtype : "own");
    });

TEST(PackedFiles, AnotherDtypeUsesTheWeightsThemselves) {
  const TemporaryFolder folder;
  import_to(variant("llama_gqa_tied_bf16"), folder / "plain", "", false);
  import_to(variant("llama_gqa_tied_bf16"), folder / "packed", "", true);
  for (const char* dtype : {"f32", "int8"}) {
    LoadOptions options;
    options.dtype = dtype;
    const auto plain = load(folder / "plain", options);
    const auto packed = load(folder / "packed", options);
    ASSERT_TRUE(plain && packed);
    EXPECT_EQ(prompt_logits(*packed, kTokens), prompt_logits(*plain, kTokens));
  }
}

struct Damage {
  const char* from;
  const char* to;
  const char* reason;
};

TEST(PackedFiles, DamageIsRefused) {
  const TemporaryFolder folder;
  const fs::path package = folder / "package";
  import_to(variant("llama_gqa_tied_bf16"), package, "int8", true);
  const fs::path file = package / packed_path();
  const std::string good = read_text(file);
  std::string bad = good;
  bad[bad.size() / 2] = static_cast<char>(bad[bad.size() / 2] ^ 4);
  write_text(file, bad);
  EXPECT_NE(load_error(package).find("its content does not match"), std::string::npos);
  for (const Damage& damage :
       {Damage{"\"down.0\":\"64 96\"", "\"down.0\":\"96 64\"", "weight 'down.0': its panels have"},
        Damage{"\"down.0\":\"64 96\"", "\"down.0\":\"64  6\"", "does not say its rows"},
        Damage{"\"down.0\":\"64 96\"", "\"down.0\":\"-4 96\"", "weight 'down.0': a packed weight"},
        Damage{"\"down.0.sums\"", "\"down.0.suns\"", "weight 'down.0': its panels have"},
        Damage{"\"down.0\":\"64 96\"", "\"dawn.0\":\"64 96\"", "weight 'down.0.panels' is U64"},
        Damage{"\"down.0.panels\"", "\"down.1.panel.\"", "weight 'down.1.panel.' is U64"}}) {
    write_text(file, good);
    replace_in(file, damage.from, damage.to);
    reseal(package);
    const std::string message = load_error(package);
    EXPECT_NE(message.find(damage.reason), std::string::npos) << message;
  }
}

TEST(PackedFiles, AStopLeavesNothing) {
  const TemporaryFolder folder;
  ImportOptions options;
  options.source = variant("bloom_3_heads_f32");
  options.package = folder / "package";
  options.packed = true;
  expect_stops_leave_nothing(options, 2);
}

}  // namespace
}  // namespace sluice::model
