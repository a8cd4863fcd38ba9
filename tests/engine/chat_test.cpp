// Chats: through the renderer against Transformers' text and ids, and through the whole service on
// the scripted model.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <map>

#include "base/json.h"
#include "base/utf8.h"
#include "engine/model_chat.h"
#include "tests/engine/fakes.h"

namespace sluice::engine {
namespace {

using ::testing::HasSubstr;
using tokenizer::ChatTemplate;
using tokenizer::OrderedJson;

const std::filesystem::path kGolden = std::filesystem::path(SLUICE_SOURCE_DIR) / "tests/golden";

std::string read_text(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file.is_open()) << path;
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

std::unique_ptr<ChatRenderer> make_renderer(const std::string& source, const OrderedJson& special,
                                            const tokenizer::Tokenizer& tokenizer,
                                            const tokenizer::ChatLimits& limits = {}) {
  auto compiled = ChatTemplate::compile(source, limits);
  EXPECT_TRUE(compiled.has_value()) << compiled.error().message;
  return make_chat_renderer(
      {std::move(*compiled), std::nullopt, std::make_unique<const OrderedJson>(special)},
      tokenizer);
}

// Letters of the messages, each ended by the end token; "!" raises.
constexpr const char* kLetters =
    "{% for m in messages %}{% if m.role == '!' %}{{ raise_exception('no ' + m.role) }}{% endif %}"
    "{{ m.content }}{{ eos_token }}{% endfor %}{% if add_generation_prompt %}z{% endif %}"
    "{% if extra is defined %}{{ extra }}{% endif %}{% if tools %}{{ tools | length }}t{% endif %}";

class ChatRendererTest : public testing::Test {
 protected:
  Result<RenderedChat> render(const ChatPrompt& chat) { return renderer_->render(chat, limits_); }
  std::string text(const ChatPrompt& chat) {
    const auto rendered = render(chat);
    EXPECT_TRUE(rendered.has_value()) << rendered.error().message;
    return rendered ? rendered->text : "";
  }
  void expect_refused(const ChatPrompt& chat, const std::string& words,
                      ErrorCode code = ErrorCode::kInvalidArgument) {
    const auto rendered = render(chat);
    ASSERT_FALSE(rendered.has_value()) << words << ": " << rendered->text;
    EXPECT_STREQ(to_string(rendered.error().code), to_string(code));
    EXPECT_THAT(rendered.error().message, HasSubstr(words));
    EXPECT_LE(rendered.error().message.size(), 400u);
  }
  static ChatPrompt messages(const std::string& json) {
    ChatPrompt chat;
    chat.messages = json;
    return chat;
  }

