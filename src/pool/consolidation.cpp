// Homes of blocks, closed and opened again, for whoever moves the blocks out of them.

#include <algorithm>

#include "forebay/check.hpp"
#include "pool/core.hpp"

namespace forebay::detail {

Result<Taken> PoolCore::acquire_uncached(const Need& need) {
  Lock lock{mutex_};
  return take(lock, *shared_cache_, need);
}

void PoolCore::release_uncached(void* block, Stream at) noexcept {
  const ExtentId id = extent_of(block);
  Extent& extent = extents_[id];
  const Stream stream = ordered(at);
  if (const Place place = place_of(block); has_record(*place.tag)) forget(block, place);
  if (extent.is() == ExtentState::slab) {
    return release_small_slow(extent, small_block(extent, block), stream, false);
  }
  if (!is_plain_large(extent, block)) {
    check_guarded(extent, block);
    return release_guarded(id, stream);
  }
  release_large_slow(id, stream, false);
}

std::uintptr_t PoolCore::home_of(const void* block) const noexcept {
  const auto address = reinterpret_cast<std::uintptr_t>(block);
  const Region& region = *region_of(address);
  if (!ranges_) return region.base;
  // The block may end meanwhile, and its record become that of another.
  const std::lock_guard lock{mutex_};
  const Extent& extent = extents_[region.extent_at(address)];
  return extent.is() == ExtentState::slab ? extent.start : 0;
}

void PoolCore::empty_all_caches() noexcept {
  const std::lock_guard lock{mutex_};
  empty_caches(true);
}

bool PoolCore::close_home(std::uintptr_t home, std::uint64_t blocks) noexcept {
  const std::lock_guard lock{mutex_};
  Region& region = *region_of(home);
  return ranges_ ? close_slab(region.extent_at(home), blocks) : close_segment(region, blocks);
}

// The blocks must fit into slabs that are there: a new one would take what this one frees.
bool PoolCore::close_slab(ExtentId id, std::uint64_t blocks) noexcept {
  const Extent& slab = extents_[id];
  const std::uint64_t live = Slabs::live_in(slab);
  if (live != blocks || 2 * live >= kClasses[slab.size_class].slab_blocks) return false;
  slabs_.set_closed(id, true);
  if (slabs_.free_blocks(slab.stream, slab.size_class, live) >= live) return true;
  slabs_.set_closed(id, false);
  return false;
}

bool PoolCore::close_segment(Region& segment, std::uint64_t blocks) noexcept {
  std::uint64_t live = 0;
  std::uint64_t bytes = 0;
  std::uint64_t warm = 0;
  bool passing = false;
  for (ExtentId id = segment.extent_at(segment.base); id != 0; id = extents_[id].right) {
    const Extent& extent = extents_[id];
    const ExtentState is = extent.is();
    if (is == ExtentState::warm) warm += extent.pages;
    if (is == ExtentState::moving) passing = true;
    if (is == ExtentState::live) {
      ++live;
      bytes += extent.bytes();
    }
    if (is == ExtentState::slab) {
      const std::uint64_t here = Slabs::live_in(extent);
      live += here;
      bytes += here * kClasses[extent.size_class].bytes;
    }
  }
  const std::uint64_t room = (large_.heap.warm_pages() - warm) << kPageShift;
  const std::uint64_t size = std::uint64_t{segment.pages} << kPageShift;
  if (passing || live != blocks || 2 * bytes >= size || bytes > room) return false;
  set_closed(segment, true);
  return true;
}

void PoolCore::set_closed(Region& segment, bool closed) noexcept {
  for (ExtentId id = segment.extent_at(segment.base); id != 0; id = extents_[id].right) {
    if (extents_[id].is() == ExtentState::slab) slabs_.set_closed(id, closed);
  }
  large_.heap.set_closed(segment, closed);
}

PoolCore::Emptied PoolCore::open_home(std::uintptr_t home) noexcept {
  Lock lock{mutex_};
  Region* const region = region_of(home);
  if (ranges_) {
    const ExtentId id = region->extent_at(home);
    const Extent& slab = extents_[id];
    if (!slab.closed || slab.start != home) return {true, 0};
    slabs_.set_closed(id, false);
    return {};
  }
  // Once it was all free, anybody may have given it upstream.
  if (region == nullptr || region->core != this || !region->closed) return {true, 0};
  const ExtentId first = region->extent_at(home);
  if (extents_[first].is() == ExtentState::warm && extents_[first].pages == region->pages) {
    large_.heap.take(first);
    return {true, send_region(lock, large_, first)};
  }
  set_closed(*region, false);
  return {};
}

std::uint64_t PoolCore::pages_to_go() const noexcept {
  const std::lock_guard lock{mutex_};
  return small_.heap.pages_to_go() + large_.heap.pages_to_go();
}

Bytes PoolCore::give_all_but(std::uint64_t pages) noexcept {
  const std::uint64_t idle = pages_to_go();
  Lock lock{mutex_};
  return Bytes{give_back(lock, idle - std::min(idle, pages)) << kPageShift};
}

}  // namespace forebay::detail
