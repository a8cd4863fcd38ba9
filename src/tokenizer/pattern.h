#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "sluice/error.h"

namespace sluice::tokenizer {

// A regular expression of a tokenizer.json, as the Oniguruma library of the reference reads it.
//
// Compiled with PCRE2 after a translation that accepts a small part of Oniguruma's syntax: what the
// two libraries understand differently is rewritten, what is rare is refused by name. No
// back-references, no recursion, no empty matches. Work per match is limited, so that a bad pattern
// ends in an error and not in a hang.
// Threads: any; a Matcher belongs to one.
class Pattern final {
 public:
  // kInvalidArgument or kUnimplemented, with the position in `expression` where possible.
  static Result<Pattern> compile(std::string_view expression);
  // Matches exactly `text`. Requires: text is not empty.
  static Result<Pattern> literal(std::string_view text);

  Pattern(Pattern&&) noexcept;
  Pattern& operator=(Pattern&&) noexcept;
  ~Pattern();

  struct Match {
    size_t begin = 0;
    size_t end = 0;  // begin == end: nothing was found
  };
  // Finds matches in well-formed UTF-8 text.
  class Matcher final {
   public:
    explicit Matcher(const Pattern& pattern);
    ~Matcher();
    Matcher(const Matcher&) = delete;
    Matcher& operator=(const Matcher&) = delete;

    // Whether the texts from now on may hold recent_ranges(): exact for all text, but slower.
    void expect_recent_characters(bool is_expected);

    // The first match at or after `begin`. kInvalidArgument if the search takes too many steps.
    Result<Match> find(std::string_view text, size_t begin);

   private:
    struct State;
    std::unique_ptr<State> state_;
  };

 private:
  struct Code;
  explicit Pattern(std::unique_ptr<Code> code);
  std::unique_ptr<Code> code_;
};

// The PCRE2 expression that means the same, for all text or for text without recent_ranges().
// Errors as Pattern::compile.
Result<std::string> translate_expression(std::string_view expression, bool with_recent_characters);

}  // namespace sluice::tokenizer
