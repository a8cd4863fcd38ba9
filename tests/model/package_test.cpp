// What is refused of a package, and programs of the user's own.
#include <ATen/ops/full.h>
#include <gtest/gtest.h>
#include <torch/csrc/jit/frontend/resolver.h>

#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "base/mapped_file.h"
#include "base/sha256.h"
#include "kernels/operators.h"
#include "model/checkpoint.h"
#include "model/manifest.h"
#include "model/program.h"
#include "model/program_file.h"
#include "model/safetensors.h"
#include "sluice/import.h"
#include "tests/model/fixtures.h"

namespace sluice::model {
namespace {

namespace fs = std::filesystem;

const std::vector<int32_t> kTokens = {5, 17, 3, 198, 44, 0, 9, 9, 120, 7, 61, 2, 33, 8, 100, 1, 77};
constexpr const char* kWeights = "weights/model.safetensors";

// A package that each test damages in its own way.
class Package : public testing::Test {
 protected:
  void SetUp() override { make("llama_gqa_tied_bf16"); }

  void make(const std::string& name) {
    fs::remove_all(package_);
    copy_variant(name, source_);
    write_text(source_ / "tokenizer.json", R"({"model": {}})");
    ImportOptions options;
    options.golden = false;  // a manifest that is changed would be refused for them first
    options.source = source_;
    options.package = package_;
    const auto imported = import_model(options);
    ASSERT_TRUE(imported.has_value()) << imported.error().message;
    fs::remove_all(source_);
  }

  Manifest manifest() const {
    const auto parsed = parse_manifest(read_text(package_ / "manifest.json"));
    EXPECT_TRUE(parsed.has_value());
    return parsed ? *parsed : Manifest{};
  }

  void store(const Manifest& manifest) const {
    write_text(package_ / "manifest.json", write_manifest(manifest));
  }

  // Makes the manifest agree with the files: what is wrong with them must be found by itself.
  void reseal() const {
    Manifest fixed = manifest();
    for (auto& [path, file] : fixed.files) {
      const auto mapped = MappedFile::open(package_ / path);
      ASSERT_TRUE(mapped.has_value());
      file = digest_file((*mapped)->bytes(), test_pool());
    }
    store(fixed);
  }

  void expect_refused(const std::string& reason) const {
    const std::string message = load_error(package_);
    EXPECT_NE(message.find(reason), std::string::npos) << message;
  }

  TemporaryFolder folder_;
  fs::path source_ = folder_ / "source";
  fs::path package_ = folder_ / "package";
};

TEST_F(Package, LoadsUndamagedAndResealed) {
  EXPECT_NE(load(package_), nullptr);
  const std::string before = read_text(package_ / "manifest.json");
  reseal();
  EXPECT_EQ(read_text(package_ / "manifest.json"), before);
}

TEST_F(Package, ATruncatedOrLongerFileIsRefused) {
  for (const auto& [path, file] : manifest().files) {
    const std::string good = read_text(package_ / path);
    for (const size_t size : {size_t{0}, size_t{1}, good.size() / 2, good.size() - 1}) {
      write_text(package_ / path, good.substr(0, size));
      expect_refused(path + ": has " + std::to_string(size) + " bytes, the manifest says");
    }
    write_text(package_ / path, good + "x");
    expect_refused("the manifest says");
    write_text(package_ / path, good);
  }
  EXPECT_NE(load(package_), nullptr);
}

TEST_F(Package, AFlippedBitAnywhereIsRefused) {
  std::mt19937_64 random(11);  // seed
  for (const auto& [path, file] : manifest().files) {
    const std::string good = read_text(package_ / path);
    for (int round = 0; round < 8; ++round) {
      std::string bad = good;
      const size_t bit = round == 0 ? 0 : random() % (8 * good.size());
      bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << (bit % 8)));
      write_text(package_ / path, bad);
      const auto loaded = ModelRunner::load(package_, {}, test_pool());
      ASSERT_FALSE(loaded.has_value()) << path << " bit " << bit;
      EXPECT_EQ(loaded.error().code, ErrorCode::kDataLoss);
      EXPECT_NE(loaded.error().message.find(path + ": its content"), std::string::npos);
    }
    write_text(package_ / path, good);
  }
}

TEST_F(Package, AFlippedBitOfTheManifestNeverCrashes) {
  const std::string good = read_text(package_ / "manifest.json");
  for (size_t byte = 0; byte < good.size(); ++byte) {
    std::string bad = good;
    bad[byte] = static_cast<char>(bad[byte] ^ (1 << (byte % 8)));
    const auto parsed = parse_manifest(bad);
    if (!parsed) {
      EXPECT_TRUE(parsed.error().message.starts_with("manifest.json: "));
    }
  }
}

