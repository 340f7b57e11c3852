// Entry headers: what a shard knows of an entry, by its number.
//
// A header's memory is never given to anything else: whoever has an old number may pin it at any
// time and then look whose it is. So a reader pins first, and only then is anything known.
//
// The state word: pins, flags and deadline. Its life:
//
//   free           no flags. Taken by the holder of the shard's lock, who fills in the rest.
//   live           found, pinned, compared. Leaves that state only under the lock.
//   live, aside    an eviction met it pinned: the policy does not have it. The last pin to go
//                  takes the lock and puts it back.
//   busy           another block is put in its place; under the lock, for two stores. A reader
//                  who meets it looks again under the lock.
//   doomed         out of the table, still pinned. Whoever sees no pin on it may claim it.
//   claimed        one thread destroys key and value, and then frees the number under the lock.
//
// A pin counts only if the state was live when it was made: then nobody claims the entry before
// it is gone. Any other pin is taken back at once, and changes nothing but the count; it survives
// the freeing and reuse of the number, because flags change without touching the count. Each taken
// back looks at what it left: so the last one to leave a doomed entry destroys it, whoever it is.
#pragma once

#include <atomic>
#include <cstdint>

#include "cache/policy.hpp"
#include "cache/reserved_array.hpp"
#include "cache/short_float.hpp"
#include "forebay/cache.hpp"

namespace forebay::detail {

inline constexpr std::uint64_t kFlagMask = kLive | kDoomed | kClaimed | kAside | kBusy | kDetached;
inline constexpr int kDeadlineShift = 32;

// Charges are counted in units of this many bytes, rounded up.
inline constexpr std::uint64_t kChargeUnit = 16;

struct EntryHeader {
  std::atomic<std::uint64_t> state;
  void* block;
  std::uint64_t hash;   // free: the next free number
  std::uint32_t units;  // of its charge
  std::uint16_t cost;
  std::uint16_t utility;

  std::uint64_t charge() const noexcept { return units * kChargeUnit; }
  void describe(const EntryFacts& facts) noexcept {
    units = static_cast<std::uint32_t>(facts.bytes / kChargeUnit);
    cost = shortened(facts.cost);
    utility = shortened(facts.utility);
  }
  EntryFacts facts() const noexcept {
    return {hash, charge(), lengthened(cost), lengthened(utility)};
  }
};
static_assert(sizeof(EntryHeader) == 32);

// The headers of one shard: every n-th of the cache's, for n shards, so that the array is as dense
// as the cache is full. Thread safety: taking and freeing numbers needs the shard's lock.
class EntryHeaders {
 public:
  EntryHeaders(EntryHeader* first, std::uint32_t shard_bits, std::uint32_t most) noexcept
      : first_(first), shard_bits_(shard_bits), most_(most) {}

  EntryHeader& operator[](EntryId id) const noexcept {
    return first_[std::uint64_t{id} << shard_bits_];
  }

  // kNoEntry if all are taken.
  EntryId take() noexcept {
    if (free_ != kNoEntry) {
      const EntryId id = free_;
      free_ = static_cast<EntryId>((*this)[id].hash);
      return id;
    }
    return used_ == most_ ? kNoEntry : used_++;
  }
  // REQUIRES: the state is free.
  void give(EntryId id) noexcept {
    (*this)[id].hash = free_;
    free_ = id;
  }
  // Numbers below this one have been taken at some time.
  EntryId used() const noexcept { return used_; }

 private:
  EntryHeader* const first_;
  const std::uint32_t shard_bits_;
  const std::uint32_t most_;
  EntryId free_ = kNoEntry;
  EntryId used_ = 0;
};

}  // namespace forebay::detail
