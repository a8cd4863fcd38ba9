#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::sequence {

// All stop strings of a request, prepared for the search and shared by its completions.
//
// Immutable. Threads: any. Memory: about 5 bytes for each byte of the strings.
// Source: Knuth, Morris, Pratt 1977, "Fast pattern matching in strings", doi:10.1137/0206024.
class StopStrings final {
 public:
  // Empty strings never match; of equal ones the first counts.
  explicit StopStrings(std::vector<std::string> strings);

  const std::vector<std::string>& strings() const { return strings_; }

 private:
  friend class StopFilter;
  // Length of the longest beginning of string `i` that the text ends with, whole string included,
  // when it was `matched` bytes (not the whole string) before `byte` came.
  int32_t step(size_t i, int32_t matched, char byte) const;
  int32_t longest_border(size_t i) const { return borders_[i].back(); }

  std::vector<std::string> strings_;
  // borders_[i][k]: the longest proper beginning of string i that its first k bytes end with.
  std::vector<std::vector<int32_t>> borders_;
};

// Lets a completion's text pass up to the first stop string.
//
// The text that ends up emitted does not depend on how it was cut into pieces: the stop string
// that ends first wins, among those that end together the longest. It is not part of the output.
// Text that may be the beginning of a stop string is held back, no more than that.
// Time: O(bytes * stop strings), however they overlap.
// Threads: one.
class StopFilter final {
 public:
  // `strings` may be null: no stop strings. Stop strings that end within the text of the first
  // `min_tokens` tokens are plain text.
  StopFilter(std::shared_ptr<const StopStrings> strings, int32_t min_tokens);

  // Takes the text that came with the next token and returns what is certain now.
  // After a match: nothing.
  std::string push(std::string_view text);
  // Takes the last text, which no token brought (what a detokenizer still held), and returns it
  // with everything held back. Call once.
  std::string finish(std::string_view text);

  // Which of StopStrings::strings() was found.
  const std::optional<int32_t>& match() const { return match_; }
  int64_t held_bytes() const { return static_cast<int64_t>(held_.size()); }

 private:
  std::string take(std::string_view text);
  // The longest string that ends with `byte`, advancing all; -1 if none.
  int32_t advance(char byte);

  std::shared_ptr<const StopStrings> strings_;  // may be null
  int32_t min_tokens_;
  int32_t num_tokens_ = 0;
  std::vector<int32_t> matched_;  // [strings], bytes of each that the text ends with
  std::string held_;              // the last bytes seen, not emitted yet
  std::optional<int32_t> match_;
};

}  // namespace sluice::sequence
