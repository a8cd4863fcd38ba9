// Every file of a checkpoint's folder and of a package that the model layer reads, damaged in every
// way of tests/bad_inputs/damage.h: one error that names the file, or another good model; never a
// crash. Tokenizers and templates have their own in tests/tokenizer/bad_folder_test.cpp.
#include <gtest/gtest.h>

#include <filesystem>

#include "base/mapped_file.h"
#include "model/manifest.h"
#include "model/safetensors.h"
#include "sluice/import.h"
#include "tests/bad_inputs/damage.h"
#include "tests/model/fixtures.h"

namespace sluice::model {
namespace {

namespace fs = std::filesystem;
using bad_inputs::Damage;

constexpr const char* kVariant = "llama_gqa_tied_bf16";
constexpr const char* kWeights = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";

class BadFiles : public testing::Test {
 protected:
  void SetUp() override { copy_variant(kVariant, source_); }

  // Each damage of one file, in turn; the file is good again afterwards.
  void expect_survives(const fs::path& folder, const std::string& name,
                       const std::vector<Damage>& damages) const {
    const std::string good = read_text(folder / name);
    for (const Damage& damage : damages) {
      write_text(folder / name, damage.bytes);
      const auto runner = ModelRunner::load(folder, {}, test_pool());
      if (runner) {
        EXPECT_FALSE(damage.must_fail) << name << ": " << damage.what << " is read";
        continue;
      }
      const Error& error = runner.error();
      EXPECT_TRUE(error.code == ErrorCode::kInvalidArgument ||
                  error.code == ErrorCode::kUnimplemented || error.code == ErrorCode::kNotFound ||
                  error.code == ErrorCode::kDataLoss)
          << error.message;
      EXPECT_NE(error.message.find(damage.must_fail ? name + ": " : "."), std::string::npos)
          << name << ", " << damage.what << ": " << error.message;
      EXPECT_EQ(error.message.find('\n'), std::string::npos) << error.message;
      EXPECT_EQ(error.message.find(folder.string()), std::string::npos) << error.message;
    }
    write_text(folder / name, good);
  }

  void damage_json(const std::string& name, size_t num_cuts, size_t num_flips) const {
    const std::string good = read_text(source_ / name);
    ASSERT_NE(load(source_), nullptr);
    expect_survives(source_, name, bad_inputs::json_damages(good));
    expect_survives(source_, name, bad_inputs::cuts(good, num_cuts, true));
    expect_survives(source_, name, bad_inputs::flips(good, num_flips, 3));
  }

  fs::path make_package() const {
    ImportOptions options;
    options.golden = false;  // it would be refused first
    options.source = source_;
    options.package = folder_ / "package";
    const auto imported = import_model(options);
    EXPECT_TRUE(imported.has_value()) << (imported ? "" : imported.error().message);
    return options.package;
  }

