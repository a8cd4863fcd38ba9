#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "sluice/error.h"

namespace CLI {
class App;
}

namespace sluice::cli {

// One flag as the help shows it. Its environment variable follows from its name:
// --max-num-seqs is SLUICE_MAX_NUM_SEQS. The command line wins over the environment.
struct FlagSpec {
  std::string name;          // "--max-num-seqs"
  std::string placeholder;   // "N"; empty for a switch
  std::string help;          // one sentence, with the unit
  std::string default_text;  // shown as [default]; empty: none
};

// The flags of one command: parsing, environment, help and the one clear line for wrong use.
//
// CLI11 splits the words; the values are read by the project's own parsers, because CLI11 2.1
// clamps numbers that are out of range in silence.
class Flags {
 public:
  using Setter = std::function<Result<void>(const std::string&)>;

  // `command` is what stands after "sluice"; `usage` follows it in the first line of the help.
  Flags(std::string command, std::string usage, std::string summary);
  ~Flags();
  Flags(const Flags&) = delete;
  Flags& operator=(const Flags&) = delete;

  // The heading of the flags that are added next.
  void group(std::string title);

  void add(FlagSpec spec, Setter set);
  // May be given more than once; `set` sees each value.
  void add_repeated(FlagSpec spec, Setter set);
  // A flag without a value.
  void add_switch(FlagSpec spec, bool& target);
  // A required argument without a name.
  void add_positional(const std::string& name, const std::string& help, std::string& target);

  void add_text(FlagSpec spec, std::string& target);
  void add_duration(FlagSpec spec, std::chrono::nanoseconds& target,
                    std::chrono::nanoseconds min = std::chrono::milliseconds(1));
  // Numbers with an inclusive range; the default shown is the target's value, unless the spec has
  // one.
  void add_int(FlagSpec spec, int32_t& target, int32_t min, int32_t max = INT32_MAX);
  void add_int64(FlagSpec spec, int64_t& target, int64_t min, int64_t max = INT64_MAX);
  void add_number(FlagSpec spec, double& target, double min, double max);
  // A size in bytes, with units.
  void add_bytes(FlagSpec spec, int64_t& target, int64_t min);
  // One of a few words.
  void add_choice(FlagSpec spec, std::string& target, std::vector<std::string> choices);

  // A line under "Examples:".
  void example(std::string command_line, std::string meaning);

  // Reads the command line. Empty if the command should run; otherwise the exit code (help was
  // printed, or a line that says what is wrong).
  std::optional<int> parse(std::span<const std::string> arguments);

  // Prints "sluice COMMAND: message" and returns 2, the exit code of wrong use.
  int wrong_use(const std::string& message) const;

  // What --help prints, `colour` with bold headings.
  std::string help(bool colour) const;

 private:
  struct Flag {
    FlagSpec spec;
    std::string group;
    std::string environment;
    Setter set;
    bool repeated = false;
  };
  struct Positional {
    std::string name;
    std::string help;
  };

  void record(FlagSpec spec, bool repeated, Setter set);
  Result<void> accept(const Flag& flag, const std::vector<std::string>& values);
  std::string unknown_argument(const std::string& argument) const;

  std::string command_;
  std::string usage_;
  std::string summary_;
  std::string group_ = "Flags";
  std::vector<std::unique_ptr<Flag>> flags_;  // stable addresses: CLI11's callbacks point here
  std::vector<Positional> positionals_;
  std::vector<std::pair<std::string, std::string>> examples_;
  std::unique_ptr<CLI::App> app_;
};

// "--max-num-seqs" to "SLUICE_MAX_NUM_SEQS".
std::string environment_name(const std::string& flag);

}  // namespace sluice::cli
