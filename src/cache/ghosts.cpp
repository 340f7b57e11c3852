#include "cache/ghosts.hpp"

#include <algorithm>
#include <bit>
#include <new>

namespace forebay::detail {

void Ghosts::set_limits(std::size_t max_count, std::uint64_t max_bytes) noexcept {
  max_count_ = max_count;
  max_bytes_ = max_bytes;
  while (count_ > max_count_ || bytes_ > max_bytes_) forget_oldest();
}

void Ghosts::add(std::uint64_t hash, std::uint64_t bytes) noexcept {
  forget(hash);
  if (max_count_ == 0 || bytes > max_bytes_) return;
  while (count_ >= max_count_ || bytes > max_bytes_ - bytes_) forget_oldest();
  const Index place = new_place();
  if (place == kNone) return;

  Ghost& ghost = ghosts_[place];
  ghost.hash = hash;
  ghost.bytes = bytes;
  ghost.chain = bucket(hash);
  bucket(hash) = place;
  make_newest(place);
  ++count_;
  bytes_ += bytes;
}

bool Ghosts::forget(std::uint64_t hash) noexcept {
  const Index ghost = find(hash);
  if (ghost == kNone) return false;
  remove(ghost);
  return true;
}

void Ghosts::forget_oldest() noexcept { remove(oldest_); }

void Ghosts::clear() noexcept {
  while (count_ != 0) forget_oldest();
}

std::size_t Ghosts::metadata_bytes() const noexcept {
  return ghosts_.capacity() * sizeof(Ghost) + buckets_.capacity() * sizeof(Index);
}

Ghosts::Index Ghosts::find(std::uint64_t hash) const noexcept {
  if (buckets_.empty()) return kNone;
  Index ghost = buckets_[hash & (buckets_.size() - 1)];
  while (ghost != kNone && ghosts_[ghost].hash != hash) ghost = ghosts_[ghost].chain;
  return ghost;
}

Ghosts::Index& Ghosts::bucket(std::uint64_t hash) noexcept {
  return buckets_[hash & (buckets_.size() - 1)];
}

// kNone if there is no memory and no ghost to give its place.
Ghosts::Index Ghosts::new_place() noexcept {
  if (free_ == kNone && !grow()) {
    if (count_ == 0) return kNone;
    forget_oldest();
  }
  const Index place = free_;
  free_ = ghosts_[place].chain;
  return place;
}

bool Ghosts::grow() noexcept try {
  constexpr std::size_t kLeast = 16;
  const std::size_t old_size = ghosts_.size();
  const std::size_t size =
      std::min(std::max(max_count_, old_size + 1), old_size + std::max(kLeast, old_size / 4));
  // Both are allocated before either is used: a failure leaves all as it was.
  std::vector<Index> buckets;
  if (size > buckets_.size()) buckets.assign(std::bit_ceil(size), kNone);
  ghosts_.reserve(size);
  ghosts_.resize(size);
  if (!buckets.empty()) {
    buckets_.swap(buckets);
    for (Index ghost = oldest_; ghost != kNone; ghost = ghosts_[ghost].newer) {
      ghosts_[ghost].chain = bucket(ghosts_[ghost].hash);
      bucket(ghosts_[ghost].hash) = ghost;
    }
  }
  for (std::size_t place = size; place-- > old_size;) {
    ghosts_[place].chain = free_;
    free_ = static_cast<Index>(place);
  }
  return true;
} catch (const std::bad_alloc&) {
  return false;
}

void Ghosts::remove(Index place) noexcept {
  Ghost& ghost = ghosts_[place];
  Index* link = &bucket(ghost.hash);
  while (*link != place) link = &ghosts_[*link].chain;
  *link = ghost.chain;
  (ghost.newer == kNone ? newest_ : ghosts_[ghost.newer].older) = ghost.older;
  (ghost.older == kNone ? oldest_ : ghosts_[ghost.older].newer) = ghost.newer;
  --count_;
  bytes_ -= ghost.bytes;
  ghost.chain = free_;
  free_ = place;
}

void Ghosts::make_newest(Index place) noexcept {
  ghosts_[place].newer = kNone;
  ghosts_[place].older = newest_;
  (newest_ == kNone ? oldest_ : ghosts_[newest_].newer) = place;
  newest_ = place;
}

}  // namespace forebay::detail
