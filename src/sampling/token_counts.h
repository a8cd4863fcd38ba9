#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace sluice::sampling {

// How often each token occurs in one completion: what the penalties are computed from.
//
// Holds the tokens that occur, not the vocabulary. Threads: one.
class TokenCounts final {
 public:
  struct Entry {
    int32_t token_id;
    int32_t num_generated;  // 0: in the prompt only
  };

  // Room for the prompt's tokens and `num_generated` others; more makes it grow.
  void reserve(size_t num_prompt, size_t num_generated) {
    entries_.reserve(num_prompt + num_generated);
  }
  void add_prompt(std::span<const int32_t> token_ids);
  void add_generated(int32_t token_id);

  // By token id, ascending, each once.
  std::span<const Entry> entries() const { return entries_; }

 private:
  std::vector<Entry> entries_;
};

}  // namespace sluice::sampling
