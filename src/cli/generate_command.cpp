#include <fcntl.h>
#include <spdlog/fmt/fmt.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>
#include <string_view>
#include <system_error>
#include <utility>

#include "cli/batch.h"
#include "cli/commands.h"
#include "cli/event_queue.h"
#include "cli/flags.h"
#include "cli/model_path.h"
#include "cli/parse.h"
#include "cli/printer.h"
#include "cli/request_fields.h"
#include "cli/request_source.h"
#include "cli/runtime_flags.h"
#include "cli/signals.h"
#include "cli/terminal.h"

namespace sluice::cli {
namespace {

constexpr const char* kCommand = "generate";

struct Options {
  RuntimeOptions runtime;
  GenerateRequest request;
  OutputOptions output;
  std::string model;
  std::string input;
  std::string output_file;
  std::chrono::nanoseconds timeout{0};
};

void add_flags(Flags& flags, Options& options) {
  flags.group("Model and deadline");
  flags.add_text(
      {"--model", "PATH", "A package, a Hugging Face folder or its downloaded ORG/NAME", ""},
      options.model);
  flags.add_duration({"--timeout", "TIME", "End a completion after this", "none"}, options.timeout);
  // The one model that is loaded is the one that answers, so requests need not name it.
  constexpr std::array<std::string_view, 2> kWithout{"model", "request_id"};
  add_request_flags(flags, options.request, kWithout);
  add_output_flags(flags, options.output);
  flags.group("Batch");
  flags.add_text(
      {"--input", "FILE",
       "One request a line, JSON: {\"prompt\": ..., \"max_tokens\": ...}; the keys are "
       "the flags of prompt, chat, length, sampling and output with _ for -, and flags "
       "given here are the lines' defaults; answers are JSON lines in the order of the input",
       ""},
      options.input);
  flags.add_text(
      {"--output", "FILE",
       "Append the answers of --input here, and skip what is answered in it already: the "
       "same command goes on after an interrupt",
       "stdout"},
      options.output_file);
  add_runtime_flags(flags, options.runtime);
  flags.example(
      "sluice generate --model models/llama-tiny --prompt \"Once upon a time\" "
      "--max-tokens 50 --temperature 0.7 --top-p 0.9",
      "stream text to the terminal");
  flags.example(
      "sluice generate --model models/llama-tiny --input in.jsonl --output out.jsonl "
      "--temperature 0",
      "answer a file of prompts, and go on after an interrupt");
}

// Why the flags do not fit each other; empty if they do.
std::string find_conflict(const Options& options) {
  const GenerateRequest& request = options.request;
  const int num_prompts = (request.prompt ? 1 : 0) + (request.token_ids ? 1 : 0) +
                          (has_messages(request) ? 1 : 0) + (options.input.empty() ? 0 : 1);
  if (options.model.empty()) return "needs --model PATH; see sluice generate --help";
  if (num_prompts == 0) return "needs one of --prompt, --token-ids, --messages and --input";
  if (num_prompts > 1) return "takes only one of --prompt, --token-ids, --messages and --input";
  if (!options.output_file.empty() && options.input.empty()) return "--output needs --input";
  if (options.timeout.count() > 0 && !options.input.empty()) {
    return "--timeout goes with --prompt, --token-ids and --messages, not with --input";
  }
  return "";
}

// What a signal does: once something runs it interrupts the queue, before that, and the second
// time, it ends the process.
class Interrupt {
 public:
  explicit Interrupt(std::shared_ptr<EventQueue> queue)
      : queue_(std::move(queue)), watcher_([this](int count) {
          if (!is_running_ || count > 1) std::_Exit(kExitFailed);
          queue_->interrupt();
        }) {}
  void set_running() { is_running_ = true; }

