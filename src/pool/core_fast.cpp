// The paths that touch the calling thread's cache only: no lock, no shared write.

#include <fmt/format.h>

#include <cstdlib>

#include "device/request.hpp"
#include "forebay/check.hpp"
#include "pool/guard_pages.hpp"
#include "pool/pool_impl.hpp"

namespace forebay::detail {

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

Taken PoolCore::acquire_fast(const Need& need) noexcept {
  ThreadCache* const cache = cached_for_this_thread(ordered(need.stream));
  if (cache == nullptr || !cache->lock.enter()) [[unlikely]] {
    return {};
  }
  return is_small(need.bytes, need.alignment) ? take_small(*cache, need) : take_large(*cache, need);
}

// The same for the commonest request: any content, the first tenant, the default stream.
Taken PoolCore::acquire_plain(std::uint64_t bytes, const void* frame) noexcept {
  const CacheEntry& entry = this_threads_caches.entry(serial_, Stream{});
  const bool found = entry.serial == serial_ && entry.stream == 0;
  if (!found || bytes - 1 >= kLargestBlock || !entry.cache->lock.enter()) [[unlikely]] {
    return {};
  }
  const Need need{.bytes = bytes, .alignment = min_alignment_, .frame = frame};
  return is_small(bytes, min_alignment_) ? take_small(*entry.cache, need)
                                         : take_large(*entry.cache, need);
}

// Both leave the cache's lock, which is held on entry; the block is cleaned outside.
// A block's state changes with the counters, under a lock that validate() can shut.
Taken PoolCore::take_small(ThreadCache& cache, const Need& asked) noexcept {
  const SizeClass size_class = class_of(asked.bytes, asked.alignment);
  ThreadCache::Bin& bin = cache.bins[size_class];
  if (bin.count == 0) {
    cache.lock.leave();
    return {};
  }
  const SmallBlock block = bin.blocks[--bin.count];
  const std::uint64_t bytes = kClasses[size_class].bytes;
  const Noted noted = note_taken(asked.bytes);
  Need need = asked;
  need.context = noted.context;
  count_taken(cache, slabs_.tag_of(block.state), need, bytes);
  const Soil old = block.state->load(std::memory_order_relaxed);
  block.state->store(kLive | need.soil, std::memory_order_relaxed);
  cache.lock.leave();
  if (old != need.soil || need.zeroed) [[unlikely]] {
    clean(block.address, bytes, old, need);
  }
  const Taken taken{block.address, small_handle(block.state, size_class)};
  if (noted.wanted) [[unlikely]] {
    record(taken, need);
  }
  return taken;
}

Taken PoolCore::take_large(ThreadCache& cache, const Need& asked) noexcept {
  const auto pages = static_cast<std::uint32_t>(pages_of(asked.bytes));
  ThreadCache::Slot& slot = cache.slot_of(pages);
  const ExtentId id = slot.count == 0 ? 0 : slot.blocks[slot.count - 1U];
  if (id == 0 || slot.pages != pages || (extents_[id].start & (asked.alignment - 1)) != 0 ||
      cache.until_guard == 1) {
    cache.lock.leave();
    return {};
  }
  Extent& extent = extents_[id];
  const std::uint64_t bytes = extent.bytes();
  --slot.count;
  --cache.until_guard;
  cache.large_bytes.set(cache.large_bytes.read() - bytes);
  const Noted noted = note_taken(asked.bytes);
  Need need = asked;
  need.context = noted.context;
  count_taken(cache, extent.tag, need, bytes);
  const Soil old = extent.soil;
  extent.soil = need.soil;
  extent.requested = need.bytes;
  extent.become(ExtentState::live);
  cache.lock.leave();
  void* const block = reinterpret_cast<void*>(extent.start);  // NOLINT(performance-no-int-to-ptr)
  if (old != need.soil || need.zeroed) [[unlikely]] {
    clean(block, bytes, old, need);
  }
  const Taken taken{block, large_handle(id)};
  if (noted.wanted) [[unlikely]] {
    record(taken, need);
  }
  return taken;
}

bool PoolCore::put_small(ThreadCache& cache, SizeClass size_class,
                         const SmallBlock& block) noexcept {
  ThreadCache::Bin& bin = cache.bins[size_class];
  if (bin.count >= bin.capacity) return false;
  bin.blocks[bin.count++] = block;
  block.set_free();
  count_given(cache, slabs_.tag_of(block.state), kClasses[size_class].bytes);
  return true;
}

bool PoolCore::put_large(ThreadCache& cache, ExtentId id) noexcept {
  const std::uint32_t pages = extents_[id].pages;
  const std::uint64_t bytes = extents_[id].bytes();
  ThreadCache::Slot& slot = cache.slot_of(pages);
  const std::uint64_t kept = cache.large_bytes.read() + bytes;
  const bool fits = slot.count == 0 || (slot.pages == pages && slot.count < slot.kCapacity);
  if (!fits || kept > cache.large_limit) return false;
  slot.pages = pages;
  slot.blocks[slot.count++] = id;
  extents_[id].become(ExtentState::cached);
  cache.large_bytes.set(kept);
  count_given(cache, extents_[id].tag, bytes);
  return true;
}

ExtentId PoolCore::extent_of(const void* block) const noexcept {
  const auto address = reinterpret_cast<std::uintptr_t>(block);
  const Region* const region = region_of(address);
  if (region == nullptr || region->core != this || address >= region->end()) [[unlikely]] {
    misuse(block, "is not of this pool");
  }
  return region->extent_at(address);
}

// Each pass asks for what the next one reads.
void PoolCore::fetch(std::span<const void* const> blocks) const noexcept {
  const auto address_of = [](const void* block) { return reinterpret_cast<std::uintptr_t>(block); };
  for (const void* const block : blocks) {
    __builtin_prefetch(&region_of(address_of(block))->extent_at(address_of(block)));
  }
  for (const void* const block : blocks) {
    __builtin_prefetch(&extents_[region_of(address_of(block))->extent_at(address_of(block))], 1);
  }
  for (const void* const block : blocks) {
    const std::uintptr_t address = address_of(block);
    const Extent& extent = extents_[region_of(address)->extent_at(address)];
    if (extent.is() != ExtentState::slab) continue;
    const ClassLayout& layout = kClasses[extent.size_class];
    const BlockState* const state = extent.states + block_at(layout, address - extent.start);
    __builtin_prefetch(state, 1);
    if constexpr (kTracking) __builtin_prefetch(&slabs_.tag_of(state), 1);
  }
}

SmallBlock PoolCore::small_block(const Extent& slab, void* block) const noexcept {
  const ClassLayout& layout = kClasses[slab.size_class];
  const std::uint64_t offset = reinterpret_cast<std::uintptr_t>(block) - slab.start;
  const std::uint32_t index = block_at(layout, offset);
  if (std::uint64_t{index} * layout.bytes != offset || index >= layout.slab_blocks) [[unlikely]] {
    misuse(block, "is not the start of a block");
  }
  const SmallBlock found{static_cast<std::byte*>(block), slab.states + index};
  if (!found.is_live()) [[unlikely]] {
    misuse(block, "is given back already");
  }
  return found;
}

// For what is not a plain large block. In the middle of a large block the map may name an
// extent that was there once, or none.
void PoolCore::check_guarded(const Extent& extent, const void* block) const noexcept {
  const auto address = reinterpret_cast<std::uintptr_t>(block);
  const bool guarded = extent.is() == ExtentState::guarded || extent.is() == ExtentState::resting;
  const bool its_start = guarded && address == extent.start + extent.next;
  if (its_start && extent.is() == ExtentState::guarded) return;
  const bool inside = address >= extent.start && address < extent.end();
  const bool free = extent.is() == ExtentState::warm || extent.is() == ExtentState::cold;
  const bool was_free = inside && (address == extent.start || free);
  misuse(block, its_start || (was_free && !guarded) ? "is given back already"
                                                    : "is not the start of a block");
}

[[gnu::flatten]] void PoolCore::release(void* block, const Return& back) noexcept {
  const ExtentId id = extent_of(block);
  Extent& extent = extents_[id];
  const Stream stream = ordered(back.stream);
  ThreadCache* const cache = cached_for_this_thread(stream);
  const bool mine = cache != nullptr && cache->stream == extent.stream;
  if (extent.is() == ExtentState::slab) {
    const SmallBlock small = small_block(extent, block);
    if (back.bytes != 0 && (!is_small(back.bytes, back.alignment) ||
                            class_of(back.bytes, back.alignment) != extent.size_class)) {
      misuse(block, "was taken with another size or alignment");
    }
    if (has_record(slabs_.tag_of(small.state))) [[unlikely]] {
      forget(block, {&slabs_.tag_of(small.state), small.state, 0});
    }
    if (mine && cache->lock.enter()) [[likely]] {
      const bool put = put_small(*cache, extent.size_class, small);
      cache->lock.leave();
      if (put) return;
    }
    return release_small_slow(extent, small, stream);
  }
  const bool plain = is_plain_large(extent, block);
  if (!plain) [[unlikely]] {
    check_guarded(extent, block);
  }
  if (back.bytes != 0 && back.bytes != extent.requested) {
    misuse(block, "was taken with another size or alignment");
  }
  if (has_record(extent.tag)) [[unlikely]] {
    forget(block, {&extent.tag, nullptr, id});
  }
  if (!plain) [[unlikely]] {
    return release_guarded(id, stream);
  }
  if (mine && cache->lock.enter()) [[likely]] {
    const bool put = put_large(*cache, id);
    cache->lock.leave();
    if (put) return;
  }
  release_large_slow(id, stream);
}

// A Buffer knows its block: no search. It cannot give it back twice, but somebody else may have.
void PoolCore::release_known(void* block, std::uint64_t handle, Stream at) noexcept {
  const Stream stream = ordered(at);
  ThreadCache* const cache = cached_for_this_thread(stream);
  const auto kind = static_cast<std::uint8_t>(handle & 0xff);
  if (kind == kLargeHandle) {
    const auto id = static_cast<ExtentId>(handle >> 8);
    Extent& extent = extents_[id];
    if (extent.is() != ExtentState::live) [[unlikely]] {
      misuse(block, "is given back already");
    }
    if (has_record(extent.tag)) [[unlikely]] {
      forget(block, {&extent.tag, nullptr, id});
    }
    if (cache != nullptr && cache->stream == extent.stream && cache->lock.enter()) [[likely]] {
      const bool put = put_large(*cache, id);
      cache->lock.leave();
      if (put) return;
    }
    return release_large_slow(id, stream);
  }
  // NOLINTNEXTLINE(performance-no-int-to-ptr): packed by small_handle()
  auto* const state = reinterpret_cast<BlockState*>(handle >> 8);
  const SmallBlock small{static_cast<std::byte*>(block), state};
  if (!small.is_live()) [[unlikely]] {
    misuse(block, "is given back already");
  }
  if (has_record(slabs_.tag_of(state))) [[unlikely]] {
    forget(block, {&slabs_.tag_of(state), state, 0});
  }
  const bool mine =
      cache != nullptr && (!stream_ordered_ || cache->stream == extents_[extent_of(block)].stream);
  if (mine && cache->lock.enter()) [[likely]] {
    const bool put = put_small(*cache, static_cast<SizeClass>(kind - 1), small);
    cache->lock.leave();
    if (put) return;
  }
  release_small_slow(extents_[extent_of(block)], small, stream);
}

std::uint64_t PoolCore::live_block_bytes(const void* block) const noexcept {
  const Extent& extent = extents_[extent_of(block)];
  if (extent.is() == ExtentState::slab) {
    small_block(extent, const_cast<void*>(block));
    return kClasses[extent.size_class].bytes;
  }
  if (is_plain_large(extent, block)) return extent.bytes();
  check_guarded(extent, block);
  return extent.bytes() - kGuard - extent.next;
}

void PoolCore::misuse(const void* block, const char* what) const noexcept {
  fmt::print(stderr, "forebay: pool '{}': block {} {}\n", name(), block, what);
  std::abort();
}

}  // namespace forebay::detail

