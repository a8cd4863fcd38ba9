#include "cli/flags.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cctype>
#include <cstdio>
#include <utility>

#include <spdlog/fmt/fmt.h>

#include "cli/format.h"
#include "cli/parse.h"
#include "cli/terminal.h"

namespace sluice::cli {
namespace {

// Thrown through CLI11, which reports a bad value by exceptions only; caught in Flags::parse.
struct BadValue : CLI::ValidationError {
  explicit BadValue(const std::string& message) : CLI::ValidationError(message) {}
};

template <typename T>
Flags::Setter ranged(T& target, Result<T> (*read)(std::string_view), T min, T max) {
  return [&target, read, min, max](const std::string& text) -> Result<void> {
    const Result<T> value = read(text);
    if (!value) return std::unexpected(value.error());
    if (!(*value >= min && *value <= max)) {
      if (max == std::numeric_limits<T>::max()) {
        return invalid_argument(fmt::format("{} is below the minimum of {}", *value, min));
      }
      return invalid_argument(fmt::format("{} is not in the range {} to {}", *value, min, max));
    }
    target = *value;
    return {};
  };
}

Result<int32_t> parse_int32(std::string_view text) {
  const Result<int64_t> value = parse_int64(text);
  if (!value) return std::unexpected(value.error());
  if (!std::in_range<int32_t>(*value)) {
    return invalid_argument(quote(text) + " is out of range (at most 2147483647)");
  }
  return static_cast<int32_t>(*value);
}

std::string default_or(const std::string& given, const std::string& computed) {
  return given.empty() ? computed : given;
}

}  // namespace

std::string environment_name(const std::string& flag) {
  std::string name = "SLUICE_";
  for (const char c : flag.substr(flag.find_first_not_of('-'))) {
    name += c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  }
  return name;
}

Flags::Flags(std::string command, std::string usage, std::string summary)
    : command_(std::move(command)),
      usage_(std::move(usage)),
      summary_(std::move(summary)),
      app_(std::make_unique<CLI::App>()) {
  app_->allow_extras();
  app_->set_help_flag();
}
Flags::~Flags() = default;

void Flags::group(std::string title) {
  group_ = std::move(title);
}

void Flags::record(FlagSpec spec, bool repeated, Setter set) {
  flags_.push_back(std::make_unique<Flag>());
  Flag& flag = *flags_.back();
  flag.environment = environment_name(spec.name);
  flag.group = group_;
  flag.set = std::move(set);
  flag.repeated = repeated;
  flag.spec = std::move(spec);
  CLI::callback_t callback = [this, &flag](const std::vector<std::string>& values) {
    const Result<void> accepted = accept(flag, values);
    if (!accepted) throw BadValue(accepted.error().message);
    return true;
  };
  CLI::Option* option = app_->add_option(flag.spec.name, std::move(callback));
  option->envname(flag.environment)->take_all();
  if (flag.spec.placeholder.empty()) {
    option->expected(0);
  } else {
    option->type_size(1)->expected(1)->allow_extra_args(false);
  }
}

Result<void> Flags::accept(const Flag& flag, const std::vector<std::string>& values) {
  if (values.size() > 1 && !flag.repeated) {
    return invalid_argument(flag.spec.name + " is given " + std::to_string(values.size()) +
                            " times, once is allowed");
  }
  for (const std::string& value : values) {
    const Result<void> set = flag.set(value);
    if (!set) return invalid_argument(flag.spec.name + ": " + set.error().message);
  }
  return {};
}

void Flags::add(FlagSpec spec, Setter set) {
  record(std::move(spec), false, std::move(set));
}

void Flags::add_repeated(FlagSpec spec, Setter set) {
  record(std::move(spec), true, std::move(set));
}

void Flags::add_switch(FlagSpec spec, bool& target) {
  add(std::move(spec), [&target](const std::string& text) -> Result<void> {
    if (text.empty()) {  // as the command line gives it; the environment gives a value
      target = true;
      return {};
    }
    const Result<bool> value = parse_bool(text);
    if (!value) return std::unexpected(value.error());
    target = *value;
    return {};
  });
}

void Flags::add_positional(const std::string& name, const std::string& help, std::string& target) {
  positionals_.push_back({name, help});
  app_->add_option(name, target)->expected(1)->required();
}

void Flags::add_text(FlagSpec spec, std::string& target) {
  spec.default_text = default_or(spec.default_text, target);
  add(std::move(spec), [&target](const std::string& text) -> Result<void> {
    target = text;
    return {};
  });
}

void Flags::add_duration(FlagSpec spec, std::chrono::nanoseconds& target,
                         std::chrono::nanoseconds min) {
  spec.default_text = default_or(spec.default_text, format_duration(target));
  add(std::move(spec), [&target, min](const std::string& text) -> Result<void> {
    const auto value = parse_duration(text);
    if (!value) return std::unexpected(value.error());
    if (*value < min) {
      return invalid_argument(quote(text) + " is below the minimum of " + format_duration(min));
    }
    target = *value;
    return {};
  });
}

void Flags::add_int(FlagSpec spec, int32_t& target, int32_t min, int32_t max) {
  spec.default_text = default_or(spec.default_text, std::to_string(target));
  add(std::move(spec), ranged<int32_t>(target, parse_int32, min, max));
}

void Flags::add_int64(FlagSpec spec, int64_t& target, int64_t min, int64_t max) {
  spec.default_text = default_or(spec.default_text, std::to_string(target));
  add(std::move(spec), ranged<int64_t>(target, parse_int64, min, max));
}

void Flags::add_number(FlagSpec spec, double& target, double min, double max) {
  spec.default_text = default_or(spec.default_text, fmt::format("{}", target));
  add(std::move(spec), ranged<double>(target, parse_double, min, max));
}

void Flags::add_bytes(FlagSpec spec, int64_t& target, int64_t min) {
  spec.default_text = default_or(spec.default_text, format_binary_bytes(target));
  add(std::move(spec), ranged<int64_t>(target, parse_bytes, min, INT64_MAX));
}

void Flags::add_choice(FlagSpec spec, std::string& target, std::vector<std::string> choices) {
  spec.default_text = default_or(spec.default_text, target);
  add(std::move(spec),
      [&target, choices = std::move(choices)](const std::string& text) -> Result<void> {
        if (std::find(choices.begin(), choices.end(), text) == choices.end()) {
          return invalid_argument(
              fmt::format("{} is not one of {}", quote(text), fmt::join(choices, ", ")));
        }
        target = text;
        return {};
      });
}

void Flags::example(std::string command_line, std::string meaning) {
  examples_.emplace_back(std::move(command_line), std::move(meaning));
}

std::string Flags::unknown_argument(const std::string& argument) const {
  if (!argument.starts_with("-")) return "unexpected argument " + quote(argument);
  const std::string name = argument.substr(0, argument.find('='));
  std::vector<std::string> known{"--help"};
  for (const auto& flag : flags_) known.push_back(flag->spec.name);
  const std::string meant = nearest(name, known);
  return "unknown flag " + quote(name) +
         (meant.empty() ? "; see sluice " + command_ + " --help" : "; did you mean " + meant + "?");
}

std::optional<int> Flags::parse(std::span<const std::string> arguments) {
  for (const std::string& argument : arguments) {
    if (argument == "--") break;
    if (argument != "--help" && argument != "-h") continue;
    const std::string text = help(terminal().stdout_colour);
    std::fwrite(text.data(), 1, text.size(), stdout);
    return 0;
  }
  std::vector<std::string> reversed(arguments.rbegin(), arguments.rend());
  try {
    app_->parse(reversed);
  } catch (const BadValue& error) {
    return wrong_use(error.what());
  } catch (const CLI::RequiredError&) {
    std::string names;
    for (const Positional& positional : positionals_) names += " " + positional.name;
    return wrong_use("needs the arguments" + names + "; see sluice " + command_ + " --help");
  } catch (const CLI::ParseError& error) {
    return wrong_use(error.what());
  }
  const std::vector<std::string> extras = app_->remaining();
  if (!extras.empty()) return wrong_use(unknown_argument(extras.front()));
  return std::nullopt;
}

int Flags::wrong_use(const std::string& message) const {
  print_error(command_, message);
  return kExitWrongUse;
}

std::string Flags::help(bool colour) const {
  const auto heading = [colour](const std::string& text) {
    return colour ? "\x1b[1m" + text + "\x1b[0m" : text;
  };
  constexpr size_t kColumn = 34;
  constexpr size_t kWidth = 100;
  std::string text = fmt::format("{} sluice {} {}\n\n{}", heading("Usage:"), command_, usage_,
                                 wrap(summary_, 0, kWidth));
  if (!positionals_.empty()) text += "\n" + heading("Arguments:") + "\n";
  for (const Positional& positional : positionals_) {
    text += two_columns("  " + positional.name, positional.help, kColumn, kWidth);
  }
  std::string group;
  for (const auto& flag : flags_) {
    if (flag->group != group) {
      group = flag->group;
      text += "\n" + heading(group + ":") + "\n";
    }
    std::string left = "  " + flag->spec.name;
    if (!flag->spec.placeholder.empty()) left += " " + flag->spec.placeholder;
    std::string right = flag->spec.help;
    if (flag->repeated) right += " (may be repeated)";
    if (!flag->spec.default_text.empty()) right += " [" + flag->spec.default_text + "]";
    text += two_columns(left, right + " {" + flag->environment + "}", kColumn, kWidth);
  }
  text += "\n" + two_columns("  --help", "Show this help and exit", kColumn, kWidth);
  text += "\n" + wrap("[x] is the default; {X} is the environment variable that gives the flag.", 0,
                      kWidth);
  if (!examples_.empty()) text += "\n" + heading("Examples:") + "\n";
  for (const auto& [command_line, meaning] : examples_) {
    text += "  # " + meaning + "\n  " + command_line + "\n";
  }
  return text;
}

}  // namespace sluice::cli
