// EntryList: a doubly linked list of entries, newest to oldest, through an EntryTable's nodes.
//
// Several lists can share one table: an entry's links serve whichever list it is in.
#pragma once

#include <cstddef>
#include <vector>

#include "cache/entry_table.hpp"

namespace forebay::detail {

// A node of a list derives from this.
struct EntryLinks {
  EntryId newer = kNoEntry;
  EntryId older = kNoEntry;
};

// Every operation is O(1) and takes the table that all lists of the policy share.
// Invariant: newest_ and oldest_ are both kNoEntry or both in; links of neighbours agree.
// Thread safety: none.
template <typename Node>
class EntryList {
 public:
  using Table = EntryTable<Node>;

  EntryId newest() const noexcept { return newest_; }
  EntryId oldest() const noexcept { return oldest_; }
  std::size_t size() const noexcept { return size_; }
  bool empty() const noexcept { return newest_ == kNoEntry; }

  // REQUIRES: `id` is in no list.
  void add_newest(Table& nodes, EntryId id) noexcept {
    link(nodes, id, kNoEntry, newest_);
    ++size_;
  }
  void add_oldest(Table& nodes, EntryId id) noexcept {
    link(nodes, id, oldest_, kNoEntry);
    ++size_;
  }
  // REQUIRES: `id` is in this list.
  void remove(Table& nodes, EntryId id) noexcept {
    unlink(nodes, id);
    --size_;
  }
  void renew(Table& nodes, EntryId id) noexcept {
    if (id == newest_) return;
    unlink(nodes, id);
    link(nodes, id, kNoEntry, newest_);
  }

  // Oldest first.
  template <typename Call>
  void for_each(const Table& nodes, Call call) const {
    for (EntryId id = oldest_; id != kNoEntry; id = nodes[id].newer) call(id);
  }
  void append_to(const Table& nodes, std::vector<EntryId>& entries) const {
    entries.reserve(entries.size() + size_);
    for_each(nodes, [&entries](EntryId id) { entries.push_back(id); });
  }

 private:
  void link(Table& nodes, EntryId id, EntryId newer, EntryId older) noexcept {
    nodes[id].newer = newer;
    nodes[id].older = older;
    (newer == kNoEntry ? newest_ : nodes[newer].older) = id;
    (older == kNoEntry ? oldest_ : nodes[older].newer) = id;
  }
  void unlink(Table& nodes, EntryId id) noexcept {
    const EntryLinks links = nodes[id];
    (links.newer == kNoEntry ? newest_ : nodes[links.newer].older) = links.older;
    (links.older == kNoEntry ? oldest_ : nodes[links.older].newer) = links.newer;
  }

  EntryId newest_ = kNoEntry;
  EntryId oldest_ = kNoEntry;
  std::size_t size_ = 0;
};

}  // namespace forebay::detail
