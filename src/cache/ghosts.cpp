#include "cache/ghosts.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <new>
#include <utility>

namespace forebay::detail {
namespace {

constexpr unsigned kHashShift = 24;
constexpr unsigned kGroupShift = 16;
constexpr std::uint64_t kGroupMask = 0xff;
constexpr std::uint64_t kBytesMask = 0xffff;

// The hash's own upper bits choose a cache's shard: they are alike in all names here.
std::uint64_t fingerprint(std::uint64_t hash) noexcept {
  return (hash * 0x9e3779b97f4a7c15ULL) >> kHashShift | 1U;
}

// Like a float without a sign: up to 2047 it is the number itself, beyond that ten bits and the
// leading one, and an exponent above them.
constexpr unsigned kDigits = 11;
std::uint64_t shortened_bytes(std::uint64_t bytes) noexcept {
  const auto width = static_cast<unsigned>(std::bit_width(bytes));
  if (width <= kDigits) return bytes;
  const unsigned shift = width - kDigits;
  // Rounded; if that carries into another digit, the sum is the next exponent's first.
  const std::uint64_t digits = (bytes >> shift) + (bytes >> (shift - 1) & 1U);
  return (std::uint64_t{shift} << (kDigits - 1)) + digits;
}
std::uint64_t lengthened_bytes(std::uint64_t code) noexcept {
  constexpr std::uint64_t kLeading = 1U << (kDigits - 1);
  if (code < 2 * kLeading) return code;
  return ((code & (kLeading - 1)) | kLeading) << (code / kLeading - 1);
}

std::uint64_t group_of(std::uint64_t slot) noexcept { return slot >> kGroupShift & kGroupMask; }
std::uint64_t bytes_of(std::uint64_t slot) noexcept { return lengthened_bytes(slot & kBytesMask); }

bool are_alike(std::uint64_t slot, std::uint64_t wanted) noexcept {
  return (slot ^ wanted) >> kHashShift == 0;
}
template <std::size_t... At>
bool is_in(const std::uint64_t* slots, std::uint64_t wanted, std::index_sequence<At...>) noexcept {
  return (static_cast<int>(are_alike(slots[At], wanted)) | ...) != 0;
}

constexpr std::uint8_t kUncounted = 255;
// Fuller, many names are not in their own bucket, and each look-up is longer by what they passed.
constexpr std::size_t kNamesOfBucket = 6;

}  // namespace

std::uint64_t Ghosts::as_kept(std::uint64_t bytes) noexcept {
  return lengthened_bytes(shortened_bytes(bytes));
}

void Ghosts::set_limits(std::size_t max_count, std::uint64_t max_bytes) noexcept {
  max_count_ = max_count;
  max_bytes_ = max_bytes;
  while (count_ > max_count_ || bytes_ > max_bytes_) forget_oldest();
}

void Ghosts::add(std::uint64_t hash, std::uint64_t bytes, std::uint32_t stamp) noexcept {
  const std::uint64_t kept = as_kept(bytes);
  if (max_count_ == 0 || kept > max_bytes_) return;
  while (count_ >= max_count_ || kept > max_bytes_ - bytes_) forget_oldest();
  if (!make_place()) return;
  if ((live_groups() == 0 || room_in_newest_ == 0) && !open_group()) return;

  const std::uint64_t number = (next_ - 1) & kGroupMask;
  put(fingerprint(hash) << kHashShift | number << kGroupShift | shortened_bytes(bytes));
  Group& newest = group(next_ - 1);
  newest.bytes += kept;
  ++newest.names;
  newest.stamp = std::max(newest.stamp, stamp);
  if (room_in_newest_ != 0) --room_in_newest_;
  ++count_;
  bytes_ += kept;
}

bool Ghosts::forget(std::uint64_t hash) noexcept {
  const std::size_t place = find(hash);
  if (place == kNone) return false;
  const Slot slot = slots_[place];
  Group& its = group(first_ + static_cast<std::uint32_t>((group_of(slot) - first_) & kGroupMask));
  its.bytes -= bytes_of(slot);
  --its.names;
  --count_;
  bytes_ -= bytes_of(slot);
  empty(place);
  drop_empty_groups();
  shrink();
  return true;
}

void Ghosts::forget_oldest() noexcept {
  count_ -= group(first_).names;
  bytes_ -= group(first_).bytes;
  ++first_;
  drop_empty_groups();
  shrink();
}

void Ghosts::forget_before(std::uint32_t stamp) noexcept {
  while (count_ != 0 && group(first_).stamp < stamp) forget_oldest();
}

void Ghosts::clear() noexcept {
  while (count_ != 0) forget_oldest();
}

std::size_t Ghosts::metadata_bytes() const noexcept {
  return slots_.capacity() * sizeof(Slot) + passed_.capacity() + groups_.capacity() * sizeof(Group);
}

// The table.

std::size_t Ghosts::home(Slot slot) const noexcept {
  return static_cast<std::size_t>((slot >> 32U) * buckets() >> 32U);
}
std::size_t Ghosts::after(std::size_t bucket) const noexcept {
  return bucket + 1 == buckets() ? 0 : bucket + 1;
}
bool Ghosts::is_stale(Slot slot) const noexcept {
  return ((group_of(slot) - first_) & kGroupMask) >= live_groups();
}

std::size_t Ghosts::find(std::uint64_t hash) const noexcept {
  if (count_ == 0) return kNone;
  const Slot wanted = fingerprint(hash) << kHashShift;
  std::size_t bucket = home(wanted);
  for (std::size_t i = 0; i != buckets(); ++i) {
    const Slot* const slots = &slots_[bucket * kBucket];
    // Most look-ups find nothing: all eight at once, without a branch for each.
    if (is_in(slots, wanted, std::make_index_sequence<kBucket>{})) {
      for (std::size_t at = 0; at != kBucket; ++at) {
        if (are_alike(slots[at], wanted) && !is_stale(slots[at])) return bucket * kBucket + at;
      }
    }
    if (passed_[bucket] == 0) break;
    bucket = after(bucket);
  }
  return kNone;
}

// Empty or stale; kNone if all are names.
std::size_t Ghosts::free_place_in(std::size_t bucket) const noexcept {
  for (std::size_t place = bucket * kBucket; place != (bucket + 1) * kBucket; ++place) {
    if (!is_name(slots_[place])) return place;
  }
  return kNone;
}

// REQUIRES: not all slots are names.
void Ghosts::put(Slot slot) noexcept {
  std::size_t bucket = home(slot);
  std::size_t place = free_place_in(bucket);
  for (; place == kNone; place = free_place_in(bucket)) {
    if (passed_[bucket] != kUncounted) ++passed_[bucket];
    bucket = after(bucket);
  }
  if (slots_[place] != 0) empty(place);
  slots_[place] = slot;
}

void Ghosts::empty(std::size_t place) noexcept {
  for (std::size_t bucket = home(slots_[place]); bucket != place / kBucket;
       bucket = after(bucket)) {
    if (passed_[bucket] != kUncounted) --passed_[bucket];
  }
  slots_[place] = 0;
}

// Whether there is a place for one more. Without memory the oldest let go of theirs.
bool Ghosts::make_place() noexcept {
  const std::size_t most = buckets() * kNamesOfBucket;
  if (count_ < most || grow()) return true;
  while (count_ != 0 && count_ >= most) forget_oldest();
  return !slots_.empty();
}

bool Ghosts::grow() noexcept {
  constexpr std::size_t kLeast = 2;
  return rebuild(buckets() + std::max(kLeast, buckets() / 8));
}

// Two lists of a policy may take turns at being long: neither keeps a table for its best days.
void Ghosts::shrink() noexcept {
  constexpr std::size_t kSmall = 32;
  constexpr std::size_t kLeastOfBucket = 4;
  if (buckets() <= kSmall || count_ >= buckets() * kLeastOfBucket) return;
  rebuild(std::max(kSmall, count_ * 9 / (8 * kNamesOfBucket)));
}

// REQUIRES: room for all names. False, and as it was, if there is no memory.
bool Ghosts::rebuild(std::size_t buckets) noexcept try {
  std::vector<Slot> slots(buckets * kBucket);
  std::vector<std::uint8_t> passed(buckets);
  slots_.swap(slots);
  passed_.swap(passed);
  for (const Slot slot : slots) {
    if (is_name(slot)) put(slot);
  }
  hand_ = 0;
  clean_ = first_at_start_ = first_;
  return true;
} catch (const std::bad_alloc&) {
  return false;
}

// The hand goes on by so many buckets, and empties stale slots.
void Ghosts::sweep(std::size_t count) noexcept {
  for (; count != 0; --count) {
    for (std::size_t place = hand_ * kBucket; place != (hand_ + 1) * kBucket; ++place) {
      if (slots_[place] != 0 && is_stale(slots_[place])) empty(place);
    }
    hand_ = after(hand_);
    if (hand_ != 0) continue;
    clean_ = first_at_start_;
    first_at_start_ = first_;
  }
}

// The groups.

// False if there is no memory for the first one.
bool Ghosts::open_group() noexcept try {
  constexpr std::size_t kGroups = 64;  // that there should be
  if (live_groups() == kMostGroups) regroup();
  // Numbers begin anew once nothing has them any more: as a rule the hand has seen to that, in
  // rounds of thirty-two groups; if not, by the rest of this round and another one.
  sweep(buckets() / 32 + 1);
  while (next_ - clean_ >= kGroupNumbers) sweep(buckets());
  if (live_groups() == groups_.size()) {
    std::vector<Group> groups(std::max<std::size_t>(2 * groups_.size(), 8));
    for (std::uint32_t number = first_; number != next_; ++number) {
      groups[number & (groups.size() - 1)] = group(number);
    }
    groups_.swap(groups);
  }
  ++next_;
  group(next_ - 1) = {};
  room_in_newest_ = (count_ + kGroups) / kGroups;
  return true;
} catch (const std::bad_alloc&) {
  return live_groups() != 0;  // into the newest, then
}

// Neighbours become one group, until there are half as many as there may be.
void Ghosts::regroup() noexcept {
  const std::size_t wanted = std::max<std::size_t>(count_ / (kMostGroups / 2), 1);
  std::array<std::uint8_t, kMostGroups> becomes{};
  std::array<Group, kMostGroups> merged{};
  std::size_t last = 0;
  for (std::uint32_t i = 0; i != live_groups(); ++i) {
    const Group& old = group(first_ + i);
    if (old.names == 0) continue;
    if (merged[last].names >= wanted) ++last;
    merged[last].bytes += old.bytes;
    merged[last].names += old.names;
    merged[last].stamp = old.stamp;
    becomes[i] = static_cast<std::uint8_t>(last);
  }
  hand_ = 0;
  sweep(buckets());
  for (Slot& slot : slots_) {
    if (slot == 0) continue;
    const std::uint64_t number = becomes[(group_of(slot) - first_) & kGroupMask];
    slot = (slot & ~(kGroupMask << kGroupShift)) | number << kGroupShift;
  }
  first_ = clean_ = first_at_start_ = 0;
  next_ = static_cast<std::uint32_t>(last) + 1;
  for (std::uint32_t i = 0; i != next_; ++i) group(i) = merged[i];
}

// At the oldest end: then the oldest group has names.
void Ghosts::drop_empty_groups() noexcept {
  while (first_ != next_ && group(first_).names == 0) ++first_;
}

}  // namespace forebay::detail
