// Files that are cut, damaged, hostile or of another kind: one clear error each, never a crash.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <functional>

#include "tests/tokenizer/golden.h"

namespace sluice::tokenizer {
namespace {

class BadFilesTest : public testing::Test {
 protected:
  void SetUp() override {
    const auto* info = testing::UnitTest::GetInstance()->current_test_info();
    folder_ = std::filesystem::path(testing::TempDir()) / "sluice_tokenizer" / info->name();
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  void write(const std::string& name, std::string_view content) const {
    std::ofstream(folder_ / name, std::ios::binary) << content;
  }

  // Loads, and encodes and decodes something if that works.
  Result<void> use() const {
    const auto tokenizer = load_tokenizer(folder_);
    if (!tokenizer) return std::unexpected(tokenizer.error());
    const auto token_ids = (*tokenizer)->encode("Hello, 世界! <s> \n don't 123 é", true);
    if (!token_ids) return std::unexpected(token_ids.error());
    const std::string text = (*tokenizer)->decode(*token_ids, true);
    EXPECT_EQ(find_ill_formed_utf8(text), std::string_view::npos);
    return {};
  }

  // Expects that a file is refused with a message that has all of `parts`.
  void expect_refused(const std::vector<std::string>& parts) const {
    const auto used = use();
    ASSERT_FALSE(used.has_value()) << testing::PrintToString(parts);
    EXPECT_TRUE(used.error().code == ErrorCode::kInvalidArgument ||
                used.error().code == ErrorCode::kUnimplemented);
    for (const std::string& part : parts) {
      EXPECT_NE(used.error().message.find(part), std::string::npos) << used.error().message;
    }
    EXPECT_EQ(used.error().message.find(folder_.string()), std::string::npos)
        << "the message shows a path of the host";
  }

  std::filesystem::path folder_;
};

struct JsonCase {
  std::function<void(Json&)> change;
  std::vector<std::string> message;
};

// Changes of a good file, and what the message must name.
std::vector<JsonCase> json_cases() {
  const auto set = [](const char* pointer, Json value) {
    return [pointer, value](Json& file) { file[Json::json_pointer(pointer)] = value; };
  };
  return {
      {set("/model/type", "Unigram"), {"model.type", "Unigram"}},
      {set("/model/type", "WordPiece"), {"model.type", "WordPiece"}},
      {set("/model/dropout", 0.1), {"model.dropout"}},
      {set("/model/end_of_word_suffix", "</w>"), {"model.end_of_word_suffix", "</w>"}},
      {set("/model/continuing_subword_prefix", "##"), {"model.continuing_subword_prefix"}},
      {set("/model/byte_fallback", true), {"model.byte_fallback"}},
      {set("/model/byte_fallback", 1), {"model.byte_fallback"}},
      {set("/model/new_field", 1), {"model.", "new_field"}},
      {set("/model", nullptr), {"model"}},
      {set("/model/vocab", nullptr), {"model.vocab"}},
      {set("/model/vocab", Json::object()), {"model.vocab"}},
      {set("/model/vocab", Json::array()), {"model.vocab"}},
      {set("/model/vocab/the", -1), {"model.vocab", "id"}},
      {set("/model/vocab/the", 1.5), {"model.vocab", "id"}},
      {set("/model/vocab/the", "1"), {"model.vocab", "id"}},
      {set("/model/vocab/the", 4294967296), {"model.vocab", "id"}},
      {set("/model/vocab/the", 18446744073709551615ULL), {"model.vocab", "id"}},
      {set("/model/vocab/new", 7), {"model.vocab", "7", "two tokens"}},
      {[](Json& file) { file["model"]["vocab"].erase("a"); }, {"model.vocab", "byte 97"}},
      {[](Json& file) { file["model"].erase("merges"); }, {"model.merges"}},
      {set("/model/merges", "a b"), {"model.merges"}},
      {set("/model/merges/0", "a"), {"model.merges[0]"}},
      {set("/model/merges/0", "a b c"), {"model.merges[0]"}},
      {set("/model/merges/1", "zzzzq b"), {"model.merges[1]", "lacks"}},
      {set("/model/merges/1", Json::array({"a"})), {"model.merges[1]"}},
      {set("/model/merges/1", Json::array({"a", 1})), {"model.merges[1]"}},
      {set("/model/merges/1", 1), {"model.merges[1]"}},
      {set("/new_field", 1), {"new_field"}},
      {set("/normalizer", {{"type", "Lowercase"}}), {"normalizer.type", "Lowercase"}},
      {set("/normalizer", "NFC"), {"normalizer"}},
      {set("/normalizer", {{"type", "NFC"}, {"x", 1}}), {"normalizer.", "x"}},
      {set("/normalizer", {{"type", "Sequence"}}), {"normalizer.normalizers"}},
      {set("/normalizer", {{"type", "Sequence"}, {"normalizers", {{{"type", "Strip"}}}}}),
       {"normalizer.normalizers[0].type", "Strip"}},
      {set("/normalizer", {{"type", "Replace"}, {"pattern", {{"Regex", "a"}}}, {"content", "b"}}),
       {"normalizer.pattern.", "Regex"}},
      {set("/normalizer", {{"type", "Replace"}, {"pattern", {{"String", ""}}}, {"content", "b"}}),
       {"normalizer.pattern.String"}},
      {set("/pre_tokenizer", {{"type", "Whitespace"}}), {"pre_tokenizer.type", "Whitespace"}},
      {set("/pre_tokenizer", {{"type", "BertPreTokenizer"}}), {"pre_tokenizer.type"}},
      {set("/pre_tokenizer", nullptr), {"ByteLevel"}},
      {set("/pre_tokenizer", {{"type", "Sequence"}, {"pretokenizers", 1}}),
       {"pre_tokenizer.pretokenizers"}},
      {set("/pre_tokenizer/pretokenizers/0/pattern", {{"Regex", "a**"}}),
       {"pre_tokenizer.pretokenizers[0].pattern.Regex"}},
      {set("/pre_tokenizer/pretokenizers/0/pattern", {{"Regex", "(a)\\1"}}),
       {"pre_tokenizer.pretokenizers[0].pattern.Regex", "\\1"}},
      {set("/pre_tokenizer/pretokenizers/0/pattern", {{"Regex", "a*"}}),
       {"pre_tokenizer.pretokenizers[0].pattern.Regex", "matches nothing"}},
      {set("/pre_tokenizer/pretokenizers/0/pattern", {{"Glob", "a"}}), {"Glob"}},
      {set("/pre_tokenizer/pretokenizers/0/pattern", "a"), {"pattern"}},
      {set("/pre_tokenizer/pretokenizers/0/behavior", "Sideways"), {"behavior", "Sideways"}},
      {set("/pre_tokenizer/pretokenizers/0/invert", "no"), {"invert"}},
      {set("/pre_tokenizer/pretokenizers/2", {{"type", "Digits"}}), {"after ByteLevel"}},
      {set("/decoder", nullptr), {"decoder"}},
      {set("/decoder", {{"type", "WordPiece"}}), {"decoder.type", "WordPiece"}},
      {set("/decoder", {{"type", "Metaspace"}}), {"decoder.type", "Metaspace"}},
      {set("/decoder", {{"type", "Sequence"}, {"decoders", Json::array()}}), {"ByteFallback"}},
      {set("/decoder", {{"type", "Sequence"}, {"decoders", {{{"type", "CTC"}}}}}),
       {"decoder.decoders[0].type", "CTC"}},
      {set("/post_processor", {{"type", "BertProcessing"}}), {"post_processor.type"}},
      {set("/post_processor", {{"type", "TemplateProcessing"}}), {"post_processor.single"}},
      {set("/post_processor", {{"type", "TemplateProcessing"}, {"single", Json::array()}}),
       {"post_processor.single"}},
      {set("/post_processor",
           {{"type", "TemplateProcessing"},
            {"single", {{{"SpecialToken", {{"id", "<x>"}}}}, {{"Sequence", {{"id", "A"}}}}}},
            {"special_tokens", Json::object()}}),
       {"post_processor.single[0]"}},
      {set("/added_tokens", 1), {"added_tokens"}},
      {set("/added_tokens/0", 1), {"added_tokens[0]"}},
      {set("/added_tokens/0/id", -1), {"added_tokens[0].id", "-1"}},
      {set("/added_tokens/0/id", 99999999), {"added_tokens[0].id", "99999999"}},
      {set("/added_tokens/0/id", 5), {"added_tokens[0]"}},
      {set("/added_tokens/0/content", ""), {"added_tokens[0].content"}},
      {set("/added_tokens/0/content", std::string(300, 'x')), {"added_tokens[0].content"}},
      {set("/added_tokens/0/content", "unheard"), {"added_tokens[0]", "two tokens"}},
      {set("/added_tokens/0/special", 1), {"added_tokens[0].special"}},
      {set("/added_tokens/0/new_field", 1), {"added_tokens[0].", "new_field"}},
  };
}

TEST_F(BadFilesTest, RefusesByName) {
  const Json good = Json::parse(read_whole_file(kGoldenFolder / "bloom" / "tokenizer.json"));
  write("tokenizer.json", good.dump());
  ASSERT_TRUE(use().has_value()) << use().error().message;
  for (const JsonCase& json_case : json_cases()) {
    Json file = good;
    json_case.change(file);
    write("tokenizer.json", file.dump());
    auto parts = json_case.message;
    parts.push_back("tokenizer.json: ");
    expect_refused(parts);
  }
}

TEST_F(BadFilesTest, RefusesJsonThatIsNone) {
  for (const std::string& text :
       {std::string(), std::string("{"), std::string("null"), std::string("[]"),
        std::string("{\"model\":{},\"model\":{}}"), std::string("\xFF\xFE{}"),
        std::string(1 << 20, '['), std::string("{\"model\":1e999}"),
        "{\"normalizer\":" + std::string(2000, '[') + std::string(2000, ']') + "}"}) {
    write("tokenizer.json", text);
    expect_refused({"tokenizer.json"});
  }
}

TEST_F(BadFilesTest, RefusesAConfigurationThatDoesNotFit) {
  for (const char* name : {"bloom", "sp_bpe"}) {
    const bool is_model = std::string_view(name).starts_with("sp_");
    const char* file = is_model ? "tokenizer.model" : "tokenizer.json";
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
    write(file, read_whole_file(kGoldenFolder / name / file));
    for (const char* config :
         {"[]", "{", "{\"add_bos_token\":1}", "{\"bos_token\":1}", "{\"tokenizer_class\":1}",
          "{\"added_tokens_decoder\":[]}", "{\"added_tokens_decoder\":{\"x\":{}}}",
          "{\"added_tokens_decoder\":{\"-1\":{\"content\":\"a\"}}}",
          "{\"added_tokens_decoder\":{\"99999999999\":{\"content\":\"a\",\"special\":true}}}",
          "{\"added_tokens_decoder\":{\"5000\":{\"content\":\"a\",\"special\":false}}}",
          "{\"tokenizer_class\":\"LlamaTokenizer\",\"add_bos_token\":true,"
          "\"bos_token\":\"<none>\"}"}) {
      write("tokenizer_config.json", config);
      expect_refused({"tokenizer_config.json"});
    }
    write("tokenizer_config.json", "{\"unknown\":1,\"model_max_length\":1e30}");
    EXPECT_TRUE(use().has_value()) << use().error().message;
  }
}

TEST_F(BadFilesTest, SaysThatThereIsNoTokenizer) {
  const auto used = use();
  ASSERT_FALSE(used.has_value());
  EXPECT_EQ(used.error().code, ErrorCode::kNotFound);
}

TEST_F(BadFilesTest, AddsTokensOfTheConfigurationToAModelFile) {
  write("tokenizer.model", read_whole_file(kGoldenFolder / "sp_bpe" / "tokenizer.model"));
  write("tokenizer_config.json",
        "{\"added_tokens_decoder\":{\"1300\":{\"content\":\"<|end|>\",\"special\":true}}}");
  const auto tokenizer = load_tokenizer(folder_);
  ASSERT_TRUE(tokenizer.has_value()) << tokenizer.error().message;
  EXPECT_EQ((*tokenizer)->vocabulary_size(), 1301);
  EXPECT_TRUE((*tokenizer)->is_special(1300));
  EXPECT_EQ((*tokenizer)->decode(std::vector{1300}, false), "<|end|>");
  EXPECT_EQ((*tokenizer)->decode(std::vector{1300}, true), "");
}

TEST_F(BadFilesTest, TakesBeginAndEndFromALlamaConfiguration) {
  write("tokenizer.json", read_whole_file(kGoldenFolder / "llama2" / "tokenizer.json"));
  write("tokenizer_config.json",
        "{\"tokenizer_class\":\"LlamaTokenizer\",\"add_bos_token\":false,\"add_eos_token\":true}");
  const auto tokenizer = load_tokenizer(folder_);
  ASSERT_TRUE(tokenizer.has_value()) << tokenizer.error().message;
  EXPECT_EQ((*tokenizer)->encode("", true), std::vector<int32_t>{2});
}

// Every cut and many damaged bytes, of small files so that all of it takes a second.
TEST_F(BadFilesTest, SurvivesCutFiles) {
  for (const char* name : {"behaviors", "sp_bpe", "sp_unigram"}) {
    const bool is_model = std::string_view(name).starts_with("sp_");
    const char* file = is_model ? "tokenizer.model" : "tokenizer.json";
    const std::string good = read_whole_file(kGoldenFolder / name / file);
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
    const size_t step = good.size() / 60 + 1;
    for (size_t size = 0; size < good.size(); size += step) {
      write(file, std::string_view(good).substr(0, size));
      const auto used = use();
      // A model file cut between two of its records is a smaller model file.
      EXPECT_TRUE(used.has_value() || !used.error().message.empty());
      EXPECT_TRUE(is_model || !used.has_value()) << size;
    }
  }
}

TEST_F(BadFilesTest, SurvivesDamagedBytes) {
  for (const char* name : {"behaviors", "sp_bpe", "sp_unigram"}) {
    const bool is_model = std::string_view(name).starts_with("sp_");
    const char* file = is_model ? "tokenizer.model" : "tokenizer.json";
    const std::string good = read_whole_file(kGoldenFolder / name / file);
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
    for (uint64_t seed = 0; seed < 150; ++seed) {
      SplitMix64 rng(seed);
      std::string damaged = good;
      for (uint64_t flips = 1 + rng.below(8); flips > 0; --flips) {
        // Half of the damage goes to the end, where a model file keeps its settings and maps.
        const size_t tail = rng.below(2) == 0 ? std::min<size_t>(damaged.size(), 400) : 0;
        const size_t span = tail == 0 ? damaged.size() : tail;
        damaged[damaged.size() - span + rng.below(span)] = static_cast<char>(rng.below(256));
      }
      write(file, damaged);
      const auto used = use();
      EXPECT_TRUE(used.has_value() || !used.error().message.empty()) << seed;
    }
  }
}

}  // namespace
}  // namespace sluice::tokenizer
