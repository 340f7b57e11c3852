#include "cache/epochs.hpp"

#include <algorithm>

namespace forebay::detail {

void EpochLists::prepare(std::uint64_t epoch) {
  if (links_ == nullptr) links_ = std::make_unique<ReservedArray<Link>>(most_);
  if (epochs_.contains(epoch)) return;
  if (free_.empty()) {
    heads_.reserve(heads_.size() + 1);
    free_.reserve(heads_.capacity());
    heads_.push_back(0);
    free_.push_back(static_cast<std::uint32_t>(heads_.size() - 1));
  }
  epochs_.emplace(epoch, free_.back());
  free_.pop_back();
}

void EpochLists::link(EntryId id, std::uint64_t epoch) noexcept {
  const std::uint32_t list = epochs_.find(epoch)->second;
  std::uint32_t& head = heads_[list];
  (*links_)[id] = {head, kFirst | list};
  if (head != 0) (*links_)[head - 1].previous = id + 1;
  head = id + 1;
  highest_ = std::max<std::uint64_t>(highest_, id + 1ULL);
}

void EpochLists::unlink(EntryId id) noexcept {
  if (id >= highest_) return;
  Link& link = (*links_)[id];
  if (link.previous == 0) return;
  if ((link.previous & kFirst) != 0) {
    heads_[link.previous & ~kFirst] = link.next;
  } else {
    (*links_)[link.previous - 1].next = link.next;
  }
  if (link.next != 0) (*links_)[link.next - 1].previous = link.previous;
  link.previous = 0;
}

std::uint32_t EpochLists::some_before(std::uint64_t epoch, std::span<EntryId> entries) noexcept {
  while (!epochs_.empty() && epochs_.begin()->first < epoch) {
    const std::uint32_t list = epochs_.begin()->second;
    std::uint32_t count = 0;
    for (std::uint32_t at = heads_[list]; at != 0 && count != entries.size();
         at = (*links_)[at - 1].next) {
      entries[count++] = at - 1;
    }
    if (count != 0) return count;
    epochs_.erase(epochs_.begin());
    free_.push_back(list);
  }
  return 0;
}

}  // namespace forebay::detail