  LetterTokenizer tokenizer_;
  ServiceLimits limits_;
  std::unique_ptr<ChatRenderer> renderer_ =
      make_renderer(kLetters, {{"eos_token", "</s>"}}, tokenizer_);
};

TEST(ChatGolden, TextAndIdsEqualTransformers) {
  const auto golden = tokenizer::parse_ordered_json(read_text(kGolden / "chat/ids.json"));
  const auto conversations =
      tokenizer::parse_ordered_json(read_text(kGolden / "chat/conversations.json"));
  ASSERT_TRUE(golden.has_value() && conversations.has_value());
  std::map<std::string, OrderedJson> by_name{{"injected", (*golden)["injected"]}};
  for (const OrderedJson& each : *conversations) by_name[each["name"]] = each;
  std::map<std::string, std::unique_ptr<tokenizer::Tokenizer>> tokenizers;
  int num_equal = 0;
  for (const OrderedJson& row : (*golden)["rows"]) {
    const auto name = row["tokenizer"].get<std::string>();
    auto& tokenizer = tokenizers[name];
    if (tokenizer == nullptr) {
      auto loaded = tokenizer::load_tokenizer(kGolden / "tokenizers" / name);
      ASSERT_TRUE(loaded.has_value()) << loaded.error().message;
      tokenizer = std::move(*loaded);
    }
    const std::string style = row["template"];
    const auto renderer = make_renderer(read_text(kGolden / "chat/templates" / (style + ".jinja")),
                                        row["special"], *tokenizer);
    const OrderedJson& conversation = by_name.at(row["conversation"]);
    ChatPrompt chat;
    chat.messages = conversation["messages"].dump();
    OrderedJson kwargs = conversation.value("variables", OrderedJson::object());
    if (kwargs.contains("tools")) {
      chat.tools = kwargs["tools"].dump();
      kwargs.erase("tools");
    }
    chat.template_kwargs = kwargs.dump();
    chat.continue_final_message = row["continues"];
    if (!chat.continue_final_message && conversation.contains("add_generation_prompt")) {
      chat.add_generation_prompt = conversation["add_generation_prompt"].get<bool>();
    }
    const auto rendered = renderer->render(chat, {});
    const std::string what = style + " over " + row["conversation"].get<std::string>() +
                             (chat.continue_final_message ? ", continued" : "");
    // Refused before the template sees them: an image, and a message without content.
    const bool is_refused =
        row["conversation"] == "parts" || row["conversation"] == "missing_content";
    if (is_refused || row["expected"].is_null()) {
      EXPECT_FALSE(rendered.has_value()) << what;
      continue;
    }
    ASSERT_TRUE(rendered.has_value()) << what << ": " << rendered.error().message;
    EXPECT_EQ(rendered->text, row["expected"]["text"].get<std::string>()) << what;
    EXPECT_EQ(rendered->token_ids, row["expected"]["ids"].get<std::vector<int32_t>>()) << what;
    ++num_equal;
  }
  EXPECT_GE(num_equal, 120);
}

TEST_F(ChatRendererTest, ReadsEveryPart) {
  ChatPrompt chat = messages(R"([{"role": "user", "content": "ab"}])");
  EXPECT_EQ(text(chat), "ab</s>z");
  EXPECT_EQ(render(chat)->token_ids, (std::vector<int32_t>{0, 1, LetterTokenizer::kEnd, 25}));
  chat.template_kwargs = R"({"extra": "x"})";
  chat.tools = R"([{"name": "f"}])";
  chat.add_generation_prompt = false;
  EXPECT_EQ(text(chat), "ab</s>x1t");
  chat.tools = "[]";  // the same as none
  EXPECT_EQ(text(chat), "ab</s>x");
  EXPECT_EQ(renderer_->turn_end_token_id(), LetterTokenizer::kEnd);
}

TEST_F(ChatRendererTest, ContinuesTheLastMessage) {
  ChatPrompt chat = messages(R"([{"role": "a", "content": "b"}, {"role": "a", "content": "cd"}])");
  chat.continue_final_message = true;
  EXPECT_EQ(text(chat), "b</s>cd");
  chat.add_generation_prompt = true;
  expect_refused(chat, "add_generation_prompt");
  chat = messages(R"([{"role": "assistant", "tool_calls": []}])");
  chat.continue_final_message = true;
  expect_refused(chat, "needs a last message with a text");
}

// What a client writes into a message may end it: as in Transformers, unless it is kept plain.
TEST_F(ChatRendererTest, SpecialTokensInMessagesAreParsedOrKeptPlain) {
  ChatPrompt chat = messages(R"([{"role": "u", "content": "a</s>b"}])");
  constexpr int32_t kEnd = LetterTokenizer::kEnd;
  EXPECT_EQ(render(chat)->token_ids, (std::vector<int32_t>{0, kEnd, 1, kEnd, 25}));
  chat.parse_special_tokens = false;
  const auto rendered = render(chat);
  EXPECT_EQ(rendered->text, "a</s>b</s>z");
  // The fake's plain text of "</s>" is its letter.
  EXPECT_EQ(rendered->token_ids, (std::vector<int32_t>{0, 18, 1, kEnd, 25}));
  // So do those in what a template prints as Python would: lists and objects.
  chat.messages = R"([{"role": "u", "content": [{"type": "text", "text": "a</s>b"}]}])";
  chat.template_kwargs = R"({"extra": ["</s>", {"</s>": 1}]})";
  EXPECT_EQ(render(chat)->text, "[{'type': 'text', 'text': 'a</s>b'}]</s>z['</s>', {'</s>': 1}]");
  EXPECT_EQ(std::ranges::count(render(chat)->token_ids, kEnd), 1);
  const auto ascii =
      make_renderer("{{ extra | tojson(ensure_ascii=true) }}", OrderedJson::object(), tokenizer_);
  EXPECT_EQ(std::ranges::count(ascii->render(chat, limits_)->token_ids, kEnd), 0);
  chat.template_kwargs.clear();
  // The marks leave no trace where the text has their characters already.
  chat.messages =
      R"([{"role": "u", "content": "\uFDD0a</s>)" + std::string("\xEF\xB7\x91") + R"("}])";
  EXPECT_EQ(render(chat)->token_ids, (std::vector<int32_t>{0, 18, kEnd, 25}));
  EXPECT_THAT(render(chat)->text, HasSubstr("a</s>\xEF\xB7\x91</s>"));
  std::string all = R"([{"role": "u", "content": ")";
  for (char32_t character = 0xFDD0; character <= 0xFDEF; ++character) append_utf8(character, &all);
  chat.messages = all + "\"}]";
  expect_refused(chat, "U+FDD0");
}

TEST_F(ChatRendererTest, RefusesWhatIsNoChat) {
  const std::string deep = std::string(200, '[') + std::string(200, ']');
  std::string many_keys = R"([{"role": "u", "content": "a")";
  for (int i = 0; i < 1100; ++i) many_keys += ", \"k" + std::to_string(i) + "\": 1";
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"", "chat.messages is empty"},
      {"[]", "chat.messages is empty"},
      {"{}", "chat.messages must be an array"},
      {"\"hi\"", "chat.messages must be an array"},
      {"[1]", "chat.messages[0] must be an object"},
      {"[", "chat.messages: not valid JSON"},
      {R"([{"role": "u", "content": "a"}] x)", "chat.messages: not valid JSON"},
      {R"([{"content": "a"}])", "chat.messages[0].role must be a string"},
      {R"([{"role": 1, "content": "a"}])", "chat.messages[0].role must be a string"},
      {R"([{"role": "", "content": "a"}])", "chat.messages[0].role is 0"},
      {R"([{"role": ")" + std::string(65, 'r') + R"(", "content": "a"}])", ".role is 65"},
      {R"([{"role": "u"}])", "chat.messages[0] has no content"},
      {R"([{"role": "u", "content": 5}])", "chat.messages[0].content must be a string"},
      {R"([{"role": "u", "content": {}}])", "chat.messages[0].content must be a string"},
      {R"([{"role": "u", "content": ["a"]}])", "content[0] must be an object"},
      {R"([{"role": "u", "content": [{"type": "image"}]}])", "content[0].type must be text"},
      {R"([{"role": "u", "content": [{"type": "text"}]}])", "content[0].text must be"},
      {R"([{"role": "u", "content": "a", "tool_calls": {}}])", "tool_calls must be an array"},
      {R"([{"role": "u", "content": "a", "content": "b"}])", "same key twice"},
      {R"([{"role": "u", "content": "\ud800"}])", "not valid JSON"},
      {R"([{"role": "u", "content": 1e999}])", "not valid JSON"},
      {"[{\"role\": \"u\", \"content\": \"\xff\"}]", "not valid JSON"},
      {R"([{"role": "u", "content": )" + deep + "}]", "nested"},
      {std::string(100000, '['), "nested"},
      {many_keys + "}]", "keys, limit is 1024"},
      {R"([{"role": "!", "content": "a"}])", "line 1: raises: no !"},
  };
  for (const auto& [json, words] : cases) expect_refused(messages(json), words);
}

