// Every file of a folder that tokenizers and chat templates come from, damaged in every way of
// tests/bad_inputs/damage.h: an error that names the file, or another good file; never a crash.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "tests/bad_inputs/damage.h"
#include "tests/tokenizer/golden.h"
#include "tokenizer/chat/chat_template.h"

namespace sluice::tokenizer {
namespace {

using bad_inputs::Damage;

constexpr const char* kTokensMap = R"({"bos_token": "<s>", "eos_token": {"content": "</s>"}})";
constexpr const char* kAddedTokens = R"({"<s>": 1, "</s>": 2})";
constexpr const char* kConfig = R"({
  "add_bos_token": true, "bos_token": "<s>", "eos_token": "</s>",
  "chat_template": [{"name": "default", "template": "{{ messages[0].content }}"},
                    {"name": "tool_use", "template": "{{ tools | tojson }}"}],
  "added_tokens_decoder": {"0": {"content": "<unk>", "special": true},
                           "1": {"content": "<s>", "special": true, "lstrip": false},
                           "2": {"content": "</s>", "special": true}}})";
constexpr const char* kTemplate =
    "{% for m in messages %}{{ '<' + m['role'] + '>' + m.content | trim }}\n{% endfor %}"
    "{% if add_generation_prompt %}{{ bos_token }}{% endif %}";

