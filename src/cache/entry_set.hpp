// EntrySet: entries in no order, to draw from.
#pragma once

#include <cstddef>
#include <vector>

#include "cache/entry_table.hpp"

namespace forebay::detail {

// Costs 8 bytes an entry. Thread safety: none.
class EntrySet {
 public:
  // Exceptions: std::bad_alloc, then nothing has changed.
  void make_room(EntryId id) {
    if (id >= entries_.capacity()) entries_.reserve(grown(id));
    positions_.make_room(id);
  }

  std::size_t size() const noexcept { return entries_.size(); }
  EntryId operator[](std::size_t position) const noexcept { return entries_[position]; }
  // By position.
  const std::vector<EntryId>& entries() const noexcept { return entries_; }

  // REQUIRES: make_room(id) was called, and the entry is not in.
  void add(EntryId id) noexcept {
    positions_[id] = static_cast<EntryId>(entries_.size());
    entries_.push_back(id);
  }
  // The last takes its position. REQUIRES: it is in.
  void remove(EntryId id) noexcept {
    const EntryId last = entries_.back();
    entries_[positions_[id]] = last;
    positions_[last] = positions_[id];
    entries_.pop_back();
  }

  std::size_t metadata_bytes() const noexcept {
    return entries_.capacity() * sizeof(EntryId) + positions_.metadata_bytes();
  }

 private:
  std::vector<EntryId> entries_;
  EntryTable<EntryId> positions_;
};

}  // namespace forebay::detail
