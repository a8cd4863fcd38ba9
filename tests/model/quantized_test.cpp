// Packages and folders whose weights are int8, int4 or fp8.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "base/mapped_file.h"
#include "model/manifest.h"
#include "model/safetensors.h"
#include "sluice/import.h"
#include "tests/model/fixtures.h"

namespace sluice::model {
namespace {

namespace fs = std::filesystem;

const std::vector<int32_t> kTokens = {5, 17, 3, 198, 44, 0, 9, 9, 120, 7, 61, 2, 33, 8, 100, 1, 77};
constexpr const char* kWeights = "weights/model.safetensors";

LoadOptions as(const std::string& dtype) {
  LoadOptions options;
  options.dtype = dtype;
  return options;
}

Result<void> import_as(const std::string& dtype, int64_t group_size, const fs::path& source,
                       const fs::path& package) {
  ImportOptions options;
  options.golden = false;  // a manifest that is changed would be refused for them first
  options.source = source;
  options.package = package;
  options.dtype = dtype;
  options.group_size = group_size;
  return import_model(options);
}

struct Case {
  const char* variant;
  const char* dtype;
};

class Quantized : public testing::TestWithParam<Case> {};

TEST_P(Quantized, PackageGivesTheBitsOfTheFolder) {
  const TemporaryFolder folder;
  const auto [name, dtype] = GetParam();
  const auto imported = import_as(dtype, 0, variant(name), folder / "package");
  ASSERT_TRUE(imported.has_value()) << imported.error().message;
  const auto from_folder = load(variant(name), as(dtype));
  const auto from_package = load(folder / "package");
  ASSERT_TRUE(from_folder && from_package);
  for (const auto* runner : {from_folder.get(), from_package.get()}) {
    EXPECT_EQ(runner->config().dtype, "bf16");
    EXPECT_EQ(format_name(runner->config().encoding), dtype);
  }
  EXPECT_EQ(from_package->config().num_parameters, from_folder->config().num_parameters);
  EXPECT_EQ(from_package->weight_bytes(), from_folder->weight_bytes());
  const auto whole = prompt_logits(*from_package, kTokens);
  EXPECT_EQ(prompt_logits(*from_folder, kTokens), whole);
  for (const size_t chunk : {1, 5}) {
    EXPECT_EQ(prompt_logits(*from_package, kTokens, chunk), whole) << "chunk " << chunk;
  }
  const auto plain = load(variant(name), as("bf16"));
  ASSERT_NE(plain, nullptr);
  EXPECT_NE(prompt_logits(*plain, kTokens), whole) << "nothing was quantized";
  EXPECT_NE(plain->config().digest, from_folder->config().digest);
  EXPECT_NE(load(folder / "package", as(dtype)), nullptr) << "its own format may be asked for";
}

INSTANTIATE_TEST_SUITE_P(
    Formats, Quantized,
    testing::Values(Case{"llama_mha_untied_f32", "int8"}, Case{"llama_mha_untied_f32", "int4"},
                    Case{"llama_gqa_tied_bf16", "int8"}, Case{"llama_gqa_tied_bf16", "int4"},
                    Case{"llama_mqa_untied_f16", "int8"}, Case{"bloom_3_heads_f32", "int8"},
                    Case{"bloom_4_heads_bf16", "int4"}),
    [](const auto& item) { return std::string(item.param.variant) + "_" + item.param.dtype; });

TEST(QuantizedPackage, HoldsValuesAndScalesOfProductsOnly) {
  const TemporaryFolder folder;
  for (const auto& [dtype, values, width, scales] :
       {std::tuple{"int8", "I8", int64_t{48}, int64_t{1}},
        std::tuple{"int4", "U8", int64_t{24}, int64_t{2}},
        std::tuple{"fp8", "F8_E4M3", int64_t{48}, int64_t{1}}}) {
    const fs::path package = folder / dtype;
    ASSERT_TRUE(import_as(dtype, 0, variant("llama_mha_untied_f32"), package).has_value());
    const auto file = SafetensorsFile::open(package / kWeights);
    ASSERT_TRUE(file.has_value());
    std::map<std::string, TensorEntry> entries;
    for (const TensorEntry& entry : file->tensors()) entries[entry.name] = entry;
    EXPECT_EQ(entries.at("qkv.0").dtype, values);
    EXPECT_EQ(entries.at("qkv.0").shape[1], width);
    EXPECT_EQ(entries.at("qkv.0.scale").dtype, "F32");
    EXPECT_EQ(entries.at("qkv.0.scale").shape,
              (std::vector<int64_t>{entries.at("qkv.0").shape[0], scales}));
    EXPECT_EQ(entries.at("head").dtype, values);
    EXPECT_EQ(entries.at("embedding").dtype, "BF16") << "untied: no product uses it";
    EXPECT_EQ(entries.at("norm").dtype, "BF16");
    EXPECT_EQ(entries.at("rope").dtype, "F32");
    EXPECT_FALSE(entries.contains("norm.scale"));
  }
}

// What it computes on a GPU: tests/engine/float8_weights_test.cpp.
TEST(QuantizedPackage, Float8IsForGpus) {
  const TemporaryFolder folder;
  const fs::path source = variant("llama_gqa_tied_bf16");
  ImportOptions options;
  options.source = source;
  options.package = folder / "package";
  options.dtype = "fp8";
  std::string notice;
  options.notice = [&notice](const std::string& line) { notice += line; };
  const auto imported = import_model(options);
  ASSERT_TRUE(imported.has_value()) << imported.error().message;
  EXPECT_EQ(notice, "no golden logits are made: fp8 weights are for GPUs");
  const auto manifest = parse_manifest(read_text(folder / "package" / kManifestFile));
  ASSERT_TRUE(manifest.has_value()) << manifest.error().message;
  EXPECT_EQ(format_name(manifest->config.encoding), "fp8");
  EXPECT_EQ(manifest->config.dtype, "bf16");

  const std::string why =
      "the weights are fp8, which needs a GPU; for the CPU import the original model with --dtype "
      "int8";
  EXPECT_EQ(load_error(folder / "package"), why);
  EXPECT_EQ(load_error(source, as("fp8")), why);
  options.package = folder / "packed";
  options.packed = true;
  const auto packed = import_model(options);
  ASSERT_FALSE(packed.has_value());
  EXPECT_NE(packed.error().message.find("leave out --packed"), std::string::npos);
  EXPECT_FALSE(fs::exists(folder / "packed"));
}

// Somebody else's fp8 weights, whose scales lie elsewhere and mean something else.
TEST(QuantizedPackage, ACheckpointInFloat8IsRefused) {
  const TemporaryFolder folder;
  fs::copy(variant("llama_gqa_tied_bf16"), folder / "hf", fs::copy_options::recursive);
  ASSERT_TRUE(import_as("fp8", 0, folder / "hf", folder / "package").has_value());
  const auto plain = SafetensorsFile::open(folder / "hf" / "model.safetensors");
  ASSERT_TRUE(plain.has_value());
  std::vector<TensorEntry> entries = plain->tensors();
  for (TensorEntry& entry : entries) {
    if (entry.shape.size() == 2) entry.dtype = "F8_E4M3";
  }
  std::string content = lay_out_safetensors(entries);
  content.resize(std::max_element(entries.begin(), entries.end(), [](const auto& a, const auto& b) {
                   return a.end < b.end;
                 })->end);
  write_text(folder / "hf" / "model.safetensors", content);
  const auto imported = import_as("", 0, folder / "hf", folder / "again");
  ASSERT_FALSE(imported.has_value());
  EXPECT_NE(imported.error().message.find("has dtype F8_E4M3, supported: F32, F16, BF16"),
            std::string::npos)
      << imported.error().message;
}

TEST(QuantizedPackage, GroupsOf128) {
  const TemporaryFolder folder;
  ASSERT_TRUE(import_as("int4", 128, variant("bloom_3_heads_f32"), folder / "wide").has_value());
  ASSERT_TRUE(import_as("int4", 32, variant("bloom_3_heads_f32"), folder / "fine").has_value());
  const auto wide = load(folder / "wide");
  const auto fine = load(folder / "fine");
  ASSERT_TRUE(wide && fine);
  EXPECT_EQ(wide->config().encoding.group_size, 128);
  EXPECT_EQ(fine->config().encoding.group_size, 32);
  EXPECT_NE(prompt_logits(*wide, kTokens), prompt_logits(*fine, kTokens));
  for (const auto& [dtype, size] :
       {std::pair{"int4", 64}, std::pair{"int8", 32}, std::pair{"fp8", 32}}) {
    EXPECT_FALSE(import_as(dtype, size, variant("bloom_3_heads_f32"), folder / "no").has_value());
  }
}

TEST(QuantizedPackage, StopsLeaveNothing) {
  const TemporaryFolder folder;
  ImportOptions options;
  options.source = variant("llama_gqa_tied_bf16");
  options.package = folder / "package";
  options.dtype = "int4";
  expect_stops_leave_nothing(options, 3);
}

TEST(QuantizedPackage, APlainPackageIsQuantizedInMemory) {
  const TemporaryFolder folder;
  const fs::path source = variant("llama_gqa_tied_bf16");
  ASSERT_TRUE(import_as("", 0, source, folder / "plain").has_value());
  const auto plain = load(folder / "plain");
  const auto in_memory = load(folder / "plain", as("int8"));
  const auto from_folder = load(source, as("int8"));
  ASSERT_TRUE(plain && in_memory && from_folder);
  EXPECT_EQ(prompt_logits(*in_memory, kTokens), prompt_logits(*from_folder, kTokens));
  EXPECT_NE(in_memory->config().digest, plain->config().digest) << "other tokens, other digest";
}

TEST(QuantizedPackage, OtherDtypesAreRefused) {
  const TemporaryFolder folder;
  ASSERT_TRUE(import_as("int8", 0, variant("bloom_3_heads_f32"), folder / "package").has_value());
  for (const char* dtype : {"f32", "bf16", "int4"}) {
    const std::string message = load_error(folder / "package", as(dtype));
    EXPECT_NE(message.find("the package's weights are int8"), std::string::npos) << message;
  }
}

TEST(QuantizedPackage, AWeightThatTheFormatCannotHoldIsRefused) {
  const WeightEncoding int4 = parse_dtype("int4", 0)->encoding;
  EXPECT_FALSE(encoded_shape({4, 33}, int4).has_value());
  EXPECT_FALSE(encoded_shape({4, 8, 2}, int4).has_value());
  EXPECT_EQ(encoded_shape({4, 34}, int4)->scales, (std::vector<int64_t>{4, 2}));
  EXPECT_EQ(encoded_shape({4, 33}, parse_dtype("int8", 0)->encoding)->values,
            (std::vector<int64_t>{4, 33}));
}

// A package damaged under a manifest that agrees with it.
class DamagedPackage : public testing::Test {
 protected:
  void make(const std::string& dtype) {
    fs::remove_all(package_);
    ASSERT_TRUE(import_as(dtype, 0, variant("llama_gqa_tied_bf16"), package_).has_value());
  }

