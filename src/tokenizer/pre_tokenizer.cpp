#include "tokenizer/pre_tokenizer.h"

#include <algorithm>
#include <utility>

#include "base/utf8.h"
#include "tokenizer/recent_characters.h"
#include "tokenizer/unicode_forms.h"

namespace sluice::tokenizer {

PreTokenizer::Run::Run(const PreTokenizer& pre_tokenizer)
    : pre_tokenizer_(&pre_tokenizer), spaces_(pre_tokenizer.stages_.size()) {
  for (size_t i = 0; i < spaces_.size(); ++i) {
    const Stage& stage = pre_tokenizer.stages_[i];
    if (stage.pattern) spaces_[i].matcher = std::make_unique<Pattern::Matcher>(*stage.pattern);
  }
}

Result<void> PreTokenizer::Run::split(std::string_view text, bool is_first, Sink* sink) {
  const bool has_recent = has_recent_characters(text);
  for (StageSpace& space : spaces_) {
    if (space.matcher) space.matcher->expect_recent_characters(has_recent);
  }
  return run_stage(0, text, is_first, sink);
}

Result<void> PreTokenizer::Run::run_stage(size_t stage_idx, std::string_view text, bool is_first,
                                          Sink* sink) {
  if (text.empty()) return {};
  if (stage_idx == spaces_.size()) {
    sink->word(text);
    return {};
  }
  const Stage& stage = pre_tokenizer_->stages_[stage_idx];
  std::string changed;
  if (stage.replaces_spaces) {
    for (const char c : text) {
      if (c == ' ') {
        changed += stage.prefix_text;
      } else {
        changed += c;
      }
    }
    text = changed;
  }
  const bool wants_prefix =
      stage.prefix == Prefix::kAlways || (stage.prefix == Prefix::kFirst && is_first);
  if (wants_prefix && !text.starts_with(stage.prefix_text)) {
    changed = stage.prefix_text + std::string(text);
    text = changed;
  }
  if (!stage.pattern && !stage.splits_digits) {
    return run_stage(stage_idx + 1, text, is_first, sink);
  }
  if (auto found = find_segments(stage, text, &spaces_[stage_idx]); !found) return found;
  for (const Segment& segment : spaces_[stage_idx].segments) {
    const auto part = text.substr(segment.begin, segment.end - segment.begin);
    const bool is_part_first = is_first && segment.begin == 0;
    if (auto done = run_stage(stage_idx + 1, part, is_part_first, sink); !done) return done;
  }
  return {};
}

Result<void> PreTokenizer::Run::find_segments(const Stage& stage, std::string_view text,
                                              StageSpace* space) {
  std::vector<Segment>& segments = space->segments;
  segments.clear();
  if (stage.splits_digits) {
    find_digits(text, &segments);
  } else {
    for (size_t begin = 0; begin < text.size();) {
      const auto match = space->matcher->find(text, begin);
      if (!match) return std::unexpected(match.error());
      if (match->begin > begin) segments.push_back({begin, match->begin, false});
      if (match->end > match->begin) segments.push_back({match->begin, match->end, true});
      begin = match->end;
    }
  }
  if (stage.is_inverted) {
    for (Segment& segment : segments) segment.is_match = !segment.is_match;
  }
  merge_segments(stage.behavior, &segments);
  return {};
}

// Each number character is a match of its own.
void PreTokenizer::Run::find_digits(std::string_view text, std::vector<Segment>* segments) {
  size_t plain_begin = 0;
  for (size_t pos = 0; pos < text.size();) {
    size_t length = 0;
    const bool is_digit = is_numeric(decode_utf8_character(text.substr(pos), &length));
    if (is_digit) {
      if (plain_begin < pos) segments->push_back({plain_begin, pos, false});
      segments->push_back({pos, pos + length, true});
      plain_begin = pos + length;
    }
    pos += length;
  }
  if (plain_begin < text.size()) segments->push_back({plain_begin, text.size(), false});
}

void PreTokenizer::Run::merge_segments(Behavior behavior, std::vector<Segment>* segments) {
  if (behavior == Behavior::kIsolated) return;
  if (behavior == Behavior::kRemoved) {
    std::erase_if(*segments, [](const Segment& segment) { return segment.is_match; });
    return;
  }
  size_t count = 0;
  for (const Segment& segment : std::vector<Segment>(*segments)) {
    const Segment* last = count > 0 ? &(*segments)[count - 1] : nullptr;
    bool joins = false;
    if (last != nullptr) {
      switch (behavior) {
        case Behavior::kMergedWithPrevious:
          joins = segment.is_match && !last->is_match;
          break;
        case Behavior::kMergedWithNext:
          joins = !segment.is_match && last->is_match;
          break;
        default:
          joins = segment.is_match == last->is_match;
      }
    }
    if (joins) {
      // Later segments see the kind of the last part.
      (*segments)[count - 1].end = segment.end;
      (*segments)[count - 1].is_match = segment.is_match;
    } else {
      (*segments)[count++] = segment;
    }
  }
  segments->resize(count);
}

}  // namespace sluice::tokenizer
