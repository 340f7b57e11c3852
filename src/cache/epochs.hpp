// EpochLists: the entries of a shard by the epoch of their key, for keys that have one.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "cache/policy.hpp"
#include "cache/reserved_array.hpp"

namespace forebay::detail {

// Thread safety: none; the shard's lock is held.
class EpochLists {
 public:
  explicit EpochLists(std::uint32_t most_entries) noexcept : most_(most_entries) {}

  // Makes sure that link() of an entry of this epoch cannot fail. Throws std::bad_alloc.
  void prepare(std::uint64_t epoch);
  // REQUIRES: prepared; not linked.
  void link(EntryId id, std::uint64_t epoch) noexcept;
  // Does nothing if it is not linked.
  void unlink(EntryId id) noexcept;
  void prefetch(EntryId id) const noexcept {
    if (id < highest_) __builtin_prefetch(&(*links_)[id], 1);
  }
  // Some entries of an epoch before this one, as many as there is room for; how many. None: there
  // are none. Forgets epochs before it that are empty.
  std::uint32_t some_before(std::uint64_t epoch, std::span<EntryId> entries) noexcept;
  std::uint64_t bytes() const noexcept {
    return highest_ * sizeof(Link) + epochs_.size() * 64 + heads_.capacity() * 4;
  }

 private:
  struct Link {
    std::uint32_t next;      // number + 1; 0: last
    std::uint32_t previous;  // number + 1, or kFirst | list; 0: not linked
  };
  static constexpr std::uint32_t kFirst = 1U << 31;

  const std::uint32_t most_;
  std::unique_ptr<ReservedArray<Link>> links_;
  std::map<std::uint64_t, std::uint32_t> epochs_;  // their lists
  std::vector<std::uint32_t> heads_;               // of lists: number + 1
  std::vector<std::uint32_t> free_;                // lists of no epoch; room for all
  std::uint64_t highest_ = 0;
};

}  // namespace forebay::detail
