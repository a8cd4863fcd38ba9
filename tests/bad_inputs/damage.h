#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

// Ways in which a file of a model's folder may be damaged.
namespace sluice::bad_inputs {

struct Damage {
  std::string what;  // for the test's message
  std::string bytes;
  bool must_fail = true;  // else it may be read as another good file
};

// Behind each of the format's borders (brackets, quotes, commas, colons, lines), at most `max_cuts`
// of them, evenly spread. Requires: text is JSON, or text in general with must_fail = false.
std::vector<Damage> cuts(std::string_view text, size_t max_cuts, bool must_fail);

// One to four flipped bits each.
std::vector<Damage> flips(std::string_view bytes, size_t count, uint64_t seed);

// What no JSON object survives: no content, other types, endless nesting, a key twice, bytes that
// are not UTF-8, text behind the end.
std::vector<Damage> json_damages(std::string_view text);

// A safetensors file's: cut in its length, its header, and at each tensor's borders; lengths that
// are too large, offsets that overlap, leave holes or the file, a tensor twice.
std::vector<Damage> safetensors_damages(std::string_view file);

}  // namespace sluice::bad_inputs
