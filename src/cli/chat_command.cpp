#include <spdlog/fmt/fmt.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <iostream>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "cli/address.h"
#include "cli/chat_backend.h"
#include "cli/chat_session.h"
#include "cli/commands.h"
#include "cli/connection_flags.h"
#include "cli/flags.h"
#include "cli/format.h"
#include "cli/model_path.h"
#include "cli/parse.h"
#include "cli/request_fields.h"
#include "cli/request_source.h"
#include "cli/runtime_flags.h"
#include "cli/signals.h"
#include "cli/terminal.h"

namespace sluice::cli {
namespace {

constexpr const char* kCommand = "chat";

struct Options {
  RuntimeOptions runtime;
  GenerateRequest request;
  std::string model;
  std::string target;
  ConnectionOptions connection;
  std::string system;
  bool quiet = false;
};

void add_flags(Flags& flags, Options& options) {
  flags.group("Who answers (one)");
  flags.add_text({"--model", "PATH",
                  "A package or a Hugging Face folder, loaded here; with "
                  "--target the name of one of the server's models",
                  ""},
                 options.model);
  flags.add_text({"--target", "HOST:PORT", "A server", ""}, options.target);
  add_connection_flags(flags, options.connection);
  flags.group("Conversation");
  flags.add_text({"--system", "TEXT", "Instructions that stand before everything else", ""},
                 options.system);
  flags.add_switch({"--quiet", "", "Nothing but answers and errors", ""}, options.quiet);
  // What makes one prompt of another kind, or more than one answer.
  constexpr std::array<std::string_view, 11> kWithout{"prompt",
                                                      "token_ids",
                                                      "messages",
                                                      "model",
                                                      "request_id",
                                                      "tools",
                                                      "n",
                                                      "echo",
                                                      "logprobs",
                                                      "prompt_logprobs",
                                                      "continue_final_message"};
  add_request_flags(flags, options.request, kWithout);
  add_runtime_flags(flags, options.runtime);
  flags.example("sluice chat --model models/llama-tiny --temperature 0.7", "with a model here");
  flags.example("sluice chat --target 127.0.0.1:50051 --system \"Answer in one sentence.\"",
                "with a server");
  flags.example("printf 'Hi\\nAnd then?\\n' | sluice chat --model models/llama-tiny --quiet",
                "one message a line, one answer after another");
}

std::string find_conflict(const Options& options) {
  if (options.model.empty() && options.target.empty()) {
    return "needs --model PATH or --target HOST:PORT; see sluice chat --help";
  }
  if (options.target.empty()) return "";
  const Result<HostPort> target = parse_host_port(options.target);
  return target ? "" : "--target: " + target.error().message;
}

// What Ctrl-C does: it stops the answer under way; the second time, and while a model loads, it
// ends the process. Between answers the terminal has thrown the typed line away, so that a new one
// begins.
class Interrupt {
 public:
  explicit Interrupt(bool shows_prompt)
      : shows_prompt_(shows_prompt), watcher_([this](int) { on_signal(); }, {SIGINT}) {}

  void set_backend(ChatBackend& backend) { backend_ = &backend; }
  // The backend is about to go.
  void clear_backend() { backend_ = nullptr; }
  void begin_answer() { state_ = State::kAnswering; }
  void end_answer() { state_ = State::kListening; }
  bool is_stopped() const { return state_ == State::kStopped; }

 private:
  enum class State : uint8_t { kLoading, kListening, kAnswering, kStopped };

  void on_signal() {
    State answering = State::kAnswering;
    if (state_.compare_exchange_strong(answering, State::kStopped)) {
      if (ChatBackend* backend = backend_) backend->interrupt();
      return;
    }
    if (answering != State::kListening || !shows_prompt_) std::_Exit(kExitFailed);
    write_stdout("\n(Ctrl-D ends) > ");
  }

  const bool shows_prompt_;
  std::atomic<State> state_{State::kLoading};
  std::atomic<ChatBackend*> backend_{nullptr};
  SignalWatcher watcher_;
};

class Chat {
 public:
  Chat(ChatBackend& backend, Interrupt& interrupt, const Options& options, bool shows_prompt)
      : backend_(backend),
        interrupt_(interrupt),
        request_(options.request),
        session_(options.system),
        quiet_(options.quiet),
        shows_prompt_(shows_prompt) {}

  // Lines of stdin until it ends. The exit code is that of the last thing that went wrong.
  int run() {
    std::string line;
    while (!has_ended_) {
      if (shows_prompt_ && !write_stdout("> ")) return kExitFailed;
      const Result<bool> more = read_line(std::cin, line);
      if (!more) {
        print_error(kCommand, more.error().message);
        return kExitWrongUse;
      }
      if (!*more) break;
      handle(read_chat_line(line));
    }
    if (shows_prompt_ && !has_ended_) write_stdout("\n");
    return exit_code_;
  }

