#include "tests/fuzz/mutator.h"

#include <algorithm>
#include <array>

namespace sluice::fuzz {
namespace {

constexpr std::array<std::string_view, 19> kNumbers = {"0",
                                                       "1",
                                                       "-1",
                                                       "2",
                                                       "7",
                                                       "255",
                                                       "256",
                                                       "65536",
                                                       "2147483647",
                                                       "2147483648",
                                                       "4194303",
                                                       "4294967295",
                                                       "4294967296",
                                                       "9223372036854775807",
                                                       "9223372036854775808",
                                                       "18446744073709551615",
                                                       "1e999",
                                                       "-0.5",
                                                       "100000001"};

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

}  // namespace

uint64_t Random::next() {
  state_ += 0x9E3779B97F4A7C15ULL;
  uint64_t z = state_;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
  return z ^ (z >> 31);
}

std::string Mutator::make(std::span<const std::string> corpus) {
  std::string input = corpus[random_.below(corpus.size())];
  for (size_t left = 1 + random_.below(6); left > 0; --left) change(&input, corpus);
  if (input.size() > max_bytes_) input.resize(max_bytes_);
  return input;
}

void Mutator::change(std::string* input, std::span<const std::string> corpus) {
  switch (random_.below(10)) {
    case 0:
    case 1:
      flip(input);
      break;
    case 2:
      erase(input);
      break;
    case 3:
      copy_within(input);
      break;
    case 4:
    case 5:
      replace_number(input);
      break;
    case 6:
    case 7:
      insert_word(input);
      break;
    case 8:
      splice(input, corpus[random_.below(corpus.size())]);
      break;
    default:
      input->insert(place(*input), 1, static_cast<char>(random_.next()));
  }
}

void Mutator::flip(std::string* input) {
  if (input->empty()) return;
  char& byte = (*input)[random_.below(input->size())];
  if (random_.below(2) == 0) {
    byte = static_cast<char>(byte ^ (1 << random_.below(8)));
  } else {
    byte = (*input)[random_.below(input->size())];
  }
}

void Mutator::erase(std::string* input) {
  if (input->empty()) return;
  const size_t begin = random_.below(input->size());
  if (random_.below(8) == 0) {
    input->resize(begin);
  } else {
    input->erase(begin, 1 + random_.below(random_.below(2) == 0 ? 4 : 64));
  }
}

void Mutator::copy_within(std::string* input) {
  if (input->empty()) return;
  const size_t begin = random_.below(input->size());
  const std::string part = input->substr(begin, 1 + random_.below(48));
  size_t times = random_.below(16) == 0 ? 1 + random_.below(400) : 1;
  times = std::min(times, max_bytes_ / part.size());
  std::string all;
  while (times-- > 0) all += part;
  input->insert(place(*input), all);
}

void Mutator::replace_number(std::string* input) {
  if (input->empty()) return;
  size_t begin = random_.below(input->size());
  while (begin < input->size() && !is_digit((*input)[begin])) ++begin;
  size_t end = begin;
  while (end < input->size() && is_digit((*input)[end])) ++end;
  input->replace(begin, end - begin, kNumbers[random_.below(kNumbers.size())]);
}

void Mutator::insert_word(std::string* input) {
  if (dictionary_.empty()) return;
  const std::string_view word = dictionary_[random_.below(dictionary_.size())];
  const size_t begin = place(*input);
  const size_t length = random_.below(2) == 0 ? 0 : std::min(word.size(), input->size() - begin);
  input->replace(begin, length, word);
}

void Mutator::splice(std::string* input, std::string_view other) {
  if (other.empty()) return;
  const std::string_view part = other.substr(random_.below(other.size()), 1 + random_.below(256));
  const size_t begin = place(*input);
  input->replace(begin, random_.below(2) == 0 ? 0 : part.size(), part);
}

}  // namespace sluice::fuzz
