// The paths that touch the calling thread's cache only: no lock, no shared write.

#include <fmt/format.h>

#include <cstdlib>

#include "forebay/check.hpp"
#include "pool/core.hpp"

namespace forebay::detail {
namespace {

std::uintptr_t address_of(const void* block) noexcept {
  return reinterpret_cast<std::uintptr_t>(block);
}

}  // namespace

ThreadCache* PoolCore::cached_for_this_thread(Stream stream) const noexcept {
  const CacheEntry& entry = this_threads_caches.entry(serial_, stream);
  const bool found = entry.serial == serial_ && entry.stream == stream.handle;
  return found ? entry.cache : nullptr;
}

// Content passes to the same tenant only. Then, zeroes are owed to those who ask for them, and for
// as many bytes as they asked; else for all of the block, of which more may be used later.
void PoolCore::clean(void* block, std::uint64_t bytes, Soil old, const Need& need) const noexcept {
  if (old == kPristine) return;
  if (old != need.soil) {
    upstream_->zero(block, Bytes{bytes}, need.stream);
  } else if (need.zeroed) {
    upstream_->zero(block, Bytes{need.bytes}, need.stream);
  }
}

void* PoolCore::acquire_fast(const Need& need) noexcept {
  ThreadCache* const cache = cached_for_this_thread(ordered(need.stream));
  if (cache == nullptr || !cache->lock.enter()) return nullptr;
  void* const block =
      is_small(need.bytes, need.alignment) ? take_small(*cache, need) : take_large(*cache, need);
  return block;
}

// Both leave the cache's lock, which is held on entry; the block is cleaned outside.
void* PoolCore::take_small(ThreadCache& cache, const Need& need) noexcept {
  const SizeClass size_class = class_of(need.bytes, need.alignment);
  ThreadCache::Bin& bin = cache.bins[size_class];
  if (bin.count == 0) {
    cache.lock.leave();
    return nullptr;
  }
  const SmallBlock block = bin.blocks[--bin.count];
  bin.used = true;
  const std::uint64_t bytes = kClasses[size_class].bytes;
  cache.counters.took(need.bytes, bytes);
  const Soil old = block.state->load(std::memory_order_relaxed);
  block.state->store(SlabSide::kLive | need.soil, std::memory_order_relaxed);
  cache.lock.leave();
  if (old != need.soil || need.zeroed) clean(block.address, bytes, old, need);
  return block.address;
}

void* PoolCore::take_large(ThreadCache& cache, const Need& need) noexcept {
  const auto pages = static_cast<std::uint32_t>(pages_of(need.bytes));
  ThreadCache::Slot& slot = cache.slot_of(pages);
  const ExtentId id = slot.count == 0 ? 0 : slot.blocks[slot.count - 1U];
  if (id == 0 || slot.pages != pages || extents_[id].start % need.alignment != 0) {
    cache.lock.leave();
    return nullptr;
  }
  Extent& extent = extents_[id];
  --slot.count;
  slot.used = true;
  cache.large_bytes.set(cache.large_bytes.read() - extent.bytes());
  cache.counters.took(need.bytes, extent.bytes());
  const Soil old = extent.soil;
  extent.soil = need.soil;
  extent.requested = need.bytes;
  extent.become(ExtentState::live);
  cache.lock.leave();
  void* const block = reinterpret_cast<void*>(extent.start);  // NOLINT(performance-no-int-to-ptr)
  if (old != need.soil || need.zeroed) clean(block, extent.bytes(), old, need);
  return block;
}

bool PoolCore::put_small(ThreadCache& cache, const Found& block) noexcept {
  ThreadCache::Bin& bin = cache.bins[block.extent->size_class];
  if (bin.count >= bin.capacity) return false;
  bin.blocks[bin.count++] = block.small;
  bin.used = true;
  cache.counters.gave(block.bytes);
  return true;
}

bool PoolCore::put_large(ThreadCache& cache, const Found& block) noexcept {
  const std::uint32_t pages = block.extent->pages;
  ThreadCache::Slot& slot = cache.slot_of(pages);
  const std::uint64_t bytes = cache.large_bytes.read() + block.bytes;
  const bool fits = slot.count == 0 || (slot.pages == pages && slot.count < slot.kCapacity);
  if (!fits || bytes > cache.large_limit) return false;
  slot.pages = pages;
  slot.blocks[slot.count++] = block.id;
  slot.used = true;
  cache.large_bytes.set(bytes);
  cache.counters.gave(block.bytes);
  return true;
}

// Every misuse is found here: what is not the start of one of this pool's live blocks.
Found PoolCore::locate(const void* block) const noexcept {
  const std::uintptr_t address = address_of(block);
  const Region* const region = region_of(address);
  if (region == nullptr || region->core != this ||
      address - region->base >= region->end() - region->base) {
    misuse(block, "is not of this pool");
  }
  const ExtentId id = region->extent_at(address);
  auto& extent = const_cast<Extent&>(extents_[id]);
  const ExtentState is = extent.is();
  if (is == ExtentState::slab) [[likely]] {
    const ClassLayout& layout = kClasses[extent.size_class];
    const std::uint64_t offset = address - extent.start;
    const std::uint32_t index = block_at(layout, offset);
    if (std::uint64_t{index} * layout.bytes != offset || index >= layout.slab_blocks) {
      misuse(block, "is not the start of a block");
    }
    return {&extent,
            id,
            {static_cast<std::byte*>(const_cast<void*>(block)), extent.side->states() + index},
            layout.bytes};
  }
  if (id == 0 || extent.start != address || extent.region != region) {
    misuse(block, "is not the start of a block");
  }
  return {&extent, id, {}, extent.bytes()};
}

Found PoolCore::find_live(const void* block) const noexcept {
  const Found found = locate(block);
  const bool live =
      found.small.address != nullptr
          ? (found.small.state->load(std::memory_order_relaxed) & SlabSide::kLive) != 0
          : found.extent->is() == ExtentState::live;
  if (!live) misuse(block, "was given back before");
  return found;
}

void PoolCore::check_return(const Found& found, const Return& back) const noexcept {
  const bool same = found.small.address != nullptr
                        ? is_small(back.bytes, back.alignment) &&
                              class_of(back.bytes, back.alignment) == found.extent->size_class
                        : found.extent->requested == back.bytes;
  if (!same)
    misuse(reinterpret_cast<const void*>(found.small.address != nullptr
                                             ? address_of(found.small.address)
                                             : found.extent->start),
           "was taken with another size or alignment");
}

void PoolCore::release(void* block, const Return& back) noexcept {
  const Found found = find_live(block);
  if (back.bytes != 0) check_return(found, back);
  const bool small = found.small.address != nullptr;
  if (small) {
    const auto state = found.small.state->load(std::memory_order_relaxed);
    found.small.state->store(state & ~SlabSide::kLive, std::memory_order_relaxed);
  } else {
    found.extent->become(ExtentState::cached);
  }
  const Stream stream = ordered(back.stream);
  ThreadCache* const cache = cached_for_this_thread(stream);
  if (cache != nullptr && cache->stream == found.extent->stream && cache->lock.enter()) [[likely]] {
    const bool put = small ? put_small(*cache, found) : put_large(*cache, found);
    cache->lock.leave();
    if (put) [[likely]] {
      return;
    }
  }
  release_slow(found, stream);
}

void PoolCore::misuse(const void* block, const char* what) const noexcept {
  fmt::print(stderr, "forebay: pool '{}': block {} {}\n", name(), block, what);
  std::abort();
}

}  // namespace forebay::detail
