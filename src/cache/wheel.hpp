// TimerWheel: the entries of a shard that have a deadline, by when they are to be looked at.
//
// A hierarchical timing wheel (Varghese & Lauck, SOSP 1987): six levels of 64 slots. An entry goes
// into the slot where its deadline first differs from the present, and moves down a level, at
// most five times, when that slot comes up. Slots that are empty are skipped by a word of bits.
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <memory>

#include "cache/policy.hpp"
#include "cache/reserved_array.hpp"

namespace forebay::detail {

// A tick of the wheel, as a power of two of nanoseconds: 8.4 ms.
inline constexpr int kTickShift = 23;

// Thread safety: none; the shard's lock is held.
class TimerWheel {
 public:
  static constexpr std::uint64_t kNever = std::numeric_limits<std::uint64_t>::max();

  explicit TimerWheel(std::uint32_t most_entries) noexcept : most_(most_entries) {}

  // Takes the addresses for links: before the first link(). Throws std::bad_alloc.
  void prepare();
  // REQUIRES: prepared; not linked. A deadline that has passed is due at once.
  void link(EntryId id, std::uint64_t deadline) noexcept;
  // Does nothing if it is not linked.
  void unlink(EntryId id) noexcept;
  void prefetch(EntryId id) const noexcept {
    if (id < highest_) __builtin_prefetch(&(*links_)[id], 1);
  }

  // Takes out entries whose deadline, as deadline_of(id) says, is at or before `now`, and calls
  // due(id) for each, with at most `work` entries taken out or moved down. Whether there may be
  // more. due() must not touch the wheel, but for unlink() of the same entry.
  template <typename DeadlineOf, typename Due>
  bool advance(std::uint64_t now, std::uint32_t work, DeadlineOf deadline_of, Due due);
  // When advance() has something to do; kNever: nothing is linked.
  std::uint64_t next_due() const noexcept;
  std::uint64_t linked() const noexcept { return linked_; }
  std::uint64_t bytes() const noexcept { return highest_ * sizeof(Link); }

 private:
  static constexpr int kLevels = 6;
  static constexpr std::uint32_t kSlots = 64;

  struct Link {
    std::uint32_t next;      // number + 1; 0: last
    std::uint32_t previous;  // number + 1, or kFirst | slot; 0: not linked
  };
  static constexpr std::uint32_t kFirst = 1U << 31;

  struct Next {
    int level = -1;
    std::uint32_t slot = 0;
    std::uint64_t start = kNever;
  };
  Next next() const noexcept;
  EntryId first_of(const Next& at) const noexcept {
    return heads_[static_cast<std::size_t>(at.level) * kSlots + at.slot] - 1;
  }

  const std::uint32_t most_;
  std::unique_ptr<ReservedArray<Link>> links_;
  std::array<std::uint32_t, std::size_t{kLevels} * kSlots> heads_{};  // number + 1
  std::array<std::uint64_t, kLevels> filled_{};
  std::uint64_t now_ = 0;
  std::uint64_t linked_ = 0;
  std::uint64_t highest_ = 0;
};

template <typename DeadlineOf, typename Due>
bool TimerWheel::advance(std::uint64_t now, std::uint32_t work, DeadlineOf deadline_of, Due due) {
  for (; work != 0; --work) {
    const Next at = next();
    if (at.start > now) {
      now_ = now > now_ ? now : now_;
      return false;
    }
    if (at.start > now_) now_ = at.start;
    const EntryId id = first_of(at);
    const std::uint64_t deadline = deadline_of(id);
    unlink(id);
    if (deadline <= now) {
      due(id);
    } else {
      link(id, deadline);
    }
  }
  return true;
}

}  // namespace forebay::detail
