#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "sluice/error.h"

namespace sluice::cli {

inline constexpr int kExitDone = 0;
inline constexpr int kExitFailed = 1;
inline constexpr int kExitWrongUse = 2;

// What the standard streams are. Colours need a terminal and an unset (or empty) NO_COLOR.
struct Terminal {
  bool stdout_is_terminal = false;
  bool stderr_is_terminal = false;
  bool stdout_colour = false;
  bool stderr_colour = false;
};
const Terminal& terminal();

// "sluice COMMAND: message" as one line on stderr; control characters in it are escaped.
void print_error(const std::string& command, const std::string& message);
// One line on stderr for a person, unless `quiet`.
void print_notice(const std::string& message, bool quiet);

// The process's exit code for an error: what the user can put right by another command line,
// request or file is 2, the rest is 1.
int exit_code(const Error& error);

// Writes all of `text` to stdout and flushes. False if nobody reads it any more, or it cannot be
// written (a full disk); the latter is said on stderr, once.
bool write_stdout(std::string_view text);

// A progress bar on stderr: only on a terminal, at most ten times a second, gone when it ends.
class ProgressBar {
 public:
  ProgressBar(std::string label, bool quiet);
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  void set_label(std::string label);
  // `unit_is_bytes` shows "1.2 GB of 2.5 GB", else plain counts.
  void update(int64_t done, int64_t total, bool unit_is_bytes = true);
  // Removes the bar, so that other lines can be printed.
  void clear();

 private:
  std::string label_;
  bool enabled_;
  bool shown_ = false;
  std::chrono::steady_clock::time_point last_{};
};

}  // namespace sluice::cli