TEST_F(Package, ATruncatedManifestIsRefused) {
  const std::string good = read_text(package_ / "manifest.json");
  for (size_t size = 0; size + 2 < good.size(); size += 7) {
    EXPECT_FALSE(parse_manifest(good.substr(0, size)).has_value()) << size;
  }
}

TEST_F(Package, AMissingFileIsRefused) {
  for (const auto& [path, file] : manifest().files) {
    fs::rename(package_ / path, folder_ / "gone");
    expect_refused("there is no such file");
    fs::rename(folder_ / "gone", package_ / path);
  }
}

TEST_F(Package, FilesOutsideTheFolderAreRefused) {
  const Manifest good = manifest();
  for (const char* path : {"../source/config.json", "/etc/passwd", "weights/../../x", "a//b", "./a",
                           "weights/", "", "a\\b", ".hidden", "manifest.json", "a/.."}) {
    Manifest bad = good;
    bad.files[path] = bad.files[kWeights];
    store(bad);
    expect_refused("which is not a file inside the package");
  }
}

TEST_F(Package, ALinkThatLeadsOutsideIsRefused) {
  fs::rename(package_ / "tokenizer.json", folder_ / "elsewhere.json");
  fs::create_symlink(folder_ / "elsewhere.json", package_ / "tokenizer.json");
  expect_refused("tokenizer.json: lies outside the package");
}

TEST_F(Package, AManifestThatIsALinkOutsideIsRefused) {
  fs::rename(package_ / "manifest.json", folder_ / "elsewhere.json");
  fs::create_symlink(folder_ / "elsewhere.json", package_ / "manifest.json");
  expect_refused("manifest.json: lies outside the package");
}

TEST_F(Package, AMissingManifestIsNamed) {
  fs::remove(package_ / "manifest.json");
  expect_refused("manifest.json: is missing from the package");
}

TEST_F(Package, ATokenizerThatTheManifestDoesNotKnowIsRefused) {
  write_text(package_ / "tokenizer.model", "x");
  expect_refused("tokenizer.model: is in the package's folder, but not in its manifest");
}

struct BadManifest {
  const char* what;
  const char* from;
  const char* to;
  const char* reason;
};

class RefusedManifest : public Package, public testing::WithParamInterface<BadManifest> {};

TEST_P(RefusedManifest, WithTheField) {
  replace_in(package_ / "manifest.json", GetParam().from, GetParam().to);
  expect_refused(GetParam().reason);
}

INSTANTIATE_TEST_SUITE_P(
    Package, RefusedManifest,
    testing::Values(
        BadManifest{"format", "sluice-package", "sluice", "is not format sluice-package version 1"},
        BadManifest{"version", "\"format_version\": 1", "\"format_version\": 2",
                    "import the model"},
        BadManifest{"version_text", "\"format_version\": 1", "\"format_version\": \"1\"",
                    "import the model"},
        BadManifest{"unknown_field", "\"family\"", "\"extra\": 1, \"family\"",
                    "unknown field 'extra'"},
        BadManifest{"missing_field", "\"num_layers\"", "\"layers\"", "lacks num_layers"},
        BadManifest{"twice", "\"family\"", "\"dtype\": \"bf16\", \"family\"", "same key twice"},
        BadManifest{"vocabulary", "\"vocabulary_size\": 199", "\"vocabulary_size\": 200",
                    "vocabulary_size is 200, the program's is 199"},
        BadManifest{"negative", "\"num_heads\": 4", "\"num_heads\": -4", "num_heads is not"},
        BadManifest{"fraction", "\"num_heads\": 4", "\"num_heads\": 4.0", "num_heads is not"},
        BadManifest{"above_int32", "\"num_heads\": 4", "\"num_heads\": 4294967300",
                    "num_heads is not"},
        BadManifest{"above_int64", "\"num_heads\": 4", "\"num_heads\": 18446744073709551615",
                    "num_heads is not"},
        BadManifest{"other_heads", "\"num_heads\": 4", "\"num_heads\": 2",
                    "num_heads is 2, the program's is 4"},
        BadManifest{"dtype", "\"dtype\": \"bf16\"", "\"dtype\": \"fp8\"", "dtype is not one of"},
        BadManifest{"end_token", "\"end_token_ids\": [", "\"end_token_ids\": [199, ",
                    "end_token_ids are not"},
        BadManifest{"alias_of_nothing", "\"head\": \"embedding\"", "\"head\": \"nothing\"",
                    "cannot stand for"},
        BadManifest{"no_alias", "\"head\": \"embedding\"", "", "weight 'head' is missing"},
        BadManifest{"digest_digits", "\"sha256\": [\n        \"", "\"sha256\": [\n        \"g",
                    "does not have 1 sha256 digests"},
        BadManifest{"no_program", "\"program.pt\"", "\"other.pt\"", "lacks program.pt"}),
    [](const auto& item) { return std::string(item.param.what); });

