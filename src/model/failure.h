#pragma once

#include <algorithm>
#include <exception>
#include <expected>
#include <string>

#include "sluice/error.h"

namespace sluice::model {

// The caller's progress function said no.
inline std::unexpected<Error> import_stopped() {
  return fail(ErrorCode::kCancelled, "the import was stopped");
}

// LibTorch's messages are many lines with tracebacks; what a command line or a log can show is one
// line of them: of an exception inside a program the last line, which says what happened.
inline std::string one_line(const std::exception& exception) {
  constexpr size_t kMaxBytes = 400;
  std::string text = exception.what();
  const size_t traceback = text.find("\nException raised from");
  if (traceback != std::string::npos) text.resize(traceback);
  if (text.find("Traceback of TorchScript") != std::string::npos) {
    text.erase(text.find_last_not_of(" \t\r\n") + 1);
    text.erase(0, text.rfind('\n') + 1);
  }
  std::string line;
  for (const char c : text) {
    const bool is_space = c == '\n' || c == '\r' || c == '\t' || c == ' ';
    if (!is_space) {
      line += c;
    } else if (!line.empty() && line.back() != ' ') {
      line += ' ';
    }
  }
  if (line.size() > kMaxBytes) line = "..." + line.substr(line.size() - kMaxBytes);
  return line;
}

}  // namespace sluice::model
