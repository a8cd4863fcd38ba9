#include "cli/format.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <utility>

namespace sluice::cli {
namespace {

// Three significant digits, no exponent.
std::string three_digits(double value) {
  const double size = std::fabs(value);
  if (size >= 99.95) return fmt::format("{:.0f}", value);
  if (size >= 9.995) return fmt::format("{:.1f}", value);
  if (size >= 0.9995) return fmt::format("{:.2f}", value);
  return fmt::format("{:.3f}", value);
}

// Columns that UTF-8 text takes, near enough for tables of numbers and names.
size_t columns(std::string_view text) {
  return std::count_if(text.begin(), text.end(),
                       [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; });
}

}  // namespace

std::string format_bytes(int64_t bytes) {
  constexpr std::array<const char*, 5> kUnits{"B", "kB", "MB", "GB", "TB"};
  double value = static_cast<double>(bytes);
  size_t unit = 0;
  while (std::fabs(value) >= 999.5 && unit + 1 < kUnits.size()) {
    value /= 1000;
    ++unit;
  }
  return (unit == 0 ? std::to_string(bytes) : three_digits(value)) + " " + kUnits[unit];
}

std::string format_binary_bytes(int64_t bytes) {
  for (const auto& [unit, size] : std::array<std::pair<const char*, int64_t>, 3>{
           {{"GiB", int64_t{1} << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}}}) {
    if (bytes >= size && bytes % size == 0) return std::to_string(bytes / size) + unit;
  }
  return std::to_string(bytes);
}

std::string format_duration(std::chrono::nanoseconds duration) {
  using std::chrono::nanoseconds;
  for (const auto& [unit, size] :
       std::array<std::pair<const char*, nanoseconds>, 3>{{{"h", std::chrono::hours(1)},
                                                           {"m", std::chrono::minutes(1)},
                                                           {"s", std::chrono::seconds(1)}}}) {
    if (duration >= size && duration % size == nanoseconds::zero()) {
      return std::to_string(duration / size) + unit;
    }
  }
  return fmt::format("{}ms", static_cast<double>(duration.count()) / 1e6);
}

std::string format_milliseconds(double milliseconds) {
  return three_digits(milliseconds) + " ms";
}

std::string format_count(int64_t count) {
  std::string digits = std::to_string(count < 0 ? -count : count);
  for (size_t place = digits.size(); place > 3;) {
    place -= 3;
    digits.insert(place, ",");
  }
  return (count < 0 ? "-" : "") + digits;
}

std::string format_rate(double per_second) {
  return per_second >= 999.5 ? format_count(std::llround(per_second)) : three_digits(per_second);
}

std::string wrap(std::string_view text, size_t indent, size_t width) {
  std::string out;
  size_t column = indent;
  bool line_is_empty = true;
  while (!text.empty()) {
    const size_t end = std::min(text.find(' '), text.size());
    const std::string_view word = text.substr(0, end);
    if (!line_is_empty && column + 1 + columns(word) > width) {
      out += "\n" + std::string(indent, ' ');
      column = indent;
      line_is_empty = true;
    }
    if (!line_is_empty) {
      out += ' ';
      ++column;
    }
    out += word;
    column += columns(word);
    line_is_empty = false;
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return out + "\n";
}

std::string two_columns(std::string_view left, std::string_view right, size_t column,
                        size_t width) {
  std::string out(left);
  if (columns(left) + 2 > column) {
    out += "\n" + std::string(column, ' ');
  } else {
    out += std::string(column - columns(left), ' ');
  }
  return out + wrap(right, column, width);
}

std::string table(const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], columns(row[i]));
  }
  // A column of numbers stands to the right, its heading with it.
  std::vector<bool> is_number(widths.size(), rows.size() > 1);
  for (size_t r = 1; r < rows.size(); ++r) {
    for (size_t i = 0; i < rows[r].size(); ++i) {
      const bool digit =
          !rows[r][i].empty() && std::isdigit(static_cast<unsigned char>(rows[r][i][0]));
      is_number[i] = is_number[i] && (digit || rows[r][i] == "-");
    }
  }
  std::string out;
  for (const auto& row : rows) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      const std::string padding(widths[i] - columns(row[i]), ' ');
      line += (i == 0 ? "" : "  ") + (is_number[i] ? padding + row[i] : row[i] + padding);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + "\n";
  }
  return out;
}

}  // namespace sluice::cli
