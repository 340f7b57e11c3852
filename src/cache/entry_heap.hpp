// EntryHeap: entries by priority, the first to go at the top; any entry's priority can change.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

#include "cache/entry_table.hpp"

namespace forebay::detail {

// Slot has the entry's number as `id`, and operator< : what is less goes first. Four children a
// node: half the levels of a binary heap, and the children of one are neighbours in memory. What is
// often hit has a high priority, lies near the leaves, and moves little when it is hit again.
//
// Costs sizeof(Slot) + 4 bytes an entry. Thread safety: none.
template <typename Slot>
class EntryHeap {
 public:
  // Exceptions: std::bad_alloc, then nothing has changed.
  void make_room(EntryId id) {
    if (id >= slots_.capacity()) slots_.reserve(grown(id));
    positions_.make_room(id);
  }

  bool empty() const noexcept { return slots_.empty(); }
  std::size_t size() const noexcept { return slots_.size(); }
  const Slot& top() const noexcept { return slots_.front(); }  // REQUIRES: not empty
  // REQUIRES, like change() and remove(): the entry is in.
  const Slot& slot(EntryId id) const noexcept { return slots_[positions_[id]]; }

  // What change() of these touches first. REQUIRES: they are in.
  void fetch(std::span<const EntryId> entries) const noexcept {
    for (const EntryId id : entries) __builtin_prefetch(&positions_[id]);
    for (const EntryId id : entries) __builtin_prefetch(&slots_[positions_[id]], 1);
  }

  // As many as there is room for; how many.
  std::uint32_t some_near_top(std::span<EntryId> entries) const noexcept {
    const std::size_t count = std::min(entries.size(), slots_.size());
    for (std::size_t i = 0; i != count; ++i) entries[i] = slots_[i].id;
    return static_cast<std::uint32_t>(count);
  }

  // REQUIRES: make_room(slot.id) was called, and the entry is not in.
  void add(const Slot& slot) noexcept {
    slots_.push_back(slot);
    rise(slots_.size() - 1, slot);
  }
  void change(const Slot& slot) noexcept {
    const std::size_t at = positions_[slot.id];
    if (slot < slots_[at]) {
      rise(at, slot);
    } else {
      sink(at, slot);
    }
  }
  void remove(EntryId id) noexcept {
    const std::size_t hole = positions_[id];
    const Slot last = slots_.back();
    slots_.pop_back();
    if (hole == slots_.size()) return;
    slots_[hole] = last;
    positions_[last.id] = static_cast<EntryId>(hole);
    rise(hole, last);
    sink(positions_[last.id], last);
  }

  // The first to go first.
  void append_to(std::vector<EntryId>& entries) const {
    std::vector<Slot> sorted = slots_;
    std::sort(sorted.begin(), sorted.end());
    entries.reserve(entries.size() + sorted.size());
    for (const Slot& slot : sorted) entries.push_back(slot.id);
  }
  std::size_t metadata_bytes() const noexcept {
    return slots_.capacity() * sizeof(Slot) + positions_.metadata_bytes();
  }

 private:
  static constexpr std::size_t kChildren = 4;

  void place(std::size_t at, const Slot& slot) noexcept {
    slots_[at] = slot;
    positions_[slot.id] = static_cast<EntryId>(at);
  }
  void rise(std::size_t at, const Slot slot) noexcept {
    while (at != 0) {
      const std::size_t parent = (at - 1) / kChildren;
      if (!(slot < slots_[parent])) break;
      place(at, slots_[parent]);
      at = parent;
    }
    place(at, slot);
  }
  void sink(std::size_t at, const Slot slot) noexcept {
    for (;;) {
      const std::size_t first = at * kChildren + 1;
      if (first >= slots_.size()) break;
      const auto children = slots_.begin() + static_cast<std::ptrdiff_t>(first);
      const auto end =
          children + static_cast<std::ptrdiff_t>(std::min(kChildren, slots_.size() - first));
      const auto least = std::min_element(children, end);
      if (!(*least < slot)) break;
      place(at, *least);
      at = static_cast<std::size_t>(least - slots_.begin());
    }
    place(at, slot);
  }

  std::vector<Slot> slots_;
  EntryTable<EntryId> positions_;  // where in slots_, by number
};

}  // namespace forebay::detail
