#include "cli/terminal.h"

#include <spdlog/fmt/fmt.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <system_error>
#include <utility>

#include "cli/format.h"

namespace sluice::cli {
namespace {

Terminal detect() {
  Terminal detected;
  detected.stdout_is_terminal = ::isatty(STDOUT_FILENO) == 1;
  detected.stderr_is_terminal = ::isatty(STDERR_FILENO) == 1;
  const char* no_colour = std::getenv("NO_COLOR");
  const bool colour = no_colour == nullptr || *no_colour == '\0';
  detected.stdout_colour = colour && detected.stdout_is_terminal;
  detected.stderr_colour = colour && detected.stderr_is_terminal;
  return detected;
}

// A message is one line, whatever a file name or a server put into it.
std::string one_line(const std::string& message) {
  std::string line;
  for (const char c : message) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f) {
      line += c == '\n' ? "\\n" : fmt::format("\\x{:02x}", byte);
    } else {
      line += c;
    }
  }
  return line;
}

}  // namespace

const Terminal& terminal() {
  static const Terminal detected = detect();
  return detected;
}

void print_error(const std::string& command, const std::string& message) {
  const std::string who = command.empty() ? "sluice:" : "sluice " + command + ":";
  const std::string prefix = terminal().stderr_colour ? "\x1b[31m" + who + "\x1b[0m " : who + " ";
  const std::string line = prefix + one_line(message) + "\n";
  std::fwrite(line.data(), 1, line.size(), stderr);
}

void print_notice(const std::string& message, bool quiet) {
  if (quiet) return;
  const std::string line = one_line(message) + "\n";
  std::fwrite(line.data(), 1, line.size(), stderr);
}

int exit_code(const Error& error) {
  switch (error.code) {
    case ErrorCode::kInvalidArgument:
    case ErrorCode::kNotFound:
    case ErrorCode::kAlreadyExists:
    case ErrorCode::kPermissionDenied:
    case ErrorCode::kFailedPrecondition:
    case ErrorCode::kUnimplemented:
    case ErrorCode::kDataLoss:
    case ErrorCode::kUnauthenticated:
      return kExitWrongUse;
    case ErrorCode::kCancelled:
    case ErrorCode::kDeadlineExceeded:
    case ErrorCode::kResourceExhausted:
    case ErrorCode::kInternal:
    case ErrorCode::kUnavailable:
      return kExitFailed;
  }
  return kExitFailed;
}

bool write_stdout(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0) {
    return true;
  }
  const int reason = errno;
  static bool is_told = false;
  if (reason != EPIPE && !std::exchange(is_told, true)) {
    print_notice("sluice: cannot write to stdout (" + std::generic_category().message(reason) + ")",
                 false);
  }
  return false;
}

ProgressBar::ProgressBar(std::string label, bool quiet)
    : label_(std::move(label)), enabled_(!quiet && terminal().stderr_is_terminal) {}

ProgressBar::~ProgressBar() {
  clear();
}

void ProgressBar::set_label(std::string label) {
  label_ = std::move(label);
}

void ProgressBar::update(int64_t done, int64_t total, bool unit_is_bytes) {
  if (!enabled_ || total <= 0) return;
  const auto now = std::chrono::steady_clock::now();
  if (shown_ && now - last_ < std::chrono::milliseconds(100)) return;
  last_ = now;
  shown_ = true;
  constexpr int64_t kWidth = 30;
  const double share = std::clamp(static_cast<double>(done) / static_cast<double>(total), 0.0, 1.0);
  const auto filled = static_cast<size_t>(share * kWidth);
  const auto show = [unit_is_bytes](int64_t count) {
    return unit_is_bytes ? format_bytes(count) : format_count(count);
  };
  const std::string line =
      fmt::format("\r\x1b[2K{} [{}{}] {:3.0f} % {} of {}", label_, std::string(filled, '#'),
                  std::string(kWidth - filled, '.'), share * 100, show(done), show(total));
  std::fwrite(line.data(), 1, line.size(), stderr);
  std::fflush(stderr);
}

void ProgressBar::clear() {
  if (!shown_) return;
  std::fputs("\r\x1b[2K", stderr);
  std::fflush(stderr);
  shown_ = false;
}

}  // namespace sluice::cli
