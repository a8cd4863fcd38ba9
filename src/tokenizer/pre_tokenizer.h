#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "sluice/error.h"
#include "tokenizer/pattern.h"

namespace sluice::tokenizer {

// Splits text into the words within which byte-pair encoding merges.
//
// Threads: any; a Run belongs to one.
class PreTokenizer final {
 public:
  // `json` is the file's "pre_tokenizer" (null: the whole text is one word). kUnimplemented names
  // what is not supported: all types but Split, ByteLevel, Digits, Metaspace and Sequence.
  // `add_prefix_space` replaces ByteLevel's own if the configuration has one.
  static Result<PreTokenizer> create(const Json& json, std::optional<bool> add_prefix_space);

  // True if words are to be spelled in bytes rather than characters.
  bool is_byte_level() const { return is_byte_level_; }

  // Takes the words one after the other.
  class Sink {
   public:
    virtual ~Sink() = default;
    virtual void word(std::string_view word) = 0;  // never empty
  };

  // One encode call's work space.
  class Run;

 private:
  friend class PreTokenizerReader;

  // What becomes of the matches of a pattern.
  enum class Behavior : uint8_t {
    kRemoved,
    kIsolated,
    kMergedWithPrevious,
    kMergedWithNext,
    kContiguous,
  };
  enum class Prefix : uint8_t { kNever, kFirst, kAlways };
  struct Stage {
    std::unique_ptr<Pattern> pattern;  // null: no split, or one by digits
    bool splits_digits = false;
    Behavior behavior = Behavior::kIsolated;
    bool is_inverted = false;
    Prefix prefix = Prefix::kNever;  // puts `prefix_text` before text that does not start with it
    std::string prefix_text;
    bool replaces_spaces = false;  // by `prefix_text`
  };

  std::vector<Stage> stages_;
  bool is_byte_level_ = false;
};

// Not thread-safe, and bound to a PreTokenizer that outlives it.
class PreTokenizer::Run final {
 public:
  explicit Run(const PreTokenizer& pre_tokenizer);
  // `is_first`: `text` is the beginning of what the user gave. kInvalidArgument if the text takes
  // too many steps.
  Result<void> split(std::string_view text, bool is_first, Sink* sink);

 private:
  struct Segment {
    size_t begin;
    size_t end;
    bool is_match;
  };
  struct StageSpace {
    std::unique_ptr<Pattern::Matcher> matcher;
    std::vector<Segment> segments;
  };
  Result<void> run_stage(size_t stage_idx, std::string_view text, bool is_first, Sink* sink);
  static Result<void> find_segments(const Stage& stage, std::string_view text, StageSpace* space);
  static void find_digits(std::string_view text, std::vector<Segment>* segments);
  static void merge_segments(Behavior behavior, std::vector<Segment>* segments);

  const PreTokenizer* pre_tokenizer_;
  std::vector<StageSpace> spaces_;  // one per stage
};

}  // namespace sluice::tokenizer