  // Writes bytes over the first ones of a tensor.
  void overwrite(const std::string& tensor, const std::string& bytes) const {
    const auto file = SafetensorsFile::open(package_ / kWeights);
    ASSERT_TRUE(file.has_value());
    std::string content = read_text(package_ / kWeights);
    for (const TensorEntry& entry : file->tensors()) {
      if (entry.name == tensor) content.replace(entry.begin, bytes.size(), bytes);
    }
    write_text(package_ / kWeights, content);
    reseal();
  }

  void overwrite(const std::string& tensor, float value) const {
    std::string bytes(sizeof(value), '\0');
    std::memcpy(bytes.data(), &value, sizeof(value));
    overwrite(tensor, bytes);
  }

  void reseal() const {
    auto manifest = parse_manifest(read_text(package_ / kManifestFile));
    ASSERT_TRUE(manifest.has_value());
    for (auto& [path, file] : manifest->files) {
      const auto mapped = MappedFile::open(package_ / path);
      ASSERT_TRUE(mapped.has_value());
      file = digest_file((*mapped)->bytes(), test_pool());
    }
    write_text(package_ / kManifestFile, write_manifest(*manifest));
  }

  void expect_refused(const std::string& reason) const {
    const std::string message = load_error(package_);
    EXPECT_NE(message.find(reason), std::string::npos) << message;
  }

