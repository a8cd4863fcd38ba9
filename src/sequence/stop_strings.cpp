#include "sequence/stop_strings.h"

#include <algorithm>
#include <utility>

namespace sluice::sequence {

StopStrings::StopStrings(std::vector<std::string> strings) : strings_(std::move(strings)) {
  borders_.reserve(strings_.size());
  for (size_t i = 0; i < strings_.size(); ++i) {
    const std::string& string = strings_[i];
    std::vector<int32_t>& borders = borders_.emplace_back(string.size() + 1, 0);
    for (size_t k = 1; k < string.size(); ++k) borders[k + 1] = step(i, borders[k], string[k]);
  }
}

int32_t StopStrings::step(size_t i, int32_t matched, char byte) const {
  const std::string& string = strings_[i];
  while (matched > 0 && string[static_cast<size_t>(matched)] != byte) {
    matched = borders_[i][static_cast<size_t>(matched)];
  }
  return string[static_cast<size_t>(matched)] == byte ? matched + 1 : 0;
}

StopFilter::StopFilter(std::shared_ptr<const StopStrings> strings, int32_t min_tokens)
    : strings_(std::move(strings)), min_tokens_(min_tokens) {
  if (strings_ != nullptr) matched_.assign(strings_->strings().size(), 0);
}

std::string StopFilter::push(std::string_view text) {
  if (match_) return {};
  ++num_tokens_;
  return take(text);
}

std::string StopFilter::finish(std::string_view text) {
  if (match_) return {};
  std::string out = take(text);
  if (!match_) out += std::exchange(held_, {});
  return out;
}

std::string StopFilter::take(std::string_view text) {
  if (matched_.empty()) return std::string(text);
  std::string all = std::exchange(held_, {});
  size_t end = all.size();
  all += text;
  for (const char byte : text) {
    ++end;
    const int32_t found = advance(byte);
    if (found < 0 || num_tokens_ <= min_tokens_) continue;
    match_ = found;
    all.resize(end - strings_->strings()[static_cast<size_t>(found)].size());
    return all;
  }
  const auto num_held = static_cast<size_t>(*std::ranges::max_element(matched_));
  held_ = all.substr(all.size() - num_held);
  all.resize(all.size() - num_held);
  return all;
}

int32_t StopFilter::advance(char byte) {
  int32_t found = -1;
  size_t found_length = 0;
  for (size_t i = 0; i < matched_.size(); ++i) {
    const size_t length = strings_->strings()[i].size();
    if (length == 0) continue;
    matched_[i] = strings_->step(i, matched_[i], byte);
    if (static_cast<size_t>(matched_[i]) < length) continue;
    matched_[i] = strings_->longest_border(i);
    if (length > found_length) {
      found = static_cast<int32_t>(i);
      found_length = length;
    }
  }
  return found;
}

}  // namespace sluice::sequence
