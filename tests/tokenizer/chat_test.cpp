#include "tokenizer/chat/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

namespace sluice::tokenizer {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

const std::filesystem::path kFolder =
    std::filesystem::path(SLUICE_SOURCE_DIR) / "tests/golden/chat";

std::string read_text(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file.is_open()) << path;
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

OrderedJson read_json(const std::string& name) {
  const auto json = parse_ordered_json(read_text(kFolder / name));
  EXPECT_TRUE(json.has_value()) << name;
  return json ? *json : OrderedJson();
}

// The moment of make_golden.py.
std::chrono::local_seconds golden_now() {
  using namespace std::chrono;
  return local_days(year(2026) / March / 5) + hours(14) + minutes(7) + seconds(9);
}

Result<std::string> render(const std::string& source, const OrderedJson& conversation,
                           const ChatLimits& limits = {}) {
  const auto compiled = ChatTemplate::compile(source, limits);
  if (!compiled) return std::unexpected(compiled.error());
  OrderedJson variables = {{"bos_token", "<s>"}, {"eos_token", "</s>"}};
  if (conversation.contains("variables")) variables.update(conversation["variables"]);
  const bool adds_prompt =
      !conversation.contains("add_generation_prompt") || conversation["add_generation_prompt"];
  return compiled->render(
      conversation["messages"],
      {.add_generation_prompt = adds_prompt, .variables = &variables, .now = golden_now()});
}

Result<std::string> render(const std::string& source, const ChatLimits& limits = {}) {
  return render(source, {{"messages", OrderedJson::array()}}, limits);
}

std::string message_of(const Result<std::string>& result) {
  return result ? "no error, but: " + *result : result.error().message;
}

// Bit for bit what Transformers gives, or an error where it raises.
void expect_golden(const Result<std::string>& made, const OrderedJson& expected,
                   const std::string& what) {
  if (expected.is_null()) {
    EXPECT_THAT(message_of(made), StartsWith("chat template, line ")) << what;
    return;
  }
  ASSERT_TRUE(made.has_value()) << what << "\n" << message_of(made);
  EXPECT_EQ(*made, expected.get<std::string>()) << what;
}

TEST(ChatTemplate, RendersPublishedStylesAsTransformers) {
  const OrderedJson conversations = read_json("conversations.json");
  const OrderedJson expected = read_json("expected.json")["templates"];
  ASSERT_GE(expected.size(), 12u);
  int num_prompts = 0;
  for (const auto& [name, prompts] : expected.items()) {
    const std::string source = read_text(kFolder / "templates" / (name + ".jinja"));
    for (const OrderedJson& conversation : conversations) {
      const auto key = conversation["name"].get<std::string>();
      expect_golden(render(source, conversation), prompts.at(key), name + " over " + key);
      num_prompts += prompts.at(key).is_null() ? 0 : 1;
    }
  }
  EXPECT_GE(num_prompts, 200);
}

TEST(ChatTemplate, RendersSnippetsAsTransformers) {
  const OrderedJson conversation = read_json("conversations.json")[3];
  const OrderedJson snippets = read_json("expected.json")["snippets"];
  ASSERT_GE(snippets.size(), 100u);
  for (const OrderedJson& snippet : snippets) {
    const auto source = snippet["source"].get<std::string>();
    // Refused by name here.
    if (source.find("\\N{") != std::string::npos) continue;
    expect_golden(render(source, conversation), snippet["expected"], source);
  }
}

TEST(ChatTemplate, NamesLineAndReason) {
  EXPECT_EQ(message_of(render("a\nb\n{{ x.y }}")),
            "chat template, line 3: reads from 'x', which is undefined");
  EXPECT_EQ(message_of(render("a\n{% if true %}\n\n{{ raise_exception('roles!') }}{% endif %}")),
            "chat template, line 4: raises: roles!");
  EXPECT_EQ(message_of(render("\n{% if true %}\n")),
            "chat template, line 2: {% endif %} is missing");
  EXPECT_THAT(message_of(render("{{ 1 + 'a' }}")),
              HasSubstr("cannot compute an integer + a string"));
}

TEST(ChatTemplate, RefusesUnsupportedByName) {
  const std::pair<const char*, const char*> kCases[] = {
      {"\n{{ x | groupby('a') }}", "line 2: the filter 'groupby' is not supported"},
      {"{{ x is escaped }}", "the test 'escaped' is not supported"},
      {"{% include 'a' %}", "the tag 'include' is not supported"},
      {"{{ cycler(1) }}", "'cycler' is not supported"},
      {"{{ 'a'.encode() }}", "the method 'encode' of a string is not supported"},
      {"{{ '%s' % 1 }}", "formatting a string with '%' is not supported"},
      {"{{ f(*x) }}", "'*' in a call is not supported"},
      {"{% for x in y recursive %}{% endfor %}", "'recursive' of a loop is not supported"},
      {"{{ '\\N{BULLET}' }}", "\\N in a string is not supported"},
      {"{{ [].append(1) }}", "the method 'append' of a list (it would change it) is not supported"},
      {"{{ strftime_now('%Z') }}", "strftime_now with this format is not supported"},
  };
  for (const auto& [source, reason] : kCases) {
    EXPECT_THAT(message_of(render(source)), HasSubstr(reason)) << source;
  }
}

TEST(ChatTemplate, IsBounded) {
  const std::string loops =
      "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}";
  const std::string grows =
      "{% set n = namespace(s='aaaaaaaa') %}{% for i in range(99) %}{% set n.s = n.s + n.s %}{% "
      "endfor %}";
  const std::string nests =
      "{% set n = namespace(l=[]) %}{% for i in range(9999) %}{% set n.l = [n.l] %}{% endfor %}";
  const std::string shares =
      "{% set n = namespace(l=[1]) %}{% for i in range(90) %}{% set n.l = [n.l, n.l] %}{% endfor "
      "%}{{ n.l }}";
  const std::string writes = "{% for i in range(99999) %}{{ 'x' * 9999 }}{% endfor %}";
  const std::string recurses = "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}";
  const std::string repeats = "{{ 'abc' * 9000000000000000000 }}{{ [1] * 9000000000000000000 }}";
  const std::string big_range =
      "{% for i in range(99) %}{{ range(99999) | list | sort | length }}{% endfor %}";
  for (const std::string& source :
       {loops, grows, nests, shares, writes, recurses, repeats, big_range}) {
    const auto made = render(source);
    ASSERT_FALSE(made.has_value()) << source;
    EXPECT_EQ(made.error().code, ErrorCode::kResourceExhausted) << message_of(made);
  }
}

TEST(ChatTemplate, ParsingIsBounded) {
  const auto many = [](const std::string& part) {
    std::string all;
    for (int i = 0; i < 50'000; ++i) all += part;
    return all;
  };
  for (const char* part :
       {"(", "[", "{'a':", "not ", "-", "x if y else ", "f(", "a.", "a[", "a|e|"}) {
    EXPECT_FALSE(render("{{ " + many(part)).has_value()) << part;
  }
  for (const char* part : {"+1", "|e", ".a", "[0]", "()", " or 1", " if 1 else 2", "**1"}) {
    EXPECT_FALSE(render("{{ 1" + many(part) + " }}").has_value()) << part;
  }
  EXPECT_FALSE(render(many("{% if 1 %}")).has_value());
  EXPECT_FALSE(render("{% set " + many("(") + "a").has_value());
  EXPECT_EQ(render(std::string(2 << 20, 'a')).error().code, ErrorCode::kResourceExhausted);
  EXPECT_FALSE(render("\xFF").has_value());
  // Long is not deep.
  EXPECT_TRUE(render("{{ [" + many("1,") + "] | length }}").has_value());
}

TEST(ChatTemplate, RefusesWhatIsNoConversation) {
  const auto compiled = ChatTemplate::compile("{{ messages }}");
  ASSERT_TRUE(compiled.has_value());
  EXPECT_FALSE(compiled->render(OrderedJson::object(), {}).has_value());
  EXPECT_FALSE(compiled->render({{{"content", "\xFF"}}}, {}).has_value());
  const OrderedJson list = OrderedJson::array();
  EXPECT_FALSE(compiled->render(OrderedJson::array(), {.variables = &list}).has_value());
  const OrderedJson messages = {{"messages", 1}};
  EXPECT_FALSE(compiled->render(OrderedJson::array(), {.variables = &messages}).has_value());
  const OrderedJson huge = {{"n", 18446744073709551615ULL}};
  EXPECT_FALSE(compiled->render(OrderedJson::array(), {.variables = &huge}).has_value());
}

TEST(OrderedJson, KeepsOrderAndIsStrict) {
  const auto json = parse_ordered_json(R"({"b": 1, "a": {"z": 2, "c": 3}})");
  ASSERT_TRUE(json.has_value());
  EXPECT_EQ(json->dump(), R"({"b":1,"a":{"z":2,"c":3}})");
  EXPECT_FALSE(parse_ordered_json(R"({"a": 1, "a": 2})").has_value());
  EXPECT_FALSE(parse_ordered_json("{").has_value());
  OrderedJson wide = OrderedJson::object();
  for (int i = 0; i < 1024; ++i) wide[std::to_string(i)] = i;
  EXPECT_TRUE(parse_ordered_json(wide.dump()).has_value());
  wide["x"] = 1;
  EXPECT_FALSE(parse_ordered_json(wide.dump()).has_value());
}

// A model folder of its own.
class ChatFolder : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto* info = ::testing::UnitTest::GetInstance()->current_test_info();
    folder_ = std::filesystem::temp_directory_path() /
              ("sluice_chat_" + std::to_string(getpid()) + "_" + info->name());
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  void write(const std::string& name, const std::string& text) {
    std::ofstream(folder_ / name, std::ios::binary) << text;
  }
  std::string say(const OrderedJson& variables = OrderedJson::object()) {
    const auto chat = load_chat_template(folder_);
    if (!chat) return chat.error().message;
    return message(
        chat->render({{{"role", "user"}, {"content", "hi"}}}, {.variables = &variables}));
  }
  static std::string message(const Result<std::string>& made) {
    return made ? *made : made.error().message;
  }

  std::filesystem::path folder_;
};

TEST_F(ChatFolder, TakesTemplateAndTokensOfTheConfig) {
  write("tokenizer_config.json",
        R"({"bos_token": {"content": "<b>", "lstrip": false}, "eos_token": "<e>", "pad_token": null,
            "chat_template": "{{ bos_token }}{{ messages[0].content }}{{ eos_token }}{{ pad }}"})");
  EXPECT_EQ(say(), "<b>hi<e>");
  EXPECT_EQ(say({{"eos_token", "!"}}), "<b>hi!");
}