  TemporaryFolder folder_;
  fs::path source_ = folder_ / "source";
};

TEST_F(BadFiles, Config) {
  damage_json("config.json", 60, 60);
}

TEST_F(BadFiles, GenerationConfig) {
  write_text(source_ / "generation_config.json",
             R"({"eos_token_id": [2, 3], "bos_token_id": 1, "transformers_version": "4.57.6"})");
  damage_json("generation_config.json", 60, 40);
}

TEST_F(BadFiles, Weights) {
  const std::string good = read_text(source_ / kWeights);
  expect_survives(source_, kWeights, bad_inputs::safetensors_damages(good));
  // Flips of the header.
  uint64_t length = 0;
  std::memcpy(&length, good.data(), sizeof(length));
  const size_t begin_of_data = sizeof(length) + length;
  std::vector<Damage> damages = bad_inputs::flips(good.substr(0, begin_of_data), 60, 5);
  for (Damage& damage : damages) damage.bytes += good.substr(begin_of_data);
  expect_survives(source_, kWeights, damages);
}

TEST_F(BadFiles, WeightsOfAnotherModel) {
  for (const auto& [from, to] : {std::pair(R"("dtype":"BF16")", R"("dtype":"I16" )"),
                                 std::pair("model.norm.weight", "model.norm.weighT")}) {
    const std::string good = read_text(source_ / kWeights);
    replace_in(source_ / kWeights, from, to);
    const std::string message = load_error(source_);
    EXPECT_TRUE(message.starts_with("model.safetensors: ")) << message;
    write_text(source_ / kWeights, good);
  }
  replace_in(source_ / "config.json", "\"intermediate_size\": ", "\"intermediate_size\": 1");
  const std::string message = load_error(source_);
  EXPECT_TRUE(message.starts_with("model.safetensors: ")) << message;
  EXPECT_NE(message.find("config.json says"), std::string::npos) << message;
}

TEST_F(BadFiles, IndexAndShards) {
  split_checkpoint(source_, 2);
  damage_json(kIndex, 40, 40);
  const std::string shard = "shard-1.safetensors";
  const std::string good = read_text(source_ / shard);
  expect_survives(source_, shard, bad_inputs::safetensors_damages(good));

  fs::rename(source_ / shard, folder_ / "gone");
  EXPECT_EQ(load_error(source_), shard + ": there is no such file");
  fs::copy_file(source_ / "shard-0.safetensors", source_ / shard);
  EXPECT_NE(load_error(source_).find("is in another shard too"), std::string::npos);
  fs::remove(source_ / shard);
  fs::rename(folder_ / "gone", source_ / shard);
  const std::string index = read_text(source_ / kIndex);
  for (const auto& [to, reason] :
       {std::pair("\"shard-0.safetensors\"", "is not in shard-0.safetensors"),
        std::pair("\"../shard-1.safetensors\"", "outside the folder"),
        std::pair("\"/etc/passwd\"", "outside the folder"),
        std::pair("\"..\"", "outside the folder"), std::pair("1", "names no file")}) {
    replace_in(source_ / kIndex, "\"shard-1.safetensors\"", to);
    const std::string message = load_error(source_);
    EXPECT_TRUE(message.starts_with(std::string(kIndex) + ": ")) << message;
    EXPECT_NE(message.find(reason), std::string::npos) << message;
    write_text(source_ / kIndex, index);
  }
}

TEST_F(BadFiles, FoldersInThePlaceOfFiles) {
  for (const char* name : {"config.json", kWeights}) {
    fs::rename(source_ / name, folder_ / "file");
    fs::create_directory(source_ / name);
    EXPECT_EQ(load_error(source_), std::string(name) + ": is not a regular file");
    fs::remove(source_ / name);
    fs::rename(folder_ / "file", source_ / name);
  }
}

TEST_F(BadFiles, Manifest) {
  const fs::path package = make_package();
  const std::string good = read_text(package / kManifestFile);
  expect_survives(package, kManifestFile, bad_inputs::json_damages(good));
  expect_survives(package, kManifestFile, bad_inputs::cuts(good, 100, true));
  expect_survives(package, kManifestFile, bad_inputs::flips(good, 60, 17));
}

// With hashes that fit: what is wrong must be found by its reader.
TEST_F(BadFiles, SealedFilesOfAPackage) {
  const fs::path package = make_package();
  const std::string good_manifest = read_text(package / kManifestFile);
  const auto parsed = parse_manifest(good_manifest);
  ASSERT_TRUE(parsed.has_value());
  const auto seal = [&](const std::string& name, const std::string& bytes) {
    write_text(package / name, bytes);
    Manifest manifest = *parsed;
    const auto mapped = MappedFile::open(package / name);
    ASSERT_TRUE(mapped.has_value());
    manifest.files[name] = digest_file((*mapped)->bytes(), test_pool());
    write_text(package / kManifestFile, write_manifest(manifest));
  };
  for (const auto& [name, file] : parsed->files) {
    const std::string good = read_text(package / name);
    std::vector<Damage> damages;
    if (name.ends_with(".safetensors")) {
      damages = bad_inputs::safetensors_damages(good);
    } else if (name == kProgramFile) {
      damages = bad_inputs::flips(good, 40, 19);
      for (const size_t size : {size_t{0}, size_t{1}, size_t{4}, good.size() / 4, good.size() / 2,
                                good.size() - 22, good.size() - 1}) {
        damages.push_back({"cut at " + std::to_string(size), good.substr(0, size)});
      }
    }
    for (const Damage& damage : damages) {
      seal(name, damage.bytes);
      const auto runner = ModelRunner::load(package, {}, test_pool());
      EXPECT_FALSE(runner.has_value() && damage.must_fail) << name << ": " << damage.what;
      if (runner || !damage.must_fail) continue;
      const std::string file_name = fs::path(name).filename().string();
      EXPECT_NE(runner.error().message.find(file_name + ": "), std::string::npos)
          << damage.what << ": " << runner.error().message;
    }
    seal(name, good);
  }
}

}  // namespace
}  // namespace sluice::model
