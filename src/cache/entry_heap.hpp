// EntryHeap: entries by priority, the first to go at the top; any entry's priority can change.
#pragma once

#include <algorithm>
#include <cstddef>
#include <new>
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
    const std::size_t least = std::size_t{id} + kBefore;
    if (least >= slots_.capacity()) slots_.reserve(grown(least));
    positions_.make_room(id);
  }

  bool empty() const noexcept { return size() == 0; }
  std::size_t size() const noexcept { return slots_.empty() ? 0 : slots_.size() - kBefore; }
  const Slot& top() const noexcept { return at(0); }  // REQUIRES: not empty
  // REQUIRES, like change() and remove(): the entry is in.
  const Slot& slot(EntryId id) const noexcept { return at(positions_[id]); }

  // What change() of these touches first. REQUIRES: they are in.
  void fetch(std::span<const EntryId> entries) const noexcept {
    for (const EntryId id : entries) __builtin_prefetch(&positions_[id]);
    for (const EntryId id : entries) {
      __builtin_prefetch(&at(positions_[id]), 1);
      fetch_children(positions_[id]);
    }
  }
  // Some of the least, as many as there is room for, the first two in order; how many.
  std::uint32_t some_near_top(std::span<EntryId> entries) const noexcept {
    const std::size_t count = std::min(entries.size(), size());
    for (std::size_t i = 0; i != count; ++i) entries[i] = at(i).id;
    if (count > 1) {
      const std::size_t second = least_child(0);
      if (second < count) entries[second] = entries[1];
      entries[1] = at(second).id;
    }
    return static_cast<std::uint32_t>(count);
  }

  // REQUIRES: make_room(slot.id) was called, and the entry is not in.
  void add(const Slot& slot) noexcept {
    if (slots_.empty()) slots_.assign(kBefore, slot);
    slots_.push_back(slot);
    rise(size() - 1, slot);
  }
  void change(const Slot& slot) noexcept {
    const std::size_t place = positions_[slot.id];
    if (slot < at(place)) {
      rise(place, slot);
    } else {
      sink<false>(place, slot);
    }
  }
  void remove(EntryId id) noexcept {
    const std::size_t hole = positions_[id];
    const Slot last = slots_.back();
    slots_.pop_back();
    if (hole == size()) return;
    at(hole) = last;
    positions_[last.id] = static_cast<EntryId>(hole);
    rise(hole, last);
    sink<true>(positions_[last.id], last);
  }

  // The first to go first.
  void append_to(std::vector<EntryId>& entries) const {
    if (empty()) return;
    std::vector<Slot> sorted{slots_.begin() + kBefore, slots_.end()};
    std::sort(sorted.begin(), sorted.end());
    entries.reserve(entries.size() + sorted.size());
    for (const Slot& slot : sorted) entries.push_back(slot.id);
  }
  std::size_t metadata_bytes() const noexcept {
    return slots_.capacity() * sizeof(Slot) + positions_.metadata_bytes();
  }

 private:
  static constexpr std::size_t kChildren = 4;

  // Unused slots before the top: so the four children of a node, if 16 bytes each, are one line.
  static constexpr std::size_t kBefore = kChildren - 1;
  static constexpr std::size_t kLine = 64;

  template <typename T>
  struct InLines {
    using value_type = T;
    InLines() noexcept = default;
    template <typename Other>
    explicit InLines(const InLines<Other>&) noexcept {}
    T* allocate(std::size_t count) {
      return static_cast<T*>(::operator new (count * sizeof(T), std::align_val_t{kLine}));
    }
    void deallocate(T* from, std::size_t) noexcept {
      ::operator delete (from, std::align_val_t{kLine});
    }
    friend bool operator==(const InLines&, const InLines&) noexcept { return true; }
  };

  Slot& at(std::size_t place) noexcept { return slots_[place + kBefore]; }
  const Slot& at(std::size_t place) const noexcept { return slots_[place + kBefore]; }
  void put(std::size_t place, const Slot& slot) noexcept {
    at(place) = slot;
    positions_[slot.id] = static_cast<EntryId>(place);
  }
  void fetch_children(std::size_t place) const noexcept {
    const std::size_t first = place * kChildren + 1;
    if (first < size()) __builtin_prefetch(&at(first));
  }
  // REQUIRES: it has any.
  std::size_t least_child(std::size_t place) const noexcept {
    const std::size_t first = place * kChildren + 1;
    const std::size_t end = std::min(first + kChildren, size());
    std::size_t least = first;
    for (std::size_t child = first + 1; child < end; ++child) {
      if (at(child) < at(least)) least = child;
    }
    return least;
  }
  void rise(std::size_t place, const Slot slot) noexcept {
    while (place != 0) {
      const std::size_t parent = (place - 1) / kChildren;
      if (!(slot < at(parent))) break;
      put(place, at(parent));
      place = parent;
    }
    put(place, slot);
  }
  // `far`: it is likely to go down many levels, so the next one comes from memory while this one is
  // compared.
  template <bool far>
  void sink(std::size_t place, const Slot slot) noexcept {
    for (;;) {
      const std::size_t first = place * kChildren + 1;
      if (first >= size()) break;
      if constexpr (far) {
        for (std::size_t child = first; child != first + kChildren; ++child) fetch_children(child);
      }
      const std::size_t least = least_child(place);
      if (!(at(least) < slot)) break;
      put(place, at(least));
      place = least;
    }
    put(place, slot);
  }

  std::vector<Slot, InLines<Slot>> slots_;
  EntryTable<EntryId> positions_;  // where in slots_, by number
};

}  // namespace forebay::detail
