// Idle memory on its way upstream: in slices, without the mutex.

#include <algorithm>

#include "device/request.hpp"
#include "forebay/check.hpp"
#include "pool/checked_blocks.hpp"
#include "pool/core.hpp"

namespace forebay::detail {
namespace {

// Given back at once in the background: little, so that nobody is held up for long by the
// system's locks. When somebody waits for the memory, it goes in as few calls as may be.
constexpr std::uint32_t kBackgroundSlice = (1U << 20) >> kPageShift;

}  // namespace

std::uint64_t PoolCore::idle_pages() const noexcept {
  return small_.heap.warm_pages() + large_.heap.warm_pages();
}

std::uint64_t PoolCore::cached_pages() const noexcept {
  std::uint64_t bytes = 0;
  for (const ThreadCache* c = caches_; c != nullptr; c = c->next) bytes += c->large_bytes.read();
  return bytes >> kPageShift;
}

void PoolCore::note_use() noexcept { retention_.note(committed_pages_ - idle_pages()); }

void PoolCore::empty_slabs() noexcept {
  for (ExtentId id = slabs_.take_empty(); id != 0; id = slabs_.take_empty()) {
    slab_part().heap.give_warm(id);
  }
}

void PoolCore::decommit_list(ExtentId list) noexcept {
  for (ExtentId id = list; id != 0; id = extents_[id].next) {
    const Extent& extent = extents_[id];
    extent.region->range->decommit(Bytes{extent.start - extent.region->base},
                                   Bytes{extent.bytes()});
    record_event_of(EventKind::unmap, extent.bytes());
  }
}

void PoolCore::finish_purges(PageHeap& heap, ExtentId list) noexcept {
  for (ExtentId id = list; id != 0;) {
    const ExtentId next = extents_[id].next;
    committed_pages_ -= extents_[id].pages;
    heap.give_cold(id);
    id = next;
  }
}

// The region is out of the directory before upstream has it.
std::uint64_t PoolCore::send_region(Lock& lock, Part& part, ExtentId whole) noexcept {
  Region* const region = extents_[whole].region;
  const std::uint64_t pages = region->pages;
  const std::uintptr_t base = region->base;
  const Stream stream = streams_[extents_[whole].stream];
  part.heap.remove_region(whole);
  const auto own = std::find_if(part.regions.begin(), part.regions.end(),
                                [region](const auto& r) { return r.get() == region; });
  part.regions.erase(own);
  const auto going = static_cast<std::int64_t>(pages);
  on_the_way_ -= going;
  lock.unlock();
  // NOLINTNEXTLINE(performance-no-int-to-ptr): an address of upstream's
  upstream_->deallocate(reinterpret_cast<void*>(base), Bytes{pages << kPageShift},
                        Bytes{kRegionGrain}, stream);
  record_event_of(EventKind::unmap, pages << kPageShift);
  lock.lock();
  on_the_way_ += going;
  committed_pages_ -= pages;
  return pages;
}

std::uint64_t PoolCore::give_back(Lock& lock, std::uint64_t pages, std::uint32_t most) noexcept {
  const std::uint64_t given = give_back_as_it_is(lock, pages, most);
  if (given >= pages || streams_.size() == 1) return given;
  // What upstream takes in one piece may be idle in parts, on different streams.
  bool joined = false;
  for (Part* part : {&small_, &large_}) {
    StreamId first = 0;
    while (first != part->heap.streams() && !part->heap.has_warm(first)) ++first;
    if (adopt_streams(lock, part->heap, first)) joined = true;
  }
  return joined ? given + give_back_as_it_is(lock, pages - given, most) : given;
}

std::uint64_t PoolCore::give_back_as_it_is(Lock& lock, std::uint64_t pages,
                                           std::uint32_t most) noexcept {
  std::uint64_t given = 0;
  while (given < pages) {
    Part& part = small_.heap.oldest_release() < large_.heap.oldest_release() ? small_ : large_;
    const auto slice = static_cast<std::uint32_t>(std::min<std::uint64_t>(pages - given, most));
    const ExtentId id = part.heap.take_idle(slice);
    if (id == 0) break;
    if (!ranges_) {
      given += send_region(lock, part, id);
      continue;
    }
    given += extents_[id].pages;
    extents_[id].next = 0;
    lock.unlock();
    decommit_list(id);
    lock.lock();
    finish_purges(part.heap, id);
  }
  return given;
}

// On the way back of a block, never on the way out of one. Threads put blocks in their caches
// without asking, so all that these may keep counts as kept. What lies between live blocks of a
// slab stays.
void PoolCore::keep_to_limit(Lock& lock) noexcept {
  if (options_.max_retained.is_unlimited()) return;
  const std::uint64_t most = options_.max_retained.count();
  const std::uint64_t idle = (committed_pages_ << kPageShift) - live_bytes();
  if (idle > most) empty_slabs();
  const std::uint64_t warm = (most - std::min(most, kept_by_threads_)) >> kPageShift;
  if (idle_pages() > warm) give_back(lock, idle_pages() - warm);
}

Bytes PoolCore::trim(Bytes goal) noexcept {
  Lock lock{mutex_};
  empty_caches(true);
  empty_slabs();
  const std::uint64_t pages =
      goal.is_unlimited() ? ~0ULL : pages_of(std::min(goal, kLargestRequest).count());
  return Bytes{give_back(lock, pages) << kPageShift};
}

// What no thread used since the last round leaves its cache, so that it can grow old here. A bin
// that holds as many blocks as then counts as unused: at worst its thread has one trip more.
void PoolCore::empty_unused() noexcept {
  shut_caches();
  visit_caches([this](ThreadCache& cache) {
    for (ThreadCache::Slot& slot : cache.slots) {
      if (slot.count != 0 && slot.count == slot.seen) empty_slot(cache, slot);
      slot.seen = slot.count;
    }
    for (SizeClass c = 0; c < kSmallClasses; ++c) {
      ThreadCache::Bin& bin = cache.bins[c];
      if (bin.count != 0 && bin.count == bin.seen) empty_bin(cache, c, 0);
      bin.seen = bin.count;
    }
  });
  open_caches();
  empty_resting();
  empty_slabs();
}

Bytes PoolCore::tick() noexcept {
  const auto now = options_.clock->now();
  if (checked_ != nullptr) checked_->release_older(now - options_.ttl);
  Lock lock{mutex_};
  empty_unused();
  const std::uint64_t in_use = committed_pages_ - idle_pages();
  const std::uint64_t floor = options_.min_retained.count() >> kPageShift;
  const std::uint64_t most = options_.max_retained.count() >> kPageShift;
  const std::uint64_t wanted = std::max(retention_.most_used(now, in_use) - in_use, floor);
  const std::uint64_t kept = std::min(wanted, most);
  if (idle_pages() <= kept) return {};
  return Bytes{give_back(lock, idle_pages() - kept, kBackgroundSlice) << kPageShift};
}

Bytes PoolCore::reclaimable() const noexcept {
  const std::lock_guard lock{mutex_};
  return Bytes{(idle_pages() + cached_pages()) << kPageShift};
}

}  // namespace forebay::detail