TEST_F(ChatRendererTest, RefusesToolsAndVariablesThatAreNone) {
  ChatPrompt chat = messages(R"([{"role": "user", "content": "ab"}])");
  for (const auto& [tools, words] :
       std::map<std::string, std::string>{{"{}", "chat.tools must be an array"},
                                          {"[1]", "chat.tools[0] must be an object"},
                                          {"x", "chat.tools: not valid JSON"}}) {
    ChatPrompt wrong = chat;
    wrong.tools = tools;
    expect_refused(wrong, words);
  }
  for (const auto& [kwargs, words] : std::map<std::string, std::string>{
           {"[]", "chat.template_kwargs must be an object"},
           {"{", "chat.template_kwargs: not valid JSON"},
           {R"({"messages": []})", "chat.template_kwargs.messages"},
           {R"({"tools": []})", "chat.template_kwargs.tools"},
           {R"({"add_generation_prompt": true})", "template_kwargs.add_generation_prompt"}}) {
    ChatPrompt wrong = chat;
    wrong.template_kwargs = kwargs;
    expect_refused(wrong, words);
  }
}

TEST_F(ChatRendererTest, KeepsItsLimits) {
  limits_.max_chat_messages = 2;
  const std::string one = R"({"role": "u", "content": "a"})";
  EXPECT_EQ(text(messages("[" + one + "," + one + "]")), "a</s>a</s>z");
  expect_refused(messages("[" + one + "," + one + "," + one + "]"), "limit is 2");
  limits_.max_prompt_bytes = 64;
  expect_refused(messages(R"([{"role": "u", "content": ")" + std::string(64, 'a') + "\"}]"),
                 "limit is 64");
  // Small as JSON, large as a prompt.
  renderer_ = make_renderer("{{ 'a' * 65 }}", OrderedJson::object(), tokenizer_);
  expect_refused(messages("[" + one + "]"), "the rendered chat has 65 bytes, limit is 64");
  // A template that spends too much is this chat's fault each time.
  renderer_ =
      make_renderer("{% for a in range(99) %}{% for b in range(99) %}{% endfor %}{% endfor %}",
                    OrderedJson::object(), tokenizer_, {.max_steps = 1000});
  expect_refused(messages("[" + one + "]"), "chat template, line 1");
  EXPECT_EQ(renderer_->turn_end_token_id(), std::nullopt);
}