TEST_F(ChatFolder, PrefersTheFileAndFillsTokensFromTheMap) {
  write("chat_template.jinja", "{{ bos_token }}{{ unk_token }}");
  write("tokenizer_config.json", R"({"bos_token": "<b>", "chat_template": "old"})");
  write("special_tokens_map.json", R"({"bos_token": "no", "unk_token": {"content": "<u>"}})");
  EXPECT_EQ(say(), "<b><u>");
}

TEST_F(ChatFolder, ChoosesTheNamedTemplate) {
  write("tokenizer_config.json",
        R"({"chat_template": [{"name": "default", "template": "plain"},
                              {"name": "rag", "template": "{% not parsed"},
                              {"name": "tool_use", "template": "{{ tools | length }} tools"}]})");
  EXPECT_EQ(say(), "plain");
  EXPECT_EQ(say({{"tools", OrderedJson::array({1, 2})}}), "2 tools");
  EXPECT_EQ(say({{"tools", nullptr}}), "plain");
}

TEST_F(ChatFolder, NamesTheFileInErrors) {
  EXPECT_EQ(load_chat_template(folder_).error().code, ErrorCode::kNotFound);
  write("tokenizer_config.json", "{");
  EXPECT_THAT(say(), StartsWith("tokenizer_config.json: "));
  write("tokenizer_config.json", R"({"chat_template": 5})");
  EXPECT_THAT(say(), StartsWith("tokenizer_config.json: chat_template must be"));
  write("tokenizer_config.json", R"({"chat_template": [{"name": "x", "template": ""}]})");
  EXPECT_THAT(say(), HasSubstr("no template named default"));
  write("chat_template.jinja", "\n{{ x | nothing }}");
  EXPECT_THAT(say(),
              StartsWith("chat_template.jinja: chat template, line 2: the filter 'nothing'"));
}

}  // namespace
}  // namespace sluice::tokenizer
