#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::fuzz {

// Steele et al. 2014.
class Random final {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t next();
  size_t below(size_t limit) { return static_cast<size_t>(next() % limit); }  // limit > 0

 private:
  uint64_t state_;
};

// Changes inputs at random: bits, bytes, ranges, numbers, words of a dictionary, parts of others.
class Mutator final {
 public:
  Mutator(uint64_t seed, std::span<const std::string_view> dictionary, size_t max_bytes)
      : random_(seed), dictionary_(dictionary), max_bytes_(max_bytes) {}

  // One of `corpus`, which must not be empty, changed in one to six places.
  std::string make(std::span<const std::string> corpus);

 private:
  void change(std::string* input, std::span<const std::string> corpus);
  void flip(std::string* input);
  void erase(std::string* input);
  void copy_within(std::string* input);
  void replace_number(std::string* input);
  void insert_word(std::string* input);
  void splice(std::string* input, std::string_view other);
  size_t place(const std::string& input) { return random_.below(input.size() + 1); }

  Random random_;
  std::span<const std::string_view> dictionary_;
  size_t max_bytes_;
};

}  // namespace sluice::fuzz