  TemporaryFolder folder_;
  fs::path package_ = folder_ / "package";
};

TEST_F(DamagedPackage, ScalesThatAreNoSizesAreRefused) {
  for (const char* dtype : {"int8", "int4"}) {
    for (const float scale : {NAN, INFINITY, -1.0F}) {
      make(dtype);
      overwrite("down.1.scale", scale);
      expect_refused("weight 'down.1': ");
    }
  }
}

TEST_F(DamagedPackage, AFlippedByteIsFoundByItsHash) {
  make("int8");
  std::string content = read_text(package_ / kWeights);
  content.back() = static_cast<char>(content.back() ^ 1);
  write_text(package_ / kWeights, content);
  expect_refused("its content does not match");
}

TEST_F(DamagedPackage, OtherDtypesOfValuesAndScalesAreRefused) {
  make("int8");
  replace_in(package_ / kWeights, "\"I8\"", "\"U8\"");
  reseal();
  expect_refused(" is U8");
  make("int4");
  replace_in(package_ / kWeights, "\"U8\"", "\"I8\"");
  reseal();
  expect_refused(" is I8");
  make("int8");
  replace_in(package_ / kWeights, "\"down.1.scale\"", "\"down.1.scole\"");
  reseal();
  expect_refused("the program has no weight 'down.1.scole'");
}

TEST_F(DamagedPackage, ScalesOfAnotherShapeAreRefused) {
  make("int4");  // [64, 96]: 3 groups a row
  replace_in(package_ / kWeights, "\"shape\":[64,3]", "\"shape\":[96,2]");
  reseal();
  expect_refused("weight 'down.");
}

struct BadFormat {
  const char* dtype;
  const char* from;
  const char* to;
  const char* reason;
};

TEST_F(DamagedPackage, AManifestThatSaysAnotherFormatIsRefused) {
  for (const BadFormat& bad :
       {BadFormat{"int8", "\"weight_format\": \"int8\",", "", " is I8"},
        BadFormat{"int8", "\"int8\"", "\"int3\"", "weight_format is not one of int8, int4, fp8"},
        BadFormat{"int8", "\"int8\"", "8", "weight_format is not one of int8, int4"},
        BadFormat{"int8", "\"int8\"", "\"int4\"", "lacks group_size"},
        BadFormat{"int8", "\"int8\"", "\"int8\", \"group_size\": 32", "goes with int4 only"},
        BadFormat{"int4", "\"int4\"", "\"int8\"", "goes with int4 only"},
        BadFormat{"int4", "\"weight_format\": \"int4\",", "", "group_size without weight_format"},
        BadFormat{"int4", "\"group_size\": 32", "\"group_size\": 33", "group size is 33"},
        BadFormat{"int4", "\"group_size\": 32", "\"group_size\": \"32\"", "no positive number"},
        BadFormat{"int4", "\"group_size\": 32", "\"group_size\": 128", "weight '"}}) {
    SCOPED_TRACE(bad.reason);
    make(bad.dtype);
    replace_in(package_ / kManifestFile, bad.from, bad.to);
    expect_refused(bad.reason);
  }
}

}  // namespace
}  // namespace sluice::model