// Edits of the weights file under a manifest that agrees with it.
TEST_F(Package, NamesTheWeightThatIsNotFinite) {
  for (const uint16_t bits : {0x7fc0, 0x7f80, 0xff80, 0xffff}) {  // bfloat16 NaN and infinities
    make("llama_gqa_tied_bf16");
    const auto file = SafetensorsFile::open(package_ / kWeights);
    ASSERT_TRUE(file.has_value());
    const TensorEntry& entry = file->tensors().back();
    std::string bytes = read_text(package_ / kWeights);
    std::memcpy(bytes.data() + entry.end - 2, &bits, 2);
    write_text(package_ / kWeights, bytes);
    reseal();
    expect_refused("weight '" + entry.name + "' holds NaN or infinity");
  }
}

TEST_F(Package, NamesTheWeightThatIsMissing) {
  replace_in(package_ / kWeights, "\"down.1\"", "\"down.7\"");
  reseal();
  expect_refused("the program has no weight 'down.7'");
}

TEST_F(Package, WeightsOfAnotherShapeAreRefused) {
  replace_in(package_ / kWeights, "\"shape\":[64,96]", "\"shape\":[96,64]");  // a down projection
  reseal();
  expect_refused("the program failed in a trial step");
}

TEST_F(Package, AProgramThatIsNoneIsRefused) {
  write_text(package_ / "program.pt", "PK\x03\x04 not an archive");
  reseal();
  expect_refused("program.pt: is not a TorchScript program that loads");
}

// A program by a family file, for what the file may not do.
struct BadProgram {
  const char* what;
  const char* from;
  const char* to;
  const char* reason;
};

class RefusedProgram : public testing::TestWithParam<BadProgram> {};

TEST_P(RefusedProgram, WithTheOperator) {
  const TemporaryFolder folder;
  fs::copy_file(fs::path(SLUICE_SOURCE_DIR) / "models/llama.py", folder / "llama.py");
  replace_in(folder / "llama.py", GetParam().from, GetParam().to);
  LoadOptions options;
  options.families = folder.path();
  const std::string message = load_error(variant("llama_gqa_tied_bf16"), options);
  EXPECT_NE(message.find(GetParam().reason), std::string::npos) << message;
}

constexpr const char* kLogits = "return sluice.logits(x, self.head)";
constexpr const char* kNorm = "h = sluice.rms_norm(x, self.attention_norm[i], self.epsilon)";