 private:
  void handle(const ChatLine& line) {
    switch (line.kind) {
      case ChatLine::Kind::kNothing:
        return;
      case ChatLine::Kind::kMessage:
        return answer(line.text);
      case ChatLine::Kind::kHelp:
        return note(chat_help());
      case ChatLine::Kind::kReset:
        session_.reset();
        return note("a new conversation\n");
      case ChatLine::Kind::kSystem:
        session_.set_system(line.text);
        return note(line.text.empty() ? "no instructions, and a new conversation\n"
                                      : "new instructions, and a new conversation\n");
      case ChatLine::Kind::kQuit:
        has_ended_ = true;
        return;
      case ChatLine::Kind::kUnknown:
        print_error(kCommand, "unknown command " + quote(line.text) + "; /help lists them");
        exit_code_ = kExitWrongUse;
        return;
    }
  }

  void answer(const std::string& message) {
    session_.add("user", message);
    request_.chat->messages = session_.messages();
    std::string text;
    FinishReason reason = FinishReason::kStop;
    interrupt_.begin_answer();
    const auto end = backend_.generate(request_, [&](const GenerateChunk& chunk) {
      text += chunk.text;
      if (chunk.finish_reason) reason = *chunk.finish_reason;
      if (!chunk.text.empty() && !write_stdout(chunk.text)) has_ended_ = true;
      return !has_ended_ && !interrupt_.is_stopped();
    });
    const bool is_stopped = interrupt_.is_stopped();
    interrupt_.end_answer();
    if (!text.ends_with('\n') && (end || !text.empty())) write_stdout("\n");
    if (end || !text.empty()) {
      session_.add("assistant", std::move(text));
    } else {
      session_.drop_last();  // as if it had not been said
    }
    if (is_stopped) return note("(stopped)\n");
    if (has_ended_) {  // nobody reads stdout any more
      exit_code_ = kExitFailed;
    } else if (!end) {
      report(end.error());
    } else if (reason == FinishReason::kLength && !request_.max_tokens) {
      note("(the context is full: /reset begins anew)\n");
    }
  }

  void report(const Error& error) {
    const bool is_full = error.message.find("--max-model-len") != std::string::npos;
    print_error(kCommand, error.message + (is_full ? "; /reset begins anew" : ""));
    exit_code_ = exit_code(error);
    // A server that is gone answers nothing else either.
    if (error.code == ErrorCode::kUnavailable && !shows_prompt_) has_ended_ = true;
  }

  // For a person, not part of an answer.
  void note(std::string_view text) const {
    if (!quiet_) std::fwrite(text.data(), 1, text.size(), stderr);
  }

  ChatBackend& backend_;
  Interrupt& interrupt_;
  GenerateRequest request_;
  ChatSession session_;
  const bool quiet_;
  const bool shows_prompt_;
  bool has_ended_ = false;
  int exit_code_ = kExitDone;
};

Result<std::unique_ptr<ChatBackend>> make_backend(Options& options) {
  if (!options.target.empty()) {
    auto client = make_client(options.target, options.connection);
    if (!client) return std::unexpected(client.error());
    return make_remote_backend(*std::move(client), options.model);
  }
  auto model = find_model(options.model);
  if (!model) return std::unexpected(model.error());
  options.runtime.models = {*std::move(model)};
  options.runtime.limits.max_request_age = std::chrono::hours(24 * 365);
  auto service = load_service(options.runtime, options.quiet);
  if (!service) return std::unexpected(service.error());
  return make_local_backend(*std::move(service));
}

}  // namespace

int run_chat(Arguments arguments) {
  Options options;
  Flags flags(
      kCommand, "(--model PATH | --target HOST:PORT) [flags]",
      "Talks with a model through its own chat template, turn by turn, from the terminal or "
      "from lines of stdin. Ctrl-C stops an answer, Ctrl-D ends.");
  add_flags(flags, options);
  if (const auto code = flags.parse(arguments)) return *code;
  if (const std::string conflict = find_conflict(options); !conflict.empty()) {
    return flags.wrong_use(conflict);
  }
  const bool shows_prompt = ::isatty(STDIN_FILENO) == 1 && terminal().stdout_is_terminal;
  Interrupt interrupt(shows_prompt);
  const auto backend = make_backend(options);
  if (!backend) {
    print_error(kCommand, backend.error().message);
    return load_exit_code(backend.error());
  }
  const Result<ModelInfo> model = (*backend)->model();
  if (!model) {
    print_error(kCommand, model.error().message);
    return exit_code(model.error());
  }
  if (!model->has_chat_template) {
    print_error(kCommand, "model " + quote(model->name) +
                              " has no chat template that can be used: sluice generate and sluice "
                              "client continue a plain text");
    return kExitWrongUse;
  }
  if (!options.request.chat) options.request.chat.emplace();
  if (!options.target.empty()) options.request.model = options.model;
  if (shows_prompt && !options.quiet) {
    print_notice(fmt::format("{}, a context of {} tokens; /help lists the commands", model->name,
                             format_count(model->context_length)),
                 false);
  }
  interrupt.set_backend(**backend);
  interrupt.end_answer();
  const int code = Chat(**backend, interrupt, options, shows_prompt).run();
  interrupt.clear_backend();
  return code;
}

}  // namespace sluice::cli
