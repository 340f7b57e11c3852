// CacheTable: from a hash to the numbers of entries that may have the key.
//
// Buckets of one cache line hold up to eight entries, by sixteen bits of the hash that take no
// part in choosing the bucket; more are in overflow buckets behind it. The table grows and
// shrinks by one bucket at a time (linear hashing, Litwin 1980) in reserved addresses: nothing is
// copied at large, nothing else moves, no reader waits.
//
// An entry stays in its slot but when its bucket is split or merged, and `shape` changes then. So
// a reader who found nothing and sees the same shape as before has seen every slot in which the
// key could have been all that time; otherwise it looks again. A hit needs no such check, since
// the pinned header is compared.
//
// Invariants:
//   1. an entry is in exactly one slot of the chain of its hash's bucket;
//   2. a slot is filled after the tag beside it, and emptied before it is filled again;
//   3. moved entries are in their new place before the shape changes, and leave their old one
//      after.
#pragma once

#include <atomic>
#include <bit>
#include <cstdint>

#include "cache/headers.hpp"
#include "cache/policy.hpp"
#include "cache/reserved_array.hpp"

namespace forebay::detail {

// Thread safety: visit() is for any thread; everything else needs the shard's lock.
class CacheTable {
 public:
  static constexpr std::uint32_t kSlots = 8;

  // Room for `most` entries at least. Throws std::bad_alloc.
  CacheTable(const EntryHeaders& headers, std::uint64_t most);

  std::uint64_t shape() const noexcept { return shape_.load(std::memory_order_acquire); }

  // Calls visit(slot, id) for each entry of the hash's chain whose tag fits, until it returns
  // true; whether it did.
  template <typename Visit>
  bool visit(std::uint64_t shape, std::uint64_t hash, Visit visit) const noexcept {
    const std::uint64_t pattern = tag_of(hash) * kLanes;
    for (const Bucket* bucket = &buckets_[index_of(shape, hash)];;) {
      for (std::uint64_t fits = fits_in(*bucket, pattern); fits != 0; fits &= fits - 1) {
        const auto& slot = slot_of(*bucket, fits);
        const std::uint32_t entry = slot.load(std::memory_order_acquire);
        if (entry != 0 && visit(slot, entry - 1)) return true;
      }
      const std::uint32_t next = bucket->next.load(std::memory_order_acquire);
      if (next == 0) return false;
      bucket = &overflow_[next];
    }
  }

  // The first that visit() would come to in the first bucket of the chain; kNoEntry: none is there.
  EntryId first_fit(std::uint64_t shape, std::uint64_t hash) const noexcept {
    const Bucket& bucket = buckets_[index_of(shape, hash)];
    const std::uint64_t fits = fits_in(bucket, tag_of(hash) * kLanes);
    return fits == 0 ? kNoEntry : slot_of(bucket, fits).load(std::memory_order_acquire) - 1;
  }

  // Makes sure that one more with this hash can be inserted. False if there is no bucket left.
  bool make_room(std::uint64_t hash) noexcept;
  // REQUIRES: make_room(hash), and nothing inserted since.
  void insert(std::uint64_t hash, EntryId id) noexcept;
  void erase(std::uint64_t hash, EntryId id) noexcept;
  void prefetch(std::uint64_t hash) const noexcept {
    __builtin_prefetch(&buckets_[index_of(shape(), hash)], 1);
  }
  // The bucket behind that one, if there is one. Waits for the first.
  void prefetch_overflow(std::uint64_t hash) const noexcept {
    const Bucket& first = buckets_[index_of(shape(), hash)];
    if (const Bucket* const next = next_of(first)) __builtin_prefetch(next, 1);
  }
  // What erase() of so many touches beside their own buckets: those that are merged then.
  void prefetch_merges(std::uint64_t leaving) const noexcept;
  // Puts another number into the slot of one: a reader finds either, never none.
  void replace(std::uint64_t hash, EntryId id, EntryId by) noexcept;

  std::uint64_t entries() const noexcept { return entries_; }
  std::uint64_t bytes() const noexcept { return (count() + overflow_used_ + 1) * sizeof(Bucket); }
  // Aborts unless the invariants hold.
  void validate() const;