INSTANTIATE_TEST_SUITE_P(
    Program, RefusedProgram,
    testing::Values(
        BadProgram{"matrix_product", kLogits, "return torch.matmul(x, self.head.t())",
                   "calls aten::matmul, which is not allowed"},
        BadProgram{"in_a_loop", kNorm, "h = torch.softmax(x, -1)", "calls aten::softmax"},
        BadProgram{"in_a_method", kLogits,
                   "return self.head_of(x)\n\n    def head_of(self, x: Tensor) -> Tensor:\n"
                   "        return torch.matmul(x, self.head.t())",
                   "calls aten::matmul"},
        BadProgram{"a_list_that_grows", kLogits,
                   "self.down.append(x)\n        return sluice.logits(x, self.head)",
                   "calls aten::append"},
        BadProgram{"file_access", kLogits, "return torch.from_file(\"/etc/passwd\")",
                   "calls aten::from_file"},
        BadProgram{"random_numbers", kLogits, "return torch.rand_like(x)", "calls aten::rand_like"},
        BadProgram{"in_place", kLogits, "x.mul_(2.0)\n        return x", "calls aten::mul_"},
        BadProgram{"own_state", kLogits, "self.num_layers = 1\n        return x",
                   "calls prim::SetAttr"},
        BadProgram{"printing", kLogits, "print(x)\n        return x", "calls prim::Print"},
        BadProgram{"save", kLogits, "torch.save(x, \"x.pt\")\n        return x", "save"},
        BadProgram{"two_results", "plan: List[Tensor]) -> Tensor:",
                   "plan: List[Tensor]) -> List[Tensor]:", "llama.py: "},
        BadProgram{"fewer_arguments", "positions: Tensor, cache", "cache", "llama.py: "},
        BadProgram{"other_argument", "tokens: Tensor,", "tokens: List[Tensor],", "llama.py: "},
        BadProgram{"wrong_width", "sluice.select_rows(x, plan), self.norm",
                   "sluice.select_rows(x, plan), self.attention_norm[0][1:]",
                   "failed in a trial step"},
        BadProgram{"syntax", "def forward(self", "def forward(self,,", "llama.py: "},
        BadProgram{"unknown_name", "sluice.swiglu", "sluice.no_such_operator", "llama.py: "},
        BadProgram{"no_configure", "def configure", "def configured", "has no function configure"},
        BadProgram{"two_classes", "def model_types",
                   "class Other:\n    x: int\n\n\ndef model_types", "exactly one class"},
        BadProgram{"undeclared_size", "    context_length: int\n",
                   "    context_size: int\n    context_length: float\n", "llama.py: "},
        BadProgram{"weight_twice", "out.put(\"norm\",", "out.put(\"embedding\",", "embedding"},
        BadProgram{"unknown_weight", "out.put(\"norm\",", "out.put(\"normal\",", "normal"},
        BadProgram{"unknown_list", "out.append(\"mlp_norm\",", "out.append(\"mlp_norms\",",
                   "no list 'mlp_norms'"},
        BadProgram{"endless_list", "out.append(\"mlp_norm\",", "out.append(\"norm\",",
                   "no list 'norm'"}),
    [](const auto& item) { return std::string(item.param.what); });

// torch.jit.script compiles forward() of submodules whose weights alone are used.
TEST(Program, AFunctionThatIsNeverCalledMayHoldAnything) {
  const TemporaryFolder folder;
  fs::copy_file(fs::path(SLUICE_SOURCE_DIR) / "models/llama.py", folder / "llama.py");
  replace_in(folder / "llama.py", kLogits,
             std::string(kLogits) +
                 "\n\n    def unused(self, x: Tensor) -> Tensor:\n"
                 "        return torch.matmul(x, x)");
  LoadOptions options;
  options.families = folder.path();
  EXPECT_NE(load(variant("llama_gqa_tied_bf16"), options), nullptr);
}

// A user's own program: weights in the archive, and beside it.
class Scripted : public Package {
 protected:
  void SetUp() override {}
  // A folder with program.pt made of a package; `inside`: weights in the archive.
  void script(const std::string& name, bool inside) {
    make(name);
    auto program = load_program(package_ / "program.pt", ProgramOrigin::kPackage);
    ASSERT_TRUE(program.has_value());
    fs::create_directories(source_);
    fs::copy_file(variant(name) / "config.json", source_ / "config.json");
    if (inside) {
      set_weights(*program);
    } else {
      fs::copy_file(package_ / kWeights, source_ / "model.safetensors");
    }
    const auto bytes = save_program(*program);
    ASSERT_TRUE(bytes.has_value());
    write_text(source_ / "program.pt", *bytes);
  }

  void set_weights(const torch::jit::Module& program) const {
    const auto file = SafetensorsFile::open(package_ / kWeights);
    ASSERT_TRUE(file.has_value());
    auto weights = ProgramWeights::find(program);
    ASSERT_TRUE(weights.has_value());
    for (const TensorEntry& entry : file->tensors()) {
      weights->set(entry.name, mapped_tensor(*file, entry));
    }
    for (const auto& [path, target] : manifest().aliases) weights->set(path, weights->get(target));
  }
};

TEST_F(Scripted, WeightsInsideGiveTheSameBits) {
  for (const char* name : {"llama_gqa_tied_bf16", "bloom_3_heads_f32"}) {
    fs::remove_all(source_);
    script(name, true);
    const auto ours = load(source_);
    const auto expected = load(package_);
    ASSERT_TRUE(ours && expected);
    EXPECT_EQ(prompt_logits(*ours, kTokens), prompt_logits(*expected, kTokens));
    EXPECT_EQ(ours->weight_bytes(), expected->weight_bytes());
  }
}

TEST_F(Scripted, WeightsBesideGiveTheSameBits) {
  script("llama_mha_untied_f32", false);
  const auto ours = load(source_);
  const auto expected = load(package_);
  ASSERT_TRUE(ours && expected);
  EXPECT_EQ(prompt_logits(*ours, kTokens), prompt_logits(*expected, kTokens));
}

