#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::sequence {

// All stop strings of a request as one automaton, shared by its completions.
//
// Immutable. Threads: any. Memory: 1 KiB for each byte of the strings.
// Source: Aho and Corasick 1975, "Efficient string matching", doi:10.1145/360825.360855.
class StopStrings final {
 public:
  // Empty strings are skipped; equal ones count as the first.
  explicit StopStrings(std::vector<std::string> strings);

  const std::vector<std::string>& strings() const { return strings_; }

 private:
  friend class StopFilter;
  struct Node {
    std::array<int32_t, 256> next{};  // the automaton's step for each byte
    int32_t depth = 0;                // bytes of the longest prefix that the text now ends with
    int32_t hold = 0;    // bytes at the text's end that may still begin (and not yet are) a match
    int32_t match = -1;  // the longest string that ends here; -1: none
  };

  std::vector<std::string> strings_;
  std::vector<Node> nodes_;  // [0] is the root
};

// A stop string that was found.
struct StopMatch {
  int32_t string_idx = 0;  // in StopStrings::strings()
  // Tokens whose text came before the stop string's first byte: the rest touch it.
  int32_t num_tokens_before = 0;
};

// Lets a completion's text pass up to the first stop string.
//
// The text that ends up emitted does not depend on how it was cut into pieces: the stop string
// that ends first wins, among those that end together the longest. It is not part of the output.
// Text that may be the beginning of a stop string is held back, no more than that. O(bytes).
// Threads: one.
class StopFilter final {
 public:
  // Stop strings that end within the text of the first `min_tokens` tokens are plain text.
  StopFilter(std::shared_ptr<const StopStrings> strings, int32_t min_tokens);

  // Takes the text that came with the next token and returns what is certain now.
  // After a match: nothing.
  std::string push(std::string_view text);
  // Takes the last text, which no token brought (what a detokenizer still held), and returns it
  // with everything held back. Call once.
  std::string finish(std::string_view text);

  const std::optional<StopMatch>& match() const { return match_; }
  int32_t num_tokens() const { return num_tokens_; }
  int64_t held_bytes() const { return static_cast<int64_t>(held_.size()); }

 private:
  struct Piece {
    int64_t end = 0;  // offset in the whole text behind the piece's last byte
    int32_t token = 0;
  };
  std::string take(std::string_view text);
  void set_match(int32_t string_idx);

  std::shared_ptr<const StopStrings> strings_;
  int32_t min_tokens_;
  int32_t num_tokens_ = 0;
  int32_t node_ = 0;
  int64_t position_ = 0;       // bytes seen
  std::string held_;           // the last bytes seen, not emitted yet
  std::vector<Piece> pieces_;  // which token brought which of the held bytes
  std::optional<StopMatch> match_;
};

}  // namespace sluice::sequence
