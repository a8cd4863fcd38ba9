#include "cli/commands.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <vector>

#include "cli/format.h"
#include "cli/parse.h"
#include "cli/terminal.h"

namespace sluice::cli {
namespace {

struct Command {
  std::string_view name;
  std::string_view summary;
  int (*run)(Arguments);
};

constexpr std::array<Command, 8> kCommands{{
    {"generate", "Generate text from a prompt, or from a file of requests", run_generate},
    {"chat", "Talk with a model, or with a server's", run_chat},
    {"serve", "Serve models over gRPC", run_serve},
    {"client", "Ask a server, and stream its answer", run_client},
    {"import", "Make a package from a Hugging Face folder", run_import},
    {"bench offline", "Measure prefill, decode and latency of a model", run_bench_offline},
    {"bench serve", "Put load on a server and measure latency", run_bench_serve},
    {"doctor", "Show devices and memory, and what a model would need", run_doctor},
}};

std::string help() {
  const bool colour = terminal().stdout_colour;
  const auto heading = [colour](const std::string& text) {
    return colour ? "\x1b[1m" + text + "\x1b[0m\n" : text + "\n";
  };
  std::string text = "sluice " SLUICE_VERSION ": an inference server for language models\n\n";
  text += heading("Commands:");
  for (const Command& command : kCommands) {
    text += two_columns("  " + std::string(command.name), command.summary, 20, 100);
  }
  text += "\n" + heading("Examples:");
  text +=
      "  sluice generate --model models/llama-tiny --prompt \"Once upon a time\" --max-tokens 50\n";
  text += "  sluice chat --model models/llama-tiny\n";
  text += "  sluice serve --model models/llama-tiny\n";
  text += "  sluice client --target 127.0.0.1:50051 --prompt \"Once upon a time\"\n";
  text += "\nsluice COMMAND --help shows the flags of a command; sluice --version the version.\n";
  text += "Exit codes: 0 done, 1 failed, 2 wrong use or configuration.\n";
  return text;
}

int unknown_command(const std::string& word) {
  std::vector<std::string> names{"--help", "--version", "bench"};
  for (const Command& command : kCommands) names.emplace_back(command.name);
  const std::string meant = nearest(word, names);
  print_error("", (word.starts_with("-") ? "unknown flag " : "unknown command ") + quote(word) +
                      (meant.empty() ? "; see sluice --help" : "; did you mean " + meant + "?"));
  return kExitWrongUse;
}

}  // namespace

int run(Arguments arguments) {
  if (arguments.empty()) {
    print_error("", "needs a command; see sluice --help");
    return kExitWrongUse;
  }
  const std::string& first = arguments[0];
  if (first == "--help" || first == "-h" || first == "help") {
    return write_stdout(help()) ? kExitDone : kExitFailed;
  }
  if (first == "--version") {
    return write_stdout("sluice " SLUICE_VERSION "\n") ? kExitDone : kExitFailed;
  }
  for (const Command& command : kCommands) {
    if (first == command.name) return command.run(arguments.subspan(1));
    if (arguments.size() > 1 && first + " " + arguments[1] == command.name) {
      return command.run(arguments.subspan(2));
    }
  }
  if (first == "bench") {
    if (arguments.size() > 1 && (arguments[1] == "--help" || arguments[1] == "-h")) {
      return write_stdout(help()) ? kExitDone : kExitFailed;
    }
    print_error("bench", "needs \"offline\" or \"serve\"; see sluice bench offline --help");
    return kExitWrongUse;
  }
  return unknown_command(first);
}

}  // namespace sluice::cli
