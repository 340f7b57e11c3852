#include "cache/table.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include "forebay/check.hpp"

namespace forebay::detail {
namespace {

std::uint64_t most_buckets(std::uint64_t most_entries, std::uint64_t full) noexcept {
  return std::max<std::uint64_t>(most_entries / full + 1, 16);
}

}  // namespace

// With all hashes alike each eight entries take an overflow bucket.
CacheTable::CacheTable(const EntryHeaders& headers, std::uint64_t most)
    : headers_(headers), buckets_(most_buckets(most, kFull)), overflow_(most / kSlots + 2) {
  set_shape(kFewest);
}

void CacheTable::set_shape(std::uint32_t count) noexcept {
  const std::uint64_t changes = (shape_.load(std::memory_order_relaxed) >> 32) + 1;
  shape_.store(changes << 32 | count, std::memory_order_release);
}

CacheTable::Bucket* CacheTable::next_of(const Bucket& bucket) const noexcept {
  const std::uint32_t next = bucket.next.load(std::memory_order_relaxed);
  return next == 0 ? nullptr : &overflow_[next];
}

CacheTable::Place CacheTable::place_of(std::uint64_t hash, EntryId id) const noexcept {
  for (Bucket* bucket = &buckets_[index_of(shape(), hash)]; bucket != nullptr;
       bucket = next_of(*bucket)) {
    for (std::uint32_t slot = 0; slot != kSlots; ++slot) {
      if (bucket->slots[slot].load(std::memory_order_relaxed) == id + 1) return {bucket, slot};
    }
  }
  FOREBAY_CHECK(false, "an entry of the cache is not in its table");
  return {};
}

std::uint32_t CacheTable::take_overflow() noexcept {
  if (overflow_free_ != 0) {
    const std::uint32_t index = overflow_free_;
    overflow_free_ = overflow_[index].next.load(std::memory_order_relaxed);
    overflow_[index].next.store(0, std::memory_order_relaxed);
    return index;
  }
  return overflow_used_ + 1 == overflow_.size() ? 0 : ++overflow_used_;
}

// An empty slot of the chain before a bucket of it.
CacheTable::Place CacheTable::hole_before(Bucket& first, const Bucket* end) const noexcept {
  for (Bucket* bucket = &first; bucket != end; bucket = next_of(*bucket)) {
    for (std::uint32_t slot = 0; slot != kSlots; ++slot) {
      if (bucket->slots[slot].load(std::memory_order_relaxed) == 0) return {bucket, slot};
    }
  }
  return {};
}

// An empty slot of the chain, with a bucket more at its end if there is none.
CacheTable::Place CacheTable::free_place(Bucket& first) noexcept {
  if (const Place hole = hole_before(first, nullptr); hole.bucket != nullptr) return hole;
  const std::uint32_t index = take_overflow();
  if (index == 0) return {};
  Bucket* last = &first;
  while (Bucket* const next = next_of(*last)) last = next;
  last->next.store(index, std::memory_order_release);
  return {&overflow_[index], 0};
}

void CacheTable::fill(Place place, std::uint64_t tag, std::uint32_t entry) noexcept {
  auto& tags = place.bucket->tags[place.slot / 4];
  const std::uint32_t shift = place.slot % 4 * 16;
  const std::uint64_t others =
      tags.load(std::memory_order_relaxed) & ~(std::uint64_t{0xffff} << shift);
  tags.store(others | tag << shift, std::memory_order_release);
  place.bucket->slots[place.slot].store(entry, std::memory_order_release);
}

bool CacheTable::add_to(Bucket& first, std::uint64_t tag, EntryId id) noexcept {
  const Place place = free_place(first);
  if (place.bucket == nullptr) return false;
  fill(place, tag, id + 1);
  return true;
}

bool CacheTable::make_room(std::uint64_t hash) noexcept {
  return free_place(buckets_[index_of(shape(), hash)]).bucket != nullptr;
}

void CacheTable::insert(std::uint64_t hash, EntryId id) noexcept {
  fill(free_place(buckets_[index_of(shape(), hash)]), tag_of(hash), id + 1);
  if (++entries_ > kFull * count()) grow();
}

std::uint32_t CacheTable::gaps_in(const Bucket& bucket) noexcept {
  std::uint32_t gaps = 0;
  for (const auto& slot : bucket.slots) {
    if (slot.load(std::memory_order_relaxed) == 0) ++gaps;
  }
  return gaps;
}

// Whether the chain would fit, with a slot to spare, into a bucket less.
bool CacheTable::has_bucket_to_spare(Bucket& first) const noexcept {
  // With fewer gaps in the first bucket what is behind it need not be looked at: a chain of two has
  // none to spare then, but for an overflow bucket that is empty, which the next erasure finds.
  constexpr std::uint32_t kGaps = 2;
  if (next_of(first) == nullptr || gaps_in(first) < kGaps) return false;
  std::uint32_t empty = 0;
  for (const Bucket* bucket = &first; bucket != nullptr; bucket = next_of(*bucket)) {
    empty += gaps_in(*bucket);
  }
  return empty > kSlots;
}

void CacheTable::erase(std::uint64_t hash, EntryId id) noexcept {
  const Place place = place_of(hash, id);
  place.bucket->slots[place.slot].store(0, std::memory_order_release);
  Bucket& first = buckets_[index_of(shape(), hash)];
  if (has_bucket_to_spare(first)) tidy(first);
  if (--entries_ < kSparse * count()) shrink();
}

void CacheTable::prefetch_merges(std::uint64_t leaving) const noexcept {
  const std::uint32_t made = count();
  const std::uint64_t sparse = kSparse * made;
  const std::uint64_t left = entries_ - std::min(entries_, leaving);
  if (left >= sparse || made <= kFewest) return;
  const std::uint64_t merges = (sparse - left + kSparse - 1) / kSparse;
  const std::uint32_t end =
      made - static_cast<std::uint32_t>(std::min<std::uint64_t>(merges, made - kFewest));
  for (std::uint32_t last = made - 1; last >= end && last >= kFewest; --last) {
    __builtin_prefetch(&buckets_[last], 1);
    __builtin_prefetch(&buckets_[merged_into(last)], 1);
  }
}

void CacheTable::replace(std::uint64_t hash, EntryId id, EntryId by) noexcept {
  const Place place = place_of(hash, id);
  place.bucket->slots[place.slot].store(by + 1, std::memory_order_release);
}

template <typename Visit>
void CacheTable::each_in(Bucket& first, Visit visit) const noexcept {
  for (Bucket* bucket = &first; bucket != nullptr; bucket = next_of(*bucket)) {
    for (std::uint32_t slot = 0; slot != kSlots; ++slot) {
      const std::uint32_t entry = bucket->slots[slot].load(std::memory_order_relaxed);
      if (entry != 0) visit(*bucket, slot, entry - 1);
    }
  }
}

// Frees the overflow buckets of a chain that no reader with the present shape looks at.
void CacheTable::empty(Bucket& first) noexcept {
  each_in(first, [](Bucket& bucket, std::uint32_t slot, EntryId) {
    bucket.slots[slot].store(0, std::memory_order_release);
  });
  std::uint32_t index = first.next.exchange(0, std::memory_order_acq_rel);
  while (index != 0) {
    const std::uint32_t next = overflow_[index].next.load(std::memory_order_relaxed);
    overflow_[index].next.store(overflow_free_, std::memory_order_release);
    overflow_free_ = std::exchange(index, next);
  }
}

// Moves what is in overflow buckets to empty slots before them, and frees what that empties. The
// shape changes between an entry's arrival and its leaving (tests/model/split.pml shows why), and
// again before a bucket that a reader may be in is used for others.
void CacheTable::tidy(Bucket& first) noexcept {
  std::array<Place, std::size_t{4} * kSlots> left;  // more stay where they are, for another time
  std::size_t moved = 0;
  for (Bucket* bucket = next_of(first); bucket != nullptr; bucket = next_of(*bucket)) {
    for (std::uint32_t slot = 0; slot != kSlots && moved != left.size(); ++slot) {
      const std::uint32_t entry = bucket->slots[slot].load(std::memory_order_relaxed);
      if (entry == 0) continue;
      const Place place = hole_before(first, bucket);
      if (place.bucket == nullptr) break;
      fill(place, tag_at(*bucket, slot), entry);
      left[moved++] = {bucket, slot};
    }
  }
  if (moved != 0) set_shape(count());
  for (std::size_t i = 0; i != moved; ++i) {
    left[i].bucket->slots[left[i].slot].store(0, std::memory_order_release);
  }
  if (unlink_empty(first)) set_shape(count());
}

// Frees the overflow buckets of a chain that hold nothing; whether there were any.
bool CacheTable::unlink_empty(Bucket& first) noexcept {
  bool any = false;
  for (Bucket* before = &first; Bucket* const bucket = next_of(*before);) {
    bool is_empty = true;
    for (const auto& slot : bucket->slots) {
      is_empty = is_empty && slot.load(std::memory_order_relaxed) == 0;
    }
    if (!is_empty) {
      before = bucket;
      continue;
    }
    any = true;
    const std::uint32_t index = before->next.load(std::memory_order_relaxed);
    before->next.store(bucket->next.load(std::memory_order_relaxed), std::memory_order_release);
    bucket->next.store(overflow_free_, std::memory_order_release);
    overflow_free_ = index;
  }
  return any;
}

// Splits the next bucket in turn. Without a bucket for what overflows, chains stay longer.
void CacheTable::grow() noexcept {
  const std::uint32_t made = count();
  if (made == buckets_.size()) return;
  const std::uint32_t mask = ~std::uint32_t{0} >> std::countl_zero(made);
  Bucket& source = buckets_[made & (mask >> 1)];
  Bucket& target = buckets_[made];
  const auto moves = [&](EntryId id) {
    return (static_cast<std::uint32_t>(headers_[id].hash) & mask) == made;
  };
  bool fits = true;
  each_in(source, [&](const Bucket& bucket, std::uint32_t slot, EntryId id) {
    if (fits && moves(id)) fits = add_to(target, tag_at(bucket, slot), id);
  });
  if (!fits) return empty(target);
  set_shape(made + 1);
  each_in(source, [&](Bucket& bucket, std::uint32_t slot, EntryId id) {
    if (moves(id)) bucket.slots[slot].store(0, std::memory_order_release);
  });
  tidy(source);
}

// The reverse: the last bucket goes back into the one that it was split from.
void CacheTable::shrink() noexcept {
  const std::uint32_t last = count() - 1;
  if (last < kFewest) return;
  Bucket& source = buckets_[last];
  Bucket& target = buckets_[merged_into(last)];
  std::uint32_t moved = 0;
  bool fits = true;
  each_in(source, [&](const Bucket& bucket, std::uint32_t slot, EntryId id) {
    if (fits && (fits = add_to(target, tag_at(bucket, slot), id))) ++moved;
  });
  if (!fits) {
    // Twice in the table is once too often: what was added goes again.
    each_in(source, [&](Bucket&, std::uint32_t, EntryId id) {
      if (moved == 0) return;
      --moved;
      bool gone = false;
      each_in(target, [&](Bucket& bucket, std::uint32_t slot, EntryId other) {
        if (other != id || gone) return;
        bucket.slots[slot].store(0, std::memory_order_release);
        gone = true;
      });
    });
    return;
  }
  set_shape(last);
  empty(source);
  // Whole runs of pages at a time: each is a call of the system.
  constexpr std::uint32_t kRun = 1024;
  if (last % kRun == 0) buckets_.discard(last, last + kRun);
}

void CacheTable::validate() const {
  std::uint64_t found = 0;
  const std::uint64_t now = shape();
  for (std::uint32_t index = 0; index != count_of(now); ++index) {
    each_in(buckets_[index], [&](Bucket& bucket, std::uint32_t slot, EntryId id) {
      const std::uint64_t hash = headers_[id].hash;
      FOREBAY_CHECK(index_of(now, hash) == index, "an entry is in the chain of its bucket");
      FOREBAY_CHECK(tag_at(bucket, slot) == tag_of(hash), "a slot has its tag");
      FOREBAY_CHECK((headers_[id].state.load() & kLive) != 0, "what is in the table is live");
      ++found;
    });
  }
  FOREBAY_CHECK(found == entries_, "the table counts its entries");
}

}  // namespace forebay::detail