 private:
  std::shared_ptr<EventQueue> queue_;
  std::atomic<bool> is_running_ = false;
  SignalWatcher watcher_;
};

int report_failure(AnswerPrinter& printer, const Error& error) {
  printer.break_line();
  print_error(kCommand, error.message);
  return exit_code(error);
}

int generate_one(Service& service, Options& options, const std::shared_ptr<EventQueue>& queue) {
  const std::vector<ModelInfo> models = service.models();
  AnswerPrinter printer(options.output, options.request,
                        !models.empty() && models.front().has_tokenizer);
  auto call = service.generate(options.request, std::make_shared<QueueObserver>(queue, 0));
  if (!call) return report_failure(printer, call.error());
  bool interrupted = false;
  while (true) {
    const std::optional<Event> event = queue->pop();
    if (!event) {
      interrupted = true;
      (*call)->cancel();
      continue;
    }
    if (const auto* chunk = std::get_if<GenerateChunk>(&event->what)) {
      if (!printer.add(*chunk)) (*call)->cancel();
      (*call)->delivered(static_cast<int32_t>(chunk->token_ids.size()));
      continue;
    }
    const auto& end = std::get<Result<GenerateSummary>>(event->what);
    if (interrupted) {
      printer.break_line();
      print_error(kCommand, "interrupted");
      return kExitFailed;
    }
    if (!end) return report_failure(printer, end.error());
    return printer.finish(*end);
  }
}

// The file of answers, open to append; -1 stands for stdout.
class OutputFile {
 public:
  static Result<OutputFile> open(const std::string& path, int64_t keep_bytes) {
    if (path.empty()) return OutputFile(-1);
    const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (fd < 0 || ::ftruncate(fd, keep_bytes) != 0) {
      const int reason = errno;
      if (fd >= 0) ::close(fd);
      return cannot_write(path, reason);
    }
    OutputFile file(fd);
    file.path_ = path;
    return file;
  }
  OutputFile(OutputFile&& other) noexcept
      : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)) {}
  OutputFile& operator=(OutputFile&&) = delete;
  ~OutputFile() {
    if (fd_ >= 0) ::close(fd_);
  }

  // Straight to the kernel: what is written survives the end of this process. False: failure()
  // says why, unless it is stdout, which speaks for itself.
  bool write(std::string_view text) {
    if (fd_ < 0) return write_stdout(text);
    while (!text.empty()) {
      const ssize_t count = ::write(fd_, text.data(), text.size());
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) {
        failure_ = cannot_write(path_, errno).error().message;
        return false;
      }
      text.remove_prefix(count);
    }
    return true;
  }
  const std::string& failure() const { return failure_; }

 private:
  explicit OutputFile(int fd) : fd_(fd) {}
  static std::unexpected<Error> cannot_write(const std::string& path, int reason) {
    return invalid_argument("--output: cannot write " + quote(path) + " (" +
                            std::generic_category().message(reason) + ")");
  }

  std::string path_;
  std::string failure_;
  int fd_;
};

Result<ResumePoint> resume_point(const Options& options, const std::vector<int32_t>& lines) {
  std::error_code error;
  if (std::filesystem::exists(options.output_file, error) &&
      !std::filesystem::is_regular_file(options.output_file, error)) {
    return invalid_argument("--output: " + quote(options.output_file) + " is not a regular file");
  }
  std::ifstream existing(options.output_file, std::ios::binary);
  if (options.output_file.empty() || !existing) {
    std::istringstream nothing;
    return find_resume_point(nothing, lines);
  }
  Result<ResumePoint> point = find_resume_point(existing, lines);
  if (!point) {
    return invalid_argument("--output: " + quote(options.output_file) +
                            " is not an output of this input: " + point.error().message);
  }
  return point;
}