TEST_F(ChatRendererTest, MessagesOfTemplatesAreCutAndWithoutControlCharacters) {
  renderer_ = make_renderer("{{ raise_exception(messages[0].content) }}", OrderedJson::object(),
                            tokenizer_);
  const auto refused = render(
      messages(R"([{"role": "u", "content": "\u001b[31mé\r\n)" + std::string(1000, 'x') + "\"}]"));
  ASSERT_FALSE(refused.has_value());
  EXPECT_THAT(refused.error().message, HasSubstr("raises: ?[31mé??xxx"));
  EXPECT_LE(refused.error().message.size(), 310u);
}

class ChatServiceTest : public testing::Test {
 protected:
  static GenerateRequest chat_request(const std::string& letters) {
    GenerateRequest request;
    request.chat.emplace();
    request.chat->messages = R"([{"role": "user", "content": ")" + letters + "\"}]";
    request.max_tokens = 3;
    return request;
  }
  static FakeServiceOptions with_chat(const std::string& source = kLetters) {
    FakeServiceOptions options;
    options.make_chat = [source](const tokenizer::Tokenizer& tokenizer) {
      return make_renderer(source, {{"eos_token", "</s>"}}, tokenizer);
    };
    return options;
  }
};

TEST_F(ChatServiceTest, GeneratesWhatTheRenderedIdsGive) {
  FakeService fake(with_chat());
  const auto recorder = fake.start(chat_request("ab"));
  fake.run_until_idle();
  ASSERT_TRUE(recorder->end().has_value());
  EXPECT_EQ(recorder->tokens(), expected_tokens({0, 1, LetterTokenizer::kEnd, 25}, 3));
  EXPECT_EQ(recorder->end()->usage.prompt_tokens, 4);
  const auto rendered = fake.service->render_chat("", *chat_request("ab").chat);
  ASSERT_TRUE(rendered.has_value());
  EXPECT_EQ(rendered->text, "ab</s>z");
  EXPECT_EQ(rendered->token_ids, (std::vector<int32_t>{0, 1, LetterTokenizer::kEnd, 25}));
}