namespace forebay {

using detail::Need;
using detail::Taken;

[[gnu::noinline]] static void give_back_by_address(MemoryResource* resource, void* block,
                                                   Bytes size, Bytes alignment, Stream stream,
                                                   std::uint64_t handle) noexcept {
  std::unique_ptr<std::shared_ptr<MemoryResource>> keeper;
  if ((handle >> 8) != 0) {
    // NOLINTNEXTLINE(performance-no-int-to-ptr): packed by Buffer::allocate()
    keeper.reset(reinterpret_cast<std::shared_ptr<MemoryResource>*>(handle >> 8));
  }
  resource->deallocate(block, size, alignment, stream);
}

// Whether the request is one, and not for nothing; what else it is, the slow path finds out.
static bool is_plain(Bytes size, const AcquireOptions& options) noexcept {
  return size.count() - 1 < detail::kLargestBlock && detail::is_alignment(options.alignment) &&
         options.tenant.id < kMaxTenants;
}

[[gnu::flatten]] Result<Buffer> Pool::acquire(Bytes size, const AcquireOptions& options) {
  const void* const frame = __builtin_frame_address(0);
  if (is_plain(size, options)) [[likely]] {
    const Need need = impl_->need_of(size, options, true, frame);
    const Taken taken = impl_->core.acquire_fast(need);
    if (taken.block != nullptr) [[likely]] {
      return Buffer{this, taken.block, size, options.alignment, options.stream, taken.handle};
    }
  }
  return acquire_slow(size, options, true, frame);
}

[[gnu::flatten]] Result<Buffer> Pool::acquire(Bytes size) {
  const void* const frame = __builtin_frame_address(0);
  const Taken taken = impl_->core.acquire_plain(size.count(), frame);
  if (taken.block != nullptr) [[likely]] {
    return Buffer{this, taken.block, size, kDefaultAlignment, Stream{}, taken.handle};
  }
  return acquire_slow(size, {}, true, frame);
}

// Here, because nearly all of them are a pool's. The keeper goes last: it may be what keeps the
// resource alive.
[[gnu::flatten]] void Buffer::give_back() const noexcept {
  if ((handle_ & 0xff) < kByAddress) [[likely]] {
    // NOLINTNEXTLINE(cppcoreguidelines-pro-type-static-cast-downcast): only pools number blocks
    return static_cast<Pool*>(resource_)->impl_->core.release_known(data_, handle_, stream_);
  }
  give_back_by_address(resource_, data_, size_, alignment_, stream_, handle_);
}

[[gnu::flatten]] Result<void*> Pool::do_allocate(Bytes bytes, Bytes alignment, Stream stream) {
  const Need need{.bytes = bytes.count(),
                  .alignment = impl_->core.aligned(alignment.count()),
                  .stream = stream,
                  .frame = __builtin_frame_address(0)};
  if (need.bytes <= detail::kLargestBlock) [[likely]] {
    const Taken taken = impl_->core.acquire_fast(need);
    if (taken.block != nullptr) [[likely]] {
      return taken.block;
    }
  }
  const auto slow = impl_->take_slow(need);
  if (!slow) return slow.status();
  return slow->block;
}

}  // namespace forebay
