#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "sequence/sequence.h"

namespace sluice::scheduler {

// Owns sequences in the order in which they go: by turn, of equal turns by arrival.
//
// Taking one leaves a hole, so that positions stay valid in a walk over the list; compact() closes
// the holes. Append and take cost O(log n), an insertion in the middle O(n).
class SequenceList final {
 public:
  // Positions from the insertion on move; none at the end. Requires: it is not in the list.
  void insert(std::unique_ptr<sequence::Sequence> sequence);
  // Requires: it is in the list.
  std::unique_ptr<sequence::Sequence> take(const sequence::Sequence& sequence);
  void compact();

  // The sequence at a position in [0, num_positions()); null for a hole.
  sequence::Sequence* at(size_t position) const { return entries_[position].sequence.get(); }
  size_t num_positions() const { return entries_.size(); }
  int32_t size() const { return size_; }

 private:
  struct Key {
    uint64_t turn;
    uint64_t order;
    auto operator<=>(const Key&) const = default;
  };
  static Key key_of(const sequence::Sequence& sequence) {
    return {sequence.progress().turn, sequence.progress().order};
  }
  struct Entry {
    Key key;
    std::unique_ptr<sequence::Sequence> sequence;
  };
  std::vector<Entry> entries_;  // ascending keys, holes included
  int32_t size_ = 0;
};

}  // namespace sluice::scheduler
