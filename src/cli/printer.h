#pragma once

#include <chrono>
#include <string>

#include "cli/answer.h"
#include "cli/flags.h"
#include "sluice/error.h"
#include "sluice/generation.h"

namespace sluice::cli {

// How `generate` and `client` show an answer.
struct OutputOptions {
  bool json = false;
  bool quiet = false;
};
void add_output_flags(Flags& flags, OutputOptions& output);

// Shows the answer to one request: text as it comes (several completions one after another, each
// when it is whole), or JSON lines at the end. A model without a tokenizer gives token ids.
// Threads: one.
class AnswerPrinter {
 public:
  // The clock of the rates starts here.
  AnswerPrinter(const OutputOptions& output, const GenerateRequest& request, bool has_text);

  // False if nobody reads stdout any more: the request may be cancelled.
  bool add(const GenerateChunk& chunk);
  // Ends the output, with a line of rates on stderr if that is a terminal. Returns the exit code:
  // 1 if a completion ended with an error or missed its deadline.
  int finish(const GenerateSummary& summary);
  // Ends the line that was begun, before a message goes to the terminal.
  void break_line();

 private:
  bool show(const GenerateChunk& chunk);
  bool write(const std::string& text);
  void print_rates(const GenerateSummary& summary) const;

  OutputOptions output_;
  Answer answer_;
  bool has_text_;
  bool line_is_open_ = false;
  bool is_readable_ = true;
  std::chrono::steady_clock::time_point start_;
  std::chrono::steady_clock::time_point first_token_{};
};

}  // namespace sluice::cli