 private:
  struct alignas(64) Bucket {
    std::atomic<std::uint64_t> tags[2];
    std::atomic<std::uint32_t> slots[kSlots];  // number + 1; 0: empty
    std::atomic<std::uint32_t> next;           // overflow bucket; 0: none
  };
  struct Place {
    Bucket* bucket = nullptr;
    std::uint32_t slot = 0;
  };

  static constexpr std::uint64_t kLanes = 0x0001'0001'0001'0001;
  static constexpr std::uint32_t kFewest = 16;  // buckets
  // Entries a bucket, on average, above which the table grows, and below which it shrinks.
  static constexpr std::uint64_t kFull = 6;
  static constexpr std::uint64_t kSparse = 3;

  static std::uint64_t tag_of(std::uint64_t hash) noexcept { return (hash >> 32) & 0xffff; }
  // Shape: how many times it changed, and the number of buckets.
  static std::uint32_t count_of(std::uint64_t shape) noexcept {
    return static_cast<std::uint32_t>(shape);
  }
  static std::uint32_t index_of(std::uint64_t shape, std::uint64_t hash) noexcept {
    const std::uint32_t count = count_of(shape);
    const std::uint32_t mask = ~std::uint32_t{0} >> std::countl_zero(count - 1);
    const std::uint32_t index = static_cast<std::uint32_t>(hash) & mask;
    // Without a branch, which would be wrong at random; index - half is index & half - 1.
    const std::uint32_t half = (mask >> 1) + 1;
    return index - (half & (std::uint32_t{index < count} - 1));
  }
  // The high bit of each lane that has the tag, and at times of the one above it.
  static std::uint64_t equal_lanes(const Bucket& bucket, std::uint32_t half,
                                   std::uint64_t pattern) noexcept {
    const std::uint64_t differ = bucket.tags[half].load(std::memory_order_acquire) ^ pattern;
    return (differ - kLanes) & ~differ & (kLanes << 15);
  }
  // A bit for each slot with the tag, the halves in one word: which of them has it is nothing that
  // a branch could guess.
  static std::uint64_t fits_in(const Bucket& bucket, std::uint64_t pattern) noexcept {
    return equal_lanes(bucket, 0, pattern) >> 1 | equal_lanes(bucket, 1, pattern);
  }
  // That of the lowest bit. REQUIRES: fits != 0.
  static const std::atomic<std::uint32_t>& slot_of(const Bucket& bucket,
                                                   std::uint64_t fits) noexcept {
    const auto bit = static_cast<std::uint32_t>(std::countr_zero(fits));
    return bucket.slots[bit % 2 * 4 + bit / 16];
  }
  static std::uint32_t merged_into(std::uint32_t last) noexcept {
    return last & (~std::uint32_t{0} >> std::countl_zero(last) >> 1);
  }
  std::uint32_t count() const noexcept { return count_of(shape()); }
  void set_shape(std::uint32_t count) noexcept;

  Place place_of(std::uint64_t hash, EntryId id) const noexcept;
  Place hole_before(Bucket& first, const Bucket* end) const noexcept;
  Place free_place(Bucket& first) noexcept;
  Bucket* next_of(const Bucket& bucket) const noexcept;
  static void fill(Place place, std::uint64_t tag, std::uint32_t entry) noexcept;
  // The tag beside an entry is as good as its header's hash, and is here already.
  static std::uint64_t tag_at(const Bucket& bucket, std::uint32_t slot) noexcept {
    return bucket.tags[slot / 4].load(std::memory_order_relaxed) >> slot % 4 * 16 & 0xffff;
  }
  bool add_to(Bucket& first, std::uint64_t tag, EntryId id) noexcept;
  template <typename Visit>
  void each_in(Bucket& first, Visit visit) const noexcept;
  void empty(Bucket& first) noexcept;
  void tidy(Bucket& first) noexcept;
  bool unlink_empty(Bucket& first) noexcept;
  static std::uint32_t gaps_in(const Bucket& bucket) noexcept;
  bool has_bucket_to_spare(Bucket& first) const noexcept;
  std::uint32_t take_overflow() noexcept;
  void grow() noexcept;
  void shrink() noexcept;

  const EntryHeaders& headers_;
  std::atomic<std::uint64_t> shape_{0};
  ReservedArray<Bucket> buckets_;
  ReservedArray<Bucket> overflow_;  // the first is not used
  std::uint32_t overflow_free_ = 0;
  std::uint32_t overflow_used_ = 0;
  std::uint64_t entries_ = 0;
};

}  // namespace forebay::detail
