#include "scheduler/sequence_list.h"

#include <algorithm>
#include <cassert>
#include <utility>

namespace sluice::scheduler {

void SequenceList::insert(std::unique_ptr<sequence::Sequence> sequence) {
  const Key key = key_of(*sequence);
  const auto place = std::ranges::lower_bound(entries_, key, {}, &Entry::key);
  ++size_;
  if (place != entries_.end() && place->key == key) {
    assert(place->sequence == nullptr);
    place->sequence = std::move(sequence);  // back into the hole that it left
    return;
  }
  entries_.insert(place, Entry{key, std::move(sequence)});
}

std::unique_ptr<sequence::Sequence> SequenceList::take(const sequence::Sequence& sequence) {
  const auto place = std::ranges::lower_bound(entries_, key_of(sequence), {}, &Entry::key);
  assert(place != entries_.end() && place->sequence.get() == &sequence);
  --size_;
  return std::move(place->sequence);
}

void SequenceList::compact() {
  if (static_cast<size_t>(size_) == entries_.size()) return;
  std::erase_if(entries_, [](const Entry& entry) { return entry.sequence == nullptr; });
}

}  // namespace sluice::scheduler
