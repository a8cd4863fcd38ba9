#include "cli/flags.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "cli/chat_session.h"
#include "cli/request_fields.h"
#include "cli/terminal.h"

namespace sluice::cli {
namespace {

// A command with one flag of each kind.
struct Command {
  Flags flags{"test", "[flags]", "A command."};
  int32_t number = 7;
  std::string word = "a";
  bool on = false;
  std::vector<std::string> list;
  GenerateRequest request;

  Command() {
    flags.add_int({"--number", "N", "A number", ""}, number, 1, 10);
    flags.add_choice({"--word", "WORD", "A word", ""}, word, {"a", "b"});
    flags.add_switch({"--on", "", "A switch", ""}, on);
    flags.add_repeated({"--item", "TEXT", "Items", ""}, [this](const std::string& text) {
      list.push_back(text);
      return Result<void>();
    });
    add_request_flags(flags, request, {});
  }

  // The exit code, or -1 to run; what was printed on stderr is in `message`.
  int parse(const std::vector<std::string>& arguments) {
    testing::internal::CaptureStderr();
    const auto code = flags.parse(arguments);
    message = testing::internal::GetCapturedStderr();
    return code.value_or(-1);
  }
  std::string message;
};

TEST(FlagsTest, ReadsEveryKind) {
  Command command;
  EXPECT_EQ(command.parse({"--number", "3", "--word=b", "--on", "--item", "x", "--item", "-y"}),
            -1);
  EXPECT_EQ(command.number, 3);
  EXPECT_EQ(command.word, "b");
  EXPECT_TRUE(command.on);
  EXPECT_EQ(command.list, (std::vector<std::string>{"x", "-y"}));
}

TEST(FlagsTest, NegativeNumbersAreValues) {
  Command command;
  EXPECT_EQ(command.parse({"--temperature", "-1", "--top-k", "-1"}), -1);
  EXPECT_EQ(command.request.temperature, -1);
  EXPECT_EQ(command.request.top_k, -1);
}

TEST(FlagsTest, WrongUseIsOneLineAndTwo) {
  const std::vector<std::pair<std::vector<std::string>, std::string>> cases{
      {{"--numbr", "3"}, "did you mean --number?"},
      {{"--frobnicate"}, "unknown flag \"--frobnicate\""},
      {{"stray"}, "unexpected argument \"stray\""},
      {{"--number", "0"}, "--number: 0 is not in the range 1 to 10"},
      {{"--number", "11"}, "--number: 11 is not in the range 1 to 10"},
      {{"--number", "99999999999999999999"}, "--number: \"99999999999999999999\" is out of range"},
      {{"--number", "4294967297"}, "--number: \"4294967297\" is out of range"},
      {{"--number", "x"}, "--number: \"x\" is not a whole number"},
      {{"--number"}, "--number"},
      {{"--number", "1", "--number", "2"}, "--number is given 2 times"},
      {{"--word", "c"}, "--word: \"c\" is not one of a, b"},
      {{"--token-ids", "1,x"}, "--token-ids: \"x\" is not a whole number"},
      {{"--seed", "-1"}, "--seed: \"-1\""},
      {{"--logit-bias", "5"}, "--logit-bias: \"5\" is not ID=BIAS"},
      {{"--skip-special-tokens", "maybe"}, "--skip-special-tokens: \"maybe\" is neither"},
      {{"\x1b[31m"}, "\\x1b"},
  };
  for (const auto& [arguments, message] : cases) {
    Command command;
    EXPECT_EQ(command.parse(arguments), kExitWrongUse) << message;
    EXPECT_NE(command.message.find(message), std::string::npos) << command.message;
    EXPECT_EQ(command.message.find('\n'), command.message.size() - 1) << command.message;
  }
}

TEST(FlagsTest, TheEnvironmentGivesWhatTheCommandLineDoesNot) {
  ::setenv("SLUICE_NUMBER", "5", 1);
  ::setenv("SLUICE_ON", "true", 1);
  Command from_environment;
  EXPECT_EQ(from_environment.parse({}), -1);
  EXPECT_EQ(from_environment.number, 5);
  EXPECT_TRUE(from_environment.on);
  Command from_both;
  EXPECT_EQ(from_both.parse({"--number", "6"}), -1);
  EXPECT_EQ(from_both.number, 6);
  ::setenv("SLUICE_NUMBER", "many", 1);
  Command bad;
  EXPECT_EQ(bad.parse({}), kExitWrongUse);
  EXPECT_NE(bad.message.find("--number"), std::string::npos);
  ::unsetenv("SLUICE_NUMBER");
  ::unsetenv("SLUICE_ON");
}

TEST(FlagsTest, HelpNamesEveryFlagWithDefaultAndVariable) {
  Command command;
  const std::string help = command.flags.help(false);
  for (const char* part : {"--number N", "[7]", "{SLUICE_NUMBER}", "(may be repeated)", "--help"}) {
    EXPECT_NE(help.find(part), std::string::npos) << part;
  }
  for (const RequestField& field : request_fields()) {
    std::string flag = "--" + std::string(field.name);
    std::replace(flag.begin(), flag.end(), '_', '-');
    EXPECT_NE(help.find(flag), std::string::npos) << flag;
    EXPECT_NE(help.find("{" + environment_name(flag) + "}"), std::string::npos) << flag;
  }
  EXPECT_EQ(help.find('\x1b'), std::string::npos);
  size_t begin = 0;
  for (size_t end = help.find('\n'); end != std::string::npos; end = help.find('\n', begin)) {
    EXPECT_LE(end - begin, 100) << help.substr(begin, end - begin);
    begin = end + 1;
  }
}

// Every field of the table reaches the request from both sides, and to the same place.
TEST(RequestFieldsTest, FlagAndJsonKeyMeanTheSame) {
  const std::vector<std::array<std::string, 3>> cases{
      {"--prompt", "hello", R"({"prompt": "hello"})"},
      {"--token-ids", "1,2", R"({"token_ids": [1, 2]})"},
      // The order of keys is kept.
      {"--messages", R"([{"role":"user","content":"a"}])",
       R"({"messages": [{"role":"user","content":"a"}]})"},
      {"--tools", R"([{"z":1,"a":2.0}])", R"({"tools": [{"z":1,"a":2.0}]})"},
      {"--chat-template-kwargs", R"({"z":[],"a":null})",
       R"({"chat_template_kwargs": {"z":[],"a":null}})"},
      {"--add-generation-prompt", "false", R"({"add_generation_prompt": false})"},
      {"--continue-final-message", "", R"({"continue_final_message": true})"},
      {"--parse-special-tokens", "false", R"({"parse_special_tokens": false})"},
      {"--model", "m", R"({"model": "m"})"},
      {"--request-id", "r", R"({"request_id": "r"})"},
      {"--max-tokens", "5", R"({"max_tokens": 5})"},
      {"--min-tokens", "2", R"({"min_tokens": 2})"},
      {"--stop", "x", R"({"stop": ["x"]})"},
      {"--stop-token-ids", "3,4", R"({"stop_token_ids": [3, 4]})"},
      {"--ttft-ms", "250", R"({"ttft_ms": 250})"},
      {"--total-ms", "9000", R"({"total_ms": 9000})"},
      {"--ignore-eos", "", R"({"ignore_eos": true})"},
      {"--temperature", "0.5", R"({"temperature": 0.5})"},
      {"--top-p", "0.9", R"({"top_p": 0.9})"},
      {"--top-k", "40", R"({"top_k": 40})"},
      {"--min-p", "0.1", R"({"min_p": 0.1})"},
      {"--repetition-penalty", "1.1", R"({"repetition_penalty": 1.1})"},
      {"--presence-penalty", "0.3", R"({"presence_penalty": 0.3})"},
      {"--frequency-penalty", "0.4", R"({"frequency_penalty": 0.4})"},
      {"--logit-bias", "5=1.5", R"({"logit_bias": [{"token_id": 5, "bias": 1.5}]})"},
      {"--seed", "18446744073709551615", R"({"seed": 18446744073709551615})"},
      {"--n", "3", R"({"n": 3})"},
      {"--echo", "", R"({"echo": true})"},
      {"--skip-special-tokens", "false", R"({"skip_special_tokens": false})"},
      {"--logprobs", "4", R"({"logprobs": 4})"},
      {"--prompt-logprobs", "6", R"({"prompt_logprobs": 6})"},
  };
  EXPECT_EQ(cases.size(), request_fields().size());
  const auto is_same = [](const GenerateRequest& a, const GenerateRequest& b,
                          const RequestField& field) {
    return std::visit(
        [&](auto member) {
          if constexpr (std::is_same_v<decltype(member),
                                       std::vector<LogitBias> GenerateRequest::*>) {
            return (a.*member).size() == (b.*member).size() &&
                   ((a.*member).empty() || ((a.*member)[0].token_id == (b.*member)[0].token_id &&
                                            (a.*member)[0].bias == (b.*member)[0].bias));
          } else if constexpr (requires(ChatPrompt chat) { chat.*member; }) {
            const ChatPrompt none;
            return (a.chat ? *a.chat : none).*member == (b.chat ? *b.chat : none).*member;
          } else {
            return a.*member == b.*member;
          }
        },
        field.member);
  };
  const GenerateRequest defaults;
  for (size_t i = 0; i < cases.size(); ++i) {
    const auto& [flag, value, line] = cases[i];
    Command command;
    std::vector<std::string> arguments{flag};
    if (!value.empty()) arguments.push_back(value);
    ASSERT_EQ(command.parse(arguments), -1) << command.message;
    const auto from_json = request_from_json(line, {});
    ASSERT_TRUE(from_json) << line << from_json.error().message;
    for (size_t j = 0; j < cases.size(); ++j) {
      const RequestField& field = request_fields()[j];
      EXPECT_TRUE(is_same(command.request, *from_json, field)) << line << " " << field.name;
      const bool is_own = "--" + std::string(field.name) == [&] {
        std::string name = flag;
        std::replace(name.begin() + 2, name.end(), '-', '_');
        return name;
      }();
      EXPECT_EQ(is_same(*from_json, defaults, field), !is_own) << line << " " << field.name;
    }
  }
}

TEST(RequestFieldsTest, RefusesBadLines) {
  const std::vector<std::pair<std::string, std::string>> cases{
      {"", "not valid JSON"},
      {"{", "not valid JSON"},
      {"[]", "not a JSON object"},
      {"1", "not a JSON object"},
      {R"({"prompt": "a"} x)", "not valid JSON"},
      {R"({"prompt": "a", "prompt": "b"})", "twice"},
      {R"({"prompt": "a", "temperatur": 1})", "did you mean temperature?"},
      {R"({"prompt": "a", "grammar": "x"})", "unknown field \"grammar\""},
      {R"({"prompt": "a", "best_of": 2})", "unknown field \"best_of\""},
      {R"({"prompt": 1})", "prompt must be a string"},
      {R"({"add_generation_prompt": 1})", "add_generation_prompt must be true or false"},
      {R"({"continue_final_message": "yes"})", "continue_final_message must be true or false"},
      {R"({"messages": [{"role": "a", "role": "b"}]})", "twice"},
      {R"({"messages": )" + std::string(64, '[') + std::string(64, ']') + "}", "nested"},
      {R"({"messages": [{"role": "user", "content": "\ud800"}]})", "not valid JSON"},
      {R"({"message": []})", "did you mean messages?"},
      {R"({"prompt": ["a"]})", "prompt must be a string"},
      {R"({"token_ids": "1,2"})", "token_ids must be a list of whole numbers"},
      {R"({"token_ids": [1, 2.5]})", "item 1 is not"},
      {R"({"token_ids": [99999999999999999999]})", "item 0 is not"},
      {R"({"max_tokens": 1.5})", "max_tokens must be a whole number"},
      {R"({"max_tokens": "5"})", "max_tokens must be a whole number"},
      {R"({"max_tokens": true})", "max_tokens must be a whole number"},
      {R"({"max_tokens": 18446744073709551615})", "at most 9223372036854775807"},
      {R"({"seed": -1})", "seed must be a whole number from 0"},
      {R"({"temperature": "0"})", "temperature must be a number"},
      {R"({"temperature": 1e999})", "not valid JSON"},
      {R"({"temperature": NaN})", "not valid JSON"},
      {R"({"temperature": Infinity})", "not valid JSON"},
      {R"({"ignore_eos": 1})", "ignore_eos must be true or false"},
      {R"({"stop": "x"})", "stop must be a list of strings"},
      {R"({"stop": ["x", 1]})", "item 1 is not"},
      {R"({"logit_bias": {"5": 1}})", "logit_bias must be a list"},
      {R"({"logit_bias": [{"token_id": 5}]})", "item 0 is not"},
      {R"({"logit_bias": [{"token_id": 5, "bias": 1, "x": 2}]})", "item 0 is not"},
      {"{\"prompt\": \"\xff\"}", "not valid JSON"},
      {"{\"prompt\": \"\xc0\x80\"}", "not valid JSON"},
      {R"({"prompt": "\ud800"})", "not valid JSON"},
      {R"({"prompt": )" + std::string(70, '[') + std::string(70, ']') + "}", "nested"},
      {std::string(100000, '['), "nested"},
      {"{\"prompt\": \"a\x01\"}", "not valid JSON"},
      {R"({'prompt': 'a'})", "not valid JSON"},
      {R"({"prompt": "a",})", "not valid JSON"},
  };
  for (const auto& [line, message] : cases) {
    const auto request = request_from_json(line, {});
    ASSERT_FALSE(request) << line;
    EXPECT_EQ(request.error().code, ErrorCode::kInvalidArgument) << line;
    EXPECT_NE(request.error().message.find(message), std::string::npos)
        << line.substr(0, 80) << ": " << request.error().message;
  }
}

TEST(RequestFieldsTest, ALineStandsOverTheFlags) {
  GenerateRequest defaults;
  defaults.max_tokens = 10;
  defaults.temperature = 0;
  defaults.stop = {"x"};
  const auto request =
      request_from_json(R"({"prompt": "a", "max_tokens": 3, "stop": [], "top_p": null})", defaults);
  ASSERT_TRUE(request);
  EXPECT_EQ(request->max_tokens, 3);
  EXPECT_EQ(request->temperature, 0);
  EXPECT_TRUE(request->stop.empty());
  EXPECT_FALSE(request->top_p);
}

TEST(ChatLineTest, TellsCommandsFromMessages) {
  using Kind = ChatLine::Kind;
  const std::vector<std::tuple<std::string, Kind, std::string>> cases{
      {"", Kind::kNothing, ""},
      {" \t\r", Kind::kNothing, ""},
      {" Hi there \r", Kind::kMessage, "Hi there"},
      {"//x /reset", Kind::kMessage, "/x /reset"},
      {"/help", Kind::kHelp, ""},
      {" /reset ", Kind::kReset, ""},
      {"/system  Be brief. ", Kind::kSystem, "Be brief."},
      {"/system", Kind::kSystem, ""},
      {"/quit", Kind::kQuit, ""},
      {"/exit", Kind::kQuit, ""},
      {"/reset now", Kind::kUnknown, "/reset"},
      {"/", Kind::kUnknown, "/"},
  };
  for (const auto& [line, kind, text] : cases) {
    const ChatLine read = read_chat_line(line);
    EXPECT_EQ(read.kind, kind) << line;
    EXPECT_EQ(read.text, text) << line;
  }
}

TEST(ChatSessionTest, KeepsTheConversation) {
  ChatSession session("Be \"brief\".");
  session.add("user", "a\n\xff");
  session.add("assistant", "b");
  const std::string system = R"({"role":"system","content":"Be \"brief\"."})";
  EXPECT_EQ(session.messages(), "[" + system + ",{\"role\":\"user\",\"content\":\"a\\n\uFFFD\"}," +
                                    R"({"role":"assistant","content":"b"}])");
  session.drop_last();
  session.drop_last();
  EXPECT_TRUE(session.is_empty());
  EXPECT_EQ(session.messages(), "[" + system + "]");
  session.add("user", "c");
  session.reset();
  EXPECT_EQ(session.messages(), "[" + system + "]");
  session.set_system("");
  EXPECT_EQ(session.messages(), "[]");
}

}  // namespace
}  // namespace sluice::cli