TEST_F(ChatServiceTest, EchoesThePrompt) {
  FakeService fake(with_chat());
  GenerateRequest request = chat_request("ab");
  request.echo = true;
  const auto recorder = fake.start(request);
  request.skip_special_tokens = false;
  const auto whole = fake.start(request);
  fake.run_until_idle();
  EXPECT_EQ(recorder->chunks().front().text, "abz");
  EXPECT_EQ(whole->chunks().front().text, "ab</s>z");
}

// The configuration names no end token, and yet the turn ends; a plain prompt goes on.
TEST_F(ChatServiceTest, TheTokenizersEndTokenEndsATurn) {
  FakeServiceOptions options = with_chat();
  options.end_token_ids = {};
  FakeService fake(options);
  fake.script->token = [](int32_t, uint32_t) { return LetterTokenizer::kEnd; };
  const auto chat = fake.start(chat_request("ab"));
  const auto plain = fake.start(request_of({0, 1}, 3));
  fake.run_until_idle();
  EXPECT_EQ(chat->tokens().size(), 1u);
  EXPECT_EQ(chat->last_chunk()->finish_reason, FinishReason::kStop);
  EXPECT_EQ(plain->tokens().size(), 3u);
}

TEST_F(ChatServiceTest, RefusesMoreThanOnePrompt) {
  FakeService fake(with_chat());
  for (int which = 0; which < 2; ++which) {
    GenerateRequest request = chat_request("ab");
    if (which == 0) request.prompt = "ab";
    if (which == 1) request.token_ids = std::vector<int64_t>{1};
    const auto refused = fake.service->generate(request, std::make_shared<Recorder>());
    ASSERT_FALSE(refused.has_value());
    EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
    EXPECT_THAT(refused.error().message, HasSubstr("must be one of them"));
  }
}

TEST_F(ChatServiceTest, NeedsATemplateAndATokenizer) {
  FakeServiceOptions without_tokenizer;
  without_tokenizer.has_tokenizer = false;
  for (const FakeServiceOptions& options : {FakeServiceOptions{}, without_tokenizer}) {
    FakeService fake(options);
    const auto refused = fake.service->generate(chat_request("ab"), std::make_shared<Recorder>());
    ASSERT_FALSE(refused.has_value());
    EXPECT_EQ(refused.error().code, ErrorCode::kFailedPrecondition);
    EXPECT_THAT(refused.error().message, HasSubstr("has no chat template"));
    EXPECT_EQ(fake.service->render_chat("", *chat_request("ab").chat).error().code,
              ErrorCode::kFailedPrecondition);
    EXPECT_EQ(fake.service->render_chat("other", {}).error().code, ErrorCode::kNotFound);
  }
}

TEST_F(ChatServiceTest, AChatThatIsTooLongOrEmptyNamesTheLimit) {
  FakeService fake(with_chat());
  const auto refused =
      fake.service->generate(chat_request(std::string(80, 'a')), std::make_shared<Recorder>());
  ASSERT_FALSE(refused.has_value());
  EXPECT_THAT(refused.error().message, HasSubstr("prompt has 82 tokens, limit is 64"));
  FakeService silent(with_chat("{# nothing #}"));
  const auto empty = silent.service->generate(chat_request("a"), std::make_shared<Recorder>());
  ASSERT_FALSE(empty.has_value());
  EXPECT_THAT(empty.error().message, HasSubstr("the rendered chat has no tokens"));
}

}  // namespace
}  // namespace sluice::engine
