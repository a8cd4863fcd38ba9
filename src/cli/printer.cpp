#include "cli/printer.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>

#include "cli/format.h"
#include "cli/terminal.h"

namespace sluice::cli {
namespace {

using std::chrono::steady_clock;

double to_ms(std::chrono::nanoseconds duration) {
  return std::chrono::duration<double, std::milli>(duration).count();
}

}  // namespace

void add_output_flags(Flags& flags, OutputOptions& output) {
  flags.group("Output");
  flags.add_switch({"--json", "", "One JSON line for each completion, when it is whole", ""},
                   output.json);
  flags.add_switch({"--quiet", "", "No progress, notices or rates on stderr", ""}, output.quiet);
}

AnswerPrinter::AnswerPrinter(const OutputOptions& output, const GenerateRequest& request,
                             bool has_text)
    : output_(output), answer_(request), has_text_(has_text), start_(steady_clock::now()) {}

bool AnswerPrinter::add(const GenerateChunk& chunk) {
  if (first_token_ == steady_clock::time_point{} && !chunk.is_prompt && !chunk.token_ids.empty()) {
    first_token_ = steady_clock::now();
  }
  answer_.add(chunk);
  return output_.json || show(chunk);
}

bool AnswerPrinter::show(const GenerateChunk& chunk) {
  if (answer_.completions.size() == 1) {
    if (has_text_) return write(chunk.text);
    return chunk.token_ids.empty() ||
           write(fmt::format("{}{}", line_is_open_ ? " " : "", fmt::join(chunk.token_ids, " ")));
  }
  if (!chunk.finish_reason) return is_readable_;
  const Completion& completion = answer_.completions[chunk.index];
  break_line();
  return write(fmt::format(
      "--- completion {} ({})\n{}\n", chunk.index, to_string(*chunk.finish_reason),
      has_text_ ? completion.text : fmt::format("{}", fmt::join(completion.token_ids, " "))));
}

bool AnswerPrinter::write(const std::string& text) {
  if (text.empty()) return is_readable_;
  is_readable_ = is_readable_ && write_stdout(text);
  line_is_open_ = text.back() != '\n';
  return is_readable_;
}

void AnswerPrinter::break_line() {
  if (line_is_open_) write("\n");
}

int AnswerPrinter::finish(const GenerateSummary& summary) {
  if (output_.json) {
    is_readable_ = write_stdout(answer_lines(0, answer_, summary));
  } else {
    break_line();
  }
  if (terminal().stderr_is_terminal) print_rates(summary);
  const bool failed = std::any_of(answer_.completions.begin(), answer_.completions.end(),
                                  [](const Completion& completion) {
                                    return completion.finish_reason == FinishReason::kError ||
                                           completion.finish_reason == FinishReason::kDeadline;
                                  });
  return failed || !is_readable_ ? kExitFailed : kExitDone;
}

void AnswerPrinter::print_rates(const GenerateSummary& summary) const {
  const steady_clock::duration total = steady_clock::now() - start_;
  const Usage& usage = summary.usage;
  std::string line =
      fmt::format("{} prompt tokens, {} new tokens in {}", format_count(usage.prompt_tokens),
                  format_count(usage.completion_tokens), format_milliseconds(to_ms(total)));
  if (first_token_ != steady_clock::time_point{}) {
    line += ", the first after " + format_milliseconds(to_ms(first_token_ - start_));
  }
  const double decode_s = std::chrono::duration<double>(usage.decode_time).count();
  const auto num_completions = static_cast<int32_t>(answer_.completions.size());
  if (decode_s > 0 && usage.completion_tokens > num_completions) {
    line += fmt::format(", then {} tokens/s",
                        format_rate((usage.completion_tokens - num_completions) / decode_s));
  }
  for (const Completion& completion : answer_.completions) {
    if (answer_.completions.size() == 1 && completion.finish_reason) {
      line += fmt::format(", ended by {}", to_string(*completion.finish_reason));
    }
  }
  line += fmt::format(", seed {}", summary.seed);
  print_notice(terminal().stderr_colour ? "\x1b[2m" + line + "\x1b[0m" : line, output_.quiet);
}

}  // namespace sluice::cli
