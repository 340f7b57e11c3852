// EntryList: a doubly linked list of entries, newest to oldest, through an EntryTable's nodes.
//
// Several lists can share one table: an entry's links serve whichever list it is in.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "cache/entry_table.hpp"

namespace forebay::detail {

// A node of a list is one of these, or derives from it. Numbers take 30 bits of each link; the
// other two, four together, are a mark of the policy's own.
class EntryLinks {
 public:
  EntryId newer() const noexcept { return number(newer_); }
  EntryId older() const noexcept { return number(older_); }
  void set_newer(EntryId id) noexcept { newer_ = id << kMarkBits | (newer_ & kMarkMask); }
  void set_older(EntryId id) noexcept { older_ = id << kMarkBits | (older_ & kMarkMask); }

  unsigned mark() const noexcept {
    return (newer_ & kMarkMask) | (older_ & kMarkMask) << kMarkBits;
  }
  // REQUIRES: mark < 16.
  void set_mark(unsigned mark) noexcept {
    newer_ = (newer_ & ~kMarkMask) | (mark & kMarkMask);
    older_ = (older_ & ~kMarkMask) | mark >> kMarkBits;
  }

 private:
  static constexpr unsigned kMarkBits = 2;
  static constexpr std::uint32_t kMarkMask = 3;

  // Shifted with its sign, so that "none" stays it.
  static EntryId number(std::uint32_t link) noexcept {
    return static_cast<EntryId>(static_cast<std::int32_t>(link) >> kMarkBits);
  }

  std::uint32_t newer_ = kNoEntry << kMarkBits;
  std::uint32_t older_ = kNoEntry << kMarkBits;
};
static_assert(sizeof(EntryLinks) == 8);

// Every operation is O(1) and takes the table that all lists of the policy share. Marks stay as
// they are.
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

  // What renew() of these touches.
  static void fetch(const Table& nodes, std::span<const EntryId> entries) noexcept {
    for (const EntryId id : entries) __builtin_prefetch(&nodes[id], 1);
    for (const EntryId id : entries) {
      const EntryId newer = nodes[id].newer();
      const EntryId older = nodes[id].older();
      if (newer != kNoEntry) __builtin_prefetch(&nodes[newer], 1);
      if (older != kNoEntry) __builtin_prefetch(&nodes[older], 1);
    }
  }

  // The oldest, as many as there is room for; how many.
  std::uint32_t some_oldest(const Table& nodes, std::span<EntryId> entries) const noexcept {
    return some_from(nodes, oldest_, entries);
  }
  // The same from an entry on, which may be kNoEntry.
  static std::uint32_t some_from(const Table& nodes, EntryId id,
                                 std::span<EntryId> entries) noexcept {
    std::uint32_t count = 0;
    for (; id != kNoEntry && count != entries.size(); id = nodes[id].newer()) entries[count++] = id;
    return count;
  }

  // Oldest first.
  template <typename Call>
  void for_each(const Table& nodes, Call call) const {
    for (EntryId id = oldest_; id != kNoEntry; id = nodes[id].newer()) call(id);
  }
  void append_to(const Table& nodes, std::vector<EntryId>& entries) const {
    entries.reserve(entries.size() + size_);
    for_each(nodes, [&entries](EntryId id) { entries.push_back(id); });
  }

 private:
  void link(Table& nodes, EntryId id, EntryId newer, EntryId older) noexcept {
    nodes[id].set_newer(newer);
    nodes[id].set_older(older);
    if (newer == kNoEntry) {
      newest_ = id;
    } else {
      nodes[newer].set_older(id);
    }
    if (older == kNoEntry) {
      oldest_ = id;
    } else {
      nodes[older].set_newer(id);
    }
  }
  void unlink(Table& nodes, EntryId id) noexcept {
    const EntryId newer = nodes[id].newer();
    const EntryId older = nodes[id].older();
    if (newer == kNoEntry) {
      newest_ = older;
    } else {
      nodes[newer].set_older(older);
    }
    if (older == kNoEntry) {
      oldest_ = newer;
    } else {
      nodes[older].set_newer(newer);
    }
  }

  EntryId newest_ = kNoEntry;
  EntryId oldest_ = kNoEntry;
  std::size_t size_ = 0;
};

}  // namespace forebay::detail