class BadFolderTest : public testing::Test {
 protected:
  void SetUp() override {
    const auto* info = testing::UnitTest::GetInstance()->current_test_info();
    folder_ = std::filesystem::path(testing::TempDir()) / "sluice_bad_folder" / info->name();
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  void write(const std::string& name, std::string_view content) const {
    std::ofstream(folder_ / name, std::ios::binary) << content;
  }

  // What a server does with the folder before it takes requests, and with one request.
  Result<void> use() const {
    const auto tokenizer = load_tokenizer(folder_);
    if (!tokenizer) return std::unexpected(tokenizer.error());
    const auto chat = load_chat_template(folder_);
    if (!chat && chat.error().code == ErrorCode::kNotFound) return {};  // served without chat
    if (!chat) return std::unexpected(chat.error());
    const auto token_ids = (*tokenizer)->encode("Hello, 世界! <s>\n don't 123", true);
    if (token_ids) (void)(*tokenizer)->decode(*token_ids, true);
    const auto messages = parse_ordered_json(R"([{"role": "user", "content": "Hi"}])");
    const auto text = chat->render(*messages, {});
    EXPECT_TRUE(text || !text.error().message.empty());
    return {};
  }

  void expect_survives(const std::string& name, const std::vector<Damage>& damages) const {
    ASSERT_FALSE(damages.empty());
    for (const Damage& damage : damages) {
      write(name, damage.bytes);
      const auto used = use();
      if (used) {
        EXPECT_FALSE(damage.must_fail) << name << ": " << damage.what << " is read";
        continue;
      }
      const Error& error = used.error();
      EXPECT_TRUE(error.code == ErrorCode::kInvalidArgument ||
                  error.code == ErrorCode::kUnimplemented ||
                  error.code == ErrorCode::kResourceExhausted)
          << error.message;
      EXPECT_TRUE(error.message.starts_with(name + ": ") ||
                  (!damage.must_fail && error.message.find(": ") != std::string::npos))
          << name << ", " << damage.what << ": " << error.message;
      EXPECT_EQ(error.message.find('\n'), std::string::npos) << error.message;
      EXPECT_EQ(error.message.find(folder_.string()), std::string::npos) << error.message;
    }
  }

  // All ways for one JSON file of a folder that is good otherwise.
  void damage_json(const std::string& name, const std::string& good, size_t num_cuts) const {
    write(name, good);
    const auto used = use();
    ASSERT_TRUE(used.has_value()) << used.error().message;
    expect_survives(name, bad_inputs::json_damages(good));
    expect_survives(name, bad_inputs::cuts(good, num_cuts, true));
    expect_survives(name, bad_inputs::flips(good, 200, 7));
    std::filesystem::remove(folder_ / name);
    std::filesystem::create_directory(folder_ / name);
    const auto refused = use();
    ASSERT_FALSE(refused.has_value());
    EXPECT_EQ(refused.error().message, name + ": is not a regular file");
    std::filesystem::remove(folder_ / name);
  }

  void make_model_folder() const {
    write("tokenizer.model", read_whole_file(kGoldenFolder / "sp_bpe" / "tokenizer.model"));
    write("chat_template.jinja", kTemplate);
  }

  std::filesystem::path folder_;
};

TEST_F(BadFolderTest, TokenizerJson) {
  write("chat_template.jinja", kTemplate);
  for (const char* name : {"llama2", "qwen2"}) {
    damage_json("tokenizer.json", read_whole_file(kGoldenFolder / name / "tokenizer.json"), 60);
  }
}

TEST_F(BadFolderTest, TokenizerConfig) {
  make_model_folder();
  damage_json("tokenizer_config.json", kConfig, 1000);
  std::filesystem::remove(folder_ / "chat_template.jinja");
  damage_json("tokenizer_config.json", kConfig, 1000);
}

TEST_F(BadFolderTest, SpecialTokensMap) {
  make_model_folder();
  damage_json("special_tokens_map.json", kTokensMap, 1000);
}

TEST_F(BadFolderTest, AddedTokens) {
  make_model_folder();
  damage_json("added_tokens.json", kAddedTokens, 1000);
}

TEST_F(BadFolderTest, AddedTokensAddToAModelFile) {
  make_model_folder();
  write("added_tokens.json", R"({"<|end|>": 1300, "<s>": 1})");
  write("special_tokens_map.json",
        R"({"additional_special_tokens": ["x", {"content": "<|end|>"}]})");
  const auto tokenizer = load_tokenizer(folder_);
  ASSERT_TRUE(tokenizer.has_value()) << tokenizer.error().message;
  EXPECT_EQ((*tokenizer)->vocabulary_size(), 1301);
  EXPECT_TRUE((*tokenizer)->is_special(1300));
  EXPECT_EQ((*tokenizer)->decode(std::vector{1300}, false), "<|end|>");
  for (const auto& [content, part] :
       {std::pair(R"({"x": -1})", "-1"), std::pair(R"({"x": 1.5})", "x"),
        std::pair(R"({"x": "1"})", "x"), std::pair(R"({"x": 4194304})", "4194304"),
        std::pair(R"({"x": 1})", "1"), std::pair(R"({"x": 1400, "y": 1401})", "1401")}) {
    write("added_tokens.json", content);
    const auto refused = load_tokenizer(folder_);
    ASSERT_FALSE(refused.has_value()) << content;
    EXPECT_TRUE(refused.error().message.starts_with("added_tokens.json: "))
        << refused.error().message;
    EXPECT_NE(refused.error().message.find(part), std::string::npos) << refused.error().message;
  }
}

// A model cut between two records is a smaller model, which may be good.
TEST_F(BadFolderTest, TokenizerModel) {
  write("chat_template.jinja", kTemplate);
  for (const char* name : {"sp_bpe", "sp_unigram_bytes"}) {
    const std::string good = read_whole_file(kGoldenFolder / name / "tokenizer.model");
    std::vector<Damage> damages = bad_inputs::flips(good, 400, 11);
    // Settings and character maps lie at the end.
    for (size_t tail = 1; tail < 300; ++tail) {
      damages.push_back(
          {"without the last " + std::to_string(tail), good.substr(0, good.size() - tail), false});
    }
    for (const auto& cut : bad_inputs::cuts(good, 200, false)) damages.push_back(cut);
    damages.push_back({"empty", ""});
    damages.push_back({"text", "This is not a model."});
    damages.push_back({"a length of 2^63", good.substr(0, 1) + std::string(9, '\xFF') + "\x01"});
    damages.push_back({"all pieces twice", good + good});
    expect_survives("tokenizer.model", damages);
  }
}

TEST_F(BadFolderTest, ChatTemplate) {
  make_model_folder();
  ASSERT_TRUE(use().has_value());
  const std::string name = "chat_template.jinja";
  expect_survives(name, bad_inputs::cuts(kTemplate, 1000, false));
  expect_survives(name, bad_inputs::flips(kTemplate, 400, 13));
  std::vector<Damage> damages;
  for (const char* bad : {"{{", "{% if %}", "{% for x in %}{% endfor %}", "{% endif %}", "{{ 'a }}",
                          "{{ a | unheard }}", "{{ \xFF }}", "{% unheard %}", "{# never ends"}) {
    damages.push_back({bad, bad});
  }
  damages.push_back(
      {"deep", "{{ " + std::string(100'000, '(') + "1" + std::string(100'000, ')') + " }}"});
  std::string nested;
  for (int i = 0; i < 20'000; ++i) nested += "{% if true %}";
  damages.push_back({"nested", nested});
  damages.push_back({"2 MiB", std::string(2 << 20, 'x')});
  expect_survives(name, damages);
}

}  // namespace
}  // namespace sluice::tokenizer
