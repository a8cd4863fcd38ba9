#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::cli {

// Numbers for people: short, with a unit, the same everywhere.

// Powers of 1000, three digits: "13.5 GB", "512 B".
std::string format_bytes(int64_t bytes);
// Powers of 1024 when they come out even ("4MiB"), else the plain number: can be typed back.
std::string format_binary_bytes(int64_t bytes);
// The largest unit that comes out even: "30s", "10m", "1500ms": can be typed back.
std::string format_duration(std::chrono::nanoseconds duration);
// Milliseconds with as many decimals as carry meaning: "0.042 ms", "12.3 ms", "1234 ms".
std::string format_milliseconds(double milliseconds);
// "1,234,567".
std::string format_count(int64_t count);
// "41.3", "1,234".
std::string format_rate(double per_second);

// Text in lines of at most `width` columns, each after the first indented; ends with a newline.
std::string wrap(std::string_view text, size_t indent, size_t width);
// `left`, then `right` from `column` on, wrapped; ends with a newline.
std::string two_columns(std::string_view left, std::string_view right, size_t column, size_t width);

// Rows of cells, each column as wide as its widest cell, two spaces between; the first row is the
// heading. Numbers (cells that start with a digit) stand to the right.
std::string table(const std::vector<std::vector<std::string>>& rows);

}  // namespace sluice::cli
