#include "cli/parse.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <utility>

namespace sluice::cli {
namespace {

// from_chars takes no '+'; one before another sign stays, so that it is refused.
std::string_view without_plus(std::string_view text) {
  if (text.starts_with('+') && !text.starts_with("+-")) text.remove_prefix(1);
  return text;
}

template <typename T>
Result<T> parse_whole(std::string_view text) {
  const std::string_view digits = without_plus(text);
  T value{};
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error == std::errc::result_out_of_range) {
    return invalid_argument(fmt::format("{} is out of range ({} to {})", quote(text),
                                        std::numeric_limits<T>::min(),
                                        std::numeric_limits<T>::max()));
  }
  if (error != std::errc{} || end != digits.data() + digits.size()) {
    return invalid_argument(fmt::format("{} is not a whole number", quote(text)));
  }
  return value;
}

// Splits "<number><unit>"; the unit may be empty.
Result<std::pair<double, std::string_view>> split_unit(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || !std::isfinite(value) || value < 0) {
    return invalid_argument(fmt::format("{} is not a number of at least 0", quote(text)));
  }
  return std::pair(value, text.substr(end - text.data()));
}

struct Unit {
  std::string_view name;
  double factor;
};

template <size_t N>
Result<int64_t> scaled(std::string_view text, const std::array<Unit, N>& units) {
  const auto parts = split_unit(text);
  if (!parts) return std::unexpected(parts.error());
  for (const Unit& unit : units) {
    if (parts->second != unit.name) continue;
    const double value = parts->first * unit.factor;
    if (value >= 0x1p63) return invalid_argument(fmt::format("{} is too large", quote(text)));
    return static_cast<int64_t>(std::llround(value));
  }
  std::string names;
  for (const Unit& unit : units) {
    if (unit.name.empty()) continue;
    names += (names.empty() ? "" : ", ") + std::string(unit.name);
  }
  return invalid_argument(fmt::format("{} has an unknown unit (known are {})", quote(text), names));
}

std::vector<std::string_view> split_commas(std::string_view text) {
  std::vector<std::string_view> parts;
  while (!text.empty()) {
    const size_t comma = text.find(',');
    parts.push_back(text.substr(0, comma));
    if (comma == std::string_view::npos) break;
    text.remove_prefix(comma + 1);
    if (text.empty()) parts.push_back(text);  // a trailing comma leaves an empty, refused part
  }
  for (std::string_view& part : parts) {
    while (part.starts_with(' ')) part.remove_prefix(1);
    while (part.ends_with(' ')) part.remove_suffix(1);
  }
  return parts;
}

size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, replaced});
    }
  }
  return row[b.size()];
}

}  // namespace

Result<int64_t> parse_int64(std::string_view text) {
  return parse_whole<int64_t>(text);
}
Result<uint64_t> parse_uint64(std::string_view text) {
  return parse_whole<uint64_t>(text);
}

Result<double> parse_double(std::string_view text) {
  const std::string_view digits = without_plus(text);
  double value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error == std::errc::result_out_of_range) {
    return invalid_argument(fmt::format("{} does not fit a double", quote(text)));
  }
  if (error != std::errc{} || end != digits.data() + digits.size()) {
    return invalid_argument(fmt::format("{} is not a number", quote(text)));
  }
  return value;
}

Result<bool> parse_bool(std::string_view text) {
  for (const char* yes : {"true", "1", "yes", "on"}) {
    if (text == yes) return true;
  }
  for (const char* no : {"false", "0", "no", "off"}) {
    if (text == no) return false;
  }
  return invalid_argument(fmt::format("{} is neither true nor false", quote(text)));
}

Result<std::vector<int64_t>> parse_int64_list(std::string_view text) {
  std::vector<int64_t> values;
  for (const std::string_view part : split_commas(text)) {
    const Result<int64_t> value = parse_int64(part);
    if (!value) {
      return invalid_argument(
          fmt::format("{} (item {} of the list)", value.error().message, values.size()));
    }
    values.push_back(*value);
  }
  return values;
}

Result<std::vector<LogitBias>> parse_logit_bias(std::string_view text) {
  std::vector<LogitBias> biases;
  for (const std::string_view part : split_commas(text)) {
    const size_t equals = part.find('=');
    if (equals == std::string_view::npos) {
      return invalid_argument(fmt::format("{} is not ID=BIAS", quote(part)));
    }
    const Result<int64_t> token_id = parse_int64(part.substr(0, equals));
    if (!token_id) return std::unexpected(token_id.error());
    const Result<double> bias = parse_double(part.substr(equals + 1));
    if (!bias) return std::unexpected(bias.error());
    biases.push_back({*token_id, *bias});
  }
  return biases;
}

Result<std::chrono::nanoseconds> parse_duration(std::string_view text) {
  static constexpr std::array<Unit, 5> kUnits{
      {{"", 1e9}, {"s", 1e9}, {"ms", 1e6}, {"m", 60e9}, {"h", 3600e9}}};
  const Result<int64_t> count = scaled(text, kUnits);
  if (!count) return std::unexpected(count.error());
  return std::chrono::nanoseconds(*count);
}

Result<int64_t> parse_bytes(std::string_view text) {
  static constexpr std::array<Unit, 14> kUnits{{{"", 1},
                                                {"B", 1},
                                                {"k", 1e3},
                                                {"kB", 1e3},
                                                {"KiB", 0x1p10},
                                                {"M", 1e6},
                                                {"MB", 1e6},
                                                {"MiB", 0x1p20},
                                                {"G", 1e9},
                                                {"GB", 1e9},
                                                {"GiB", 0x1p30},
                                                {"T", 1e12},
                                                {"TB", 1e12},
                                                {"TiB", 0x1p40}}};
  return scaled(text, kUnits);
}

std::string nearest(std::string_view word, const std::vector<std::string>& known) {
  std::string best;
  size_t best_distance = std::numeric_limits<size_t>::max();
  if (word.size() > 64) return best;
  for (const std::string& candidate : known) {
    const size_t distance = edit_distance(word, candidate);
    if (distance < best_distance) {
      best_distance = distance;
      best = candidate;
    }
  }
  return best_distance * 3 <= best.size() ? best : std::string();
}

std::string quote(std::string_view text) {
  constexpr size_t kMaxShown = 64;
  std::string shown = "\"";
  for (const char c : text.substr(0, kMaxShown)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte >= 0x7f) {
      shown += fmt::format("\\x{:02x}", byte);
    } else {
      shown += c;
    }
  }
  return shown + (text.size() > kMaxShown ? "...\"" : "\"");
}

}  // namespace sluice::cli