TEST_F(Scripted, ImportsToAPackageOfTheSameBits) {
  script("llama_gqa_tied_bf16", true);
  ImportOptions options;
  options.source = source_;
  options.package = folder_ / "imported";
  const auto imported = import_model(options);
  ASSERT_TRUE(imported.has_value()) << imported.error().message;
  EXPECT_LT(fs::file_size(folder_ / "imported/program.pt"), 100'000U) << "weights moved out";
  const auto ours = load(folder_ / "imported");
  const auto expected = load(package_);
  ASSERT_TRUE(ours && expected);
  EXPECT_EQ(prompt_logits(*ours, kTokens), prompt_logits(*expected, kTokens));
}

TEST_F(Scripted, MissingWeightsAreNamed) {
  script("llama_gqa_tied_bf16", false);  // the file lacks the tied head
  EXPECT_NE(load_error(source_).find("weight 'head' is empty"), std::string::npos);
}

struct SluiceResolver final : torch::jit::NativeResolver {
  std::shared_ptr<torch::jit::SugaredValue> resolveValue(
      const std::string& name, torch::jit::GraphFunction& method,
      const torch::jit::SourceRange& range) override {
    if (name == "sluice") return std::make_shared<torch::jit::BuiltinModule>("sluice");
    return NativeResolver::resolveValue(name, method, range);
  }
};

// A weight in a submodule, used twice, and a choice by a constant as torch.jit.script leaves it.
TEST_F(Scripted, WeightsOfSubmodulesAreFound) {
  torch::jit::Module block("__torch__.Block");
  block.register_parameter("weight", at::full({11, 8}, 0.5, at::kFloat), /*is_buffer=*/false);
  torch::jit::Module program("__torch__.Own");
  program.register_module("block", block);
  for (const auto& [name, value] : std::map<std::string, int64_t>{{"vocabulary_size", 11},
                                                                  {"context_length", 32},
                                                                  {"num_layers", 1},
                                                                  {"num_heads", 1},
                                                                  {"num_kv_heads", 1},
                                                                  {"head_size", 8}}) {
    program.register_attribute(name, c10::IntType::get(), value);
  }
  kernels::register_operators();
  program.define(R"(
    def forward(self, tokens: Tensor, positions: Tensor, cache: List[Tensor],
                plan: List[Tensor]) -> Tensor:
        x = sluice.embed(tokens, self.block.weight)
        if False:
            x = torch.matmul(x, x)
        return sluice.logits(sluice.select_rows(x + x, plan), self.block.weight)
  )",
                 std::make_shared<SluiceResolver>());
  EXPECT_EQ(multiplied_weights(program), (std::set<std::string>{"block.weight"}));
  const auto bytes = save_program(program);
  ASSERT_TRUE(bytes.has_value());
  fs::create_directories(source_);
  write_text(source_ / "program.pt", *bytes);
  write_text(source_ / "config.json", R"({"eos_token_id": 3})");
  const auto runner = load(source_);
  ASSERT_NE(runner, nullptr);
  EXPECT_EQ(runner->config().end_token_ids, (std::vector<int32_t>{3}));
  EXPECT_EQ(prompt_logits(*runner, {1, 10}),
            (std::vector<std::vector<float>>(2, std::vector<float>(11, 8 * 0.5F))));
}

// A failed step is an error of that step; the runner goes on, and its words stay off the message.
TEST_F(Package, AFailingStepDoesNotEndTheRunner) {
  const auto runner = load(package_);
  ASSERT_NE(runner, nullptr);
  ASSERT_TRUE(runner->allocate_kv(4).has_value());
  StepBatch batch;
  batch.clear();
  batch.tokens = {1, 1 << 30};  // beyond the vocabulary
  batch.positions = {0, 1};
  batch.sequence_starts = {0, 2};
  batch.context_lengths = {2};
  batch.block_tables = {0};
  batch.max_blocks = 1;
  batch.logit_rows = {1};
  const auto failed = runner->forward(batch);
  ASSERT_FALSE(failed.has_value());
  EXPECT_EQ(failed.error().code, ErrorCode::kInternal);
  EXPECT_EQ(failed.error().message, "the model's program failed in this step");
  EXPECT_NE(runner->failure_detail(), "");
  batch.tokens = {1, 2};
  EXPECT_TRUE(runner->forward(batch).has_value());
}

}  // namespace
}  // namespace sluice::model