int generate_batch(Service& service, Options& options, const std::shared_ptr<EventQueue>& queue,
                   const std::vector<int32_t>& lines, const ResumePoint& resume) {
  Result<RequestSource> source = RequestSource::open(options.input, options.request);
  Result<OutputFile> output = OutputFile::open(options.output_file, resume.keep_bytes);
  for (const Error* error :
       {source ? nullptr : &source.error(), output ? nullptr : &output.error()}) {
    if (error == nullptr) continue;
    print_error(kCommand, error->message);
    return kExitWrongUse;
  }
  const auto num_lines = static_cast<int64_t>(lines.size());
  ProgressBar bar("generating", options.output.quiet);
  Batch::Options batch_options;
  batch_options.max_running = 2 * static_cast<size_t>(options.runtime.max_num_seqs);
  batch_options.max_open = 8 * batch_options.max_running;
  batch_options.write = [&output](const std::string& text) { return output->write(text); };
  batch_options.progress = [&](int64_t next_index) { bar.update(next_index, num_lines, false); };
  Batch batch(service, *std::move(source), queue, std::move(batch_options));
  const Result<Batch::Outcome> outcome = batch.run(resume.next_index);
  bar.clear();
  if (!outcome) {
    print_error(kCommand, outcome.error().message);
    return kExitWrongUse;
  }
  if (outcome->interrupted && !output->failure().empty()) {
    print_error(kCommand, output->failure());
    return kExitFailed;
  }
  if (outcome->interrupted) {
    print_error(
        kCommand,
        fmt::format("stopped after {} answers{}", outcome->num_answered,
                    options.output_file.empty() ? "" : "; the same command goes on from here"));
    return kExitFailed;
  }
  if (outcome->num_failed > 0) {
    print_error(kCommand, fmt::format("{} of {} requests failed; their lines have \"error\"",
                                      outcome->num_failed, outcome->num_answered));
    return kExitFailed;
  }
  return kExitDone;
}

// The lines of --input and where to go on; checked before the model is loaded.
struct Plan {
  std::vector<int32_t> lines;
  ResumePoint resume;
};

Result<Plan> make_plan(const Options& options) {
  Plan plan;
  if (options.input.empty()) return plan;
  auto lines = check_requests(options.input, options.request);
  if (!lines) return std::unexpected(lines.error());
  plan.lines = *std::move(lines);
  const Result<ResumePoint> resume = resume_point(options, plan.lines);
  if (!resume) return std::unexpected(resume.error());
  plan.resume = *resume;
  return plan;
}

}  // namespace

int run_generate(Arguments arguments) {
  Options options;
  Flags flags(kCommand,
              "--model PATH (--prompt TEXT | --messages FILE | --input FILE | ...) [flags]",
              "Generates text without a server: from one prompt, streamed to the terminal, or from "
              "a file of requests, batched together.");
  add_flags(flags, options);
  if (const auto code = flags.parse(arguments)) return *code;
  if (const std::string conflict = find_conflict(options); !conflict.empty()) {
    return flags.wrong_use(conflict);
  }
  const Result<Plan> plan = make_plan(options);
  if (!plan) return flags.wrong_use(plan.error().message);
  if (!options.input.empty() &&
      plan->resume.next_index >= static_cast<int64_t>(plan->lines.size())) {
    print_notice("nothing to do: every request is answered", options.output.quiet);
    return kExitDone;
  }

  const auto queue = std::make_shared<EventQueue>();
  Interrupt interrupt(queue);
  auto model = find_model(options.model);
  if (!model) return flags.wrong_use("--model: " + model.error().message);
  options.runtime.models = {*std::move(model)};
  // Nobody else waits here, so nothing is too old.
  options.runtime.limits.max_request_age = std::chrono::hours(24 * 365);
  const auto service = load_service(options.runtime, options.output.quiet);
  if (!service) {
    print_error(kCommand, service.error().message);
    return load_exit_code(service.error());
  }
  interrupt.set_running();
  if (options.timeout.count() > 0) {
    options.request.deadline = std::chrono::steady_clock::now() + options.timeout;
  }
  return options.input.empty()
             ? generate_one(**service, options, queue)
             : generate_batch(**service, options, queue, plan->lines, plan->resume);
}

}  // namespace sluice::cli
