#include "scheduler/sequence_list.h"

#include <algorithm>
#include <cassert>
#include <utility>

namespace sluice::scheduler {

void SequenceList::insert(std::unique_ptr<sequence::Sequence> sequence) {
  const uint64_t order = sequence->progress().order;
  const auto place = std::ranges::lower_bound(entries_, order, {}, &Entry::order);
  ++size_;
  if (place != entries_.end() && place->order == order) {
    assert(place->sequence == nullptr);
    place->sequence = std::move(sequence);  // back into the hole that it left
    return;
  }
  entries_.insert(place, Entry{order, std::move(sequence)});
}

std::unique_ptr<sequence::Sequence> SequenceList::take(const sequence::Sequence& sequence) {
  const auto place =
      std::ranges::lower_bound(entries_, sequence.progress().order, {}, &Entry::order);
  assert(place != entries_.end() && place->sequence.get() == &sequence);
  --size_;
  return std::move(place->sequence);
}

void SequenceList::compact() {
  if (static_cast<size_t>(size_) == entries_.size()) return;
  std::erase_if(entries_, [](const Entry& entry) { return entry.sequence == nullptr; });
}

}  // namespace sluice::scheduler
