#include "pool/core.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <new>
#include <utility>

#include "device/request.hpp"
#include "forebay/check.hpp"
#include "pool/checked_blocks.hpp"
#include "pool/guard_pages.hpp"

namespace forebay::detail {
namespace {

// Extents a pool can have: one for each 64 bytes of 4 GiB of addresses, that is 64 million
// runs of pages.
constexpr std::uint32_t kMostExtents = 1U << 26;

// What one thread keeps: enough of each small class that a trip to the mutex serves many
// acquires; of large blocks, what a step of training takes and gives. Of a pool that may
// retain little, a share of that.
constexpr std::uint64_t kSmallKept = 128ULL << 10;  // bytes a class
constexpr std::uint64_t kLargeKept = 1ULL << 30;    // bytes
constexpr std::uint64_t kSmallShare = 1024;
constexpr std::uint64_t kLargeShare = 32;

constexpr std::uint32_t kRefill = 32;  // blocks taken from slabs at once

}  // namespace

PoolCore::PoolCore(std::shared_ptr<MemoryResource> upstream, const PoolOptions& options)
    : options_(options),
      upstream_(std::move(upstream)),
      serial_(next_pool_serial()),
      subject_(subject(options.name)),
      min_alignment_(std::max<std::uint64_t>(options.min_alignment.count(), kSmallGrain)),
      stream_ordered_(upstream_->stream_ordered()),
      fresh_segment_(upstream_->allocates_zeroed() ? kPristine : kMixed),
      extents_(kMostExtents),
      extent_records_(kMostExtents),
      slabs_(extents_),
      small_(extents_, releases_, 1ULL << 30),
      large_(extents_, releases_, 4ULL << 30),
      retention_(options.ttl) {
  prepare_fences();
  if (!prepare_directory()) throw std::bad_alloc{};
  streams_.push_back(Stream{});
  ranges_ = take_first_range(small_) && take_first_range(large_);
  if (!ranges_) {
    small_.regions.clear();
    large_.regions.clear();
    large_.heap.set_grain(PageHeap::kNever);
  }
  const bool reachable = upstream_->host_accessible() && !stream_ordered_;
  const bool by_page = ranges_ && large_.heap.grain() == 1;
  if (options.guard_every != 0 && by_page && reachable && !options.checked) {
    guard_every_ = options.guard_every;
    report_faults();
  }
  shared_cache_ = make_cache(0);
  if (shared_cache_ == nullptr) throw std::bad_alloc{};
  kept_by_threads_ -= shared_cache_->keeps;
  shared_cache_->set_up(0, 0);
  shared_cache_->until_guard = ThreadCache::kNoGuards;
  register_core(this);
}

PoolCore::~PoolCore() {
  unregister_core(this);
  {
    Lock lock{mutex_};
    empty_caches(true);
    empty_slabs();
    give_back(lock, ~0ULL);
  }
  retire_all_tags();
  while (caches_ != nullptr) drop_cache(caches_);
}

// ---- Threads' caches

StreamId PoolCore::stream_id(Stream stream) {
  const auto known = std::find(streams_.begin(), streams_.end(), stream);
  if (known != streams_.end()) return static_cast<StreamId>(known - streams_.begin());
  if (streams_.size() > std::numeric_limits<StreamId>::max()) throw std::bad_alloc{};
  streams_.reserve(streams_.size() + 1);
  // All or none: the parts number streams as the pool does.
  const auto id = static_cast<StreamId>(streams_.size());
  if (small_.heap.streams() == id) small_.heap.add_stream();
  if (large_.heap.streams() == id) large_.heap.add_stream();
  slabs_.add_stream();
  streams_.push_back(stream);
  return id;
}

ThreadCache* PoolCore::make_cache(StreamId id) noexcept {
  auto memory = Mapping::map(whole_pages(Bytes{ThreadCache::bytes_needed()}), Access::read_write,
                             system_page());
  if (!memory) return nullptr;
  auto* const cache = new (memory->data()) ThreadCache;
  memory->release();
  cache->stream = id;
  const std::uint64_t retained = options_.max_retained.count();
  cache->set_up(std::min(kSmallKept, retained / kSmallShare),
                std::min(kLargeKept, retained / kLargeShare));
  if (kept_by_threads_ + cache->keeps > retained) cache->set_up(0, 0);
  kept_by_threads_ += cache->keeps;
  cache->until_guard = guard_every_;
  cache->next = caches_;
  caches_ = cache;
  return cache;
}

void PoolCore::drop_cache(ThreadCache* cache) noexcept {
  ThreadCache** link = &caches_;
  while (*link != cache) link = &(*link)->next;
  *link = cache->next;
  kept_by_threads_ -= cache->keeps;
  unmap(reinterpret_cast<std::byte*>(cache), whole_pages(Bytes{ThreadCache::bytes_needed()}));
}

// A thread that is on its way out, or one for which there is no memory, shares one that keeps
// nothing; all of a checked pool's do, so that no path passes its checks by.
ThreadCache& PoolCore::cache_for_this_thread(Stream stream, StreamId id) noexcept {
  ThreadCaches& mine = this_threads_caches;
  if (mine.ended || options_.checked) return *shared_cache_;
  CacheEntry& entry = mine.entry(serial_, stream);
  if (entry.serial == serial_ && entry.stream == stream.handle) return *entry.cache;
  ThreadCache* cache = caches_;
  while (cache != nullptr && (cache->owner != &mine || cache->stream != id)) cache = cache->next;
  if (cache == nullptr) {
    cache = make_cache(id);
    if (cache == nullptr) return *shared_cache_;
    cache->owner = &mine;
    retire_at_thread_exit();
  }
  entry = {serial_, stream.handle, cache};
  return *cache;
}

void PoolCore::shut_caches() noexcept {
  visit_caches([](ThreadCache& cache) { cache.lock.shut(); });
  fence_all_threads();
  visit_caches([](ThreadCache& cache) { cache.lock.wait_until_out(); });
}

void PoolCore::open_caches() noexcept {
  visit_caches([](ThreadCache& cache) { cache.lock.open(); });
}

void PoolCore::put_in_slab(const SmallBlock& block) noexcept {
  const auto address = reinterpret_cast<std::uintptr_t>(block.address);
  const ExtentId id = region_of(address)->extent_at(address);
  if (const ExtentId whole = slabs_.give(id, block.address); whole != 0) {
    slab_part().heap.give_warm(whole);
  }
}

void PoolCore::empty_bin(ThreadCache& cache, SizeClass size_class, std::uint32_t keep) noexcept {
  ThreadCache::Bin& bin = cache.bins[size_class];
  if (bin.count <= keep) return;
  const std::uint32_t going = bin.count - keep;  // those that lie there longest
  for (std::uint32_t i = 0; i != going; ++i) {
    const auto address = reinterpret_cast<std::uintptr_t>(bin.blocks[i].address);
    Slabs::prefetch(extents_[region_of(address)->extent_at(address)], bin.blocks[i].address);
  }
  for (std::uint32_t i = 0; i != going; ++i) put_in_slab(bin.blocks[i]);
  std::copy(bin.blocks + going, bin.blocks + bin.count, bin.blocks);
  bin.count = keep;
}

void PoolCore::empty_slot(ThreadCache& cache, ThreadCache::Slot& slot) noexcept {
  for (std::uint32_t i = 0; i != slot.count; ++i) {
    const ExtentId id = slot.blocks[i];
    cache.large_bytes.set(cache.large_bytes.read() - extents_[id].bytes());
    large_.heap.give_warm(id);
  }
  slot.count = 0;
}

void PoolCore::empty_cache(ThreadCache& cache, bool small_too) noexcept {
  if (cache.large_bytes.read() != 0) {
    for (ThreadCache::Slot& slot : cache.slots) empty_slot(cache, slot);
  }
  if (!small_too) return;
  for (SizeClass c = 0; c < kSmallClasses; ++c) empty_bin(cache, c, 0);
}

void PoolCore::empty_caches(bool small_too) noexcept {
  const void* const me = &this_threads_caches;
  bool others = false;
  empty_resting();
  visit_caches([&](const ThreadCache& cache) {
    others = others || (cache.owner != me && (small_too || cache.large_bytes.read() != 0));
  });
  if (others) shut_caches();
  visit_caches([&](ThreadCache& cache) {
    if (others || cache.owner == me) empty_cache(cache, small_too);
  });
  if (others) open_caches();
}

void PoolCore::retire_caches_of(const void* thread) noexcept {
  const Lock lock{mutex_};
  for (ThreadCache* cache = caches_; cache != nullptr;) {
    ThreadCache* const next = cache->next;
    if (cache->owner == thread) {
      fold_peaks(*cache);
      empty_cache(*cache, true);
      const Counters& counters = cache->counters;
      retired_.acquires.add(counters.acquires.read());
      retired_.releases.add(counters.releases.read());
      retired_.requested.add(counters.requested.read());
      retired_.handed_out.add(counters.handed_out.read());
      retired_.live.add(counters.live.read());
      retire_tags(*cache);
      drop_cache(cache);
    }
    cache = next;
  }
}

void PoolCore::before_fork() noexcept {
  mutex_.lock();
  if (checked_ != nullptr) checked_->lock();
  if (held_over_fork_ != nullptr) held_over_fork_->lock();
  shut_caches();
}

// An owner that knocked while it was shut out may have been forked in mid-knock.
void PoolCore::after_fork(bool in_child) noexcept {
  if (in_child) visit_caches([](ThreadCache& cache) { cache.lock.forget_owner(); });
  open_caches();
  if (held_over_fork_ != nullptr) held_over_fork_->unlock();
  if (checked_ != nullptr) checked_->unlock();
  mutex_.unlock();
}

void PoolCore::attach(CheckedBlocks* checked, std::mutex* held_over_fork) noexcept {
  const std::lock_guard lock{mutex_};
  checked_ = checked;
  held_over_fork_ = held_over_fork;
}

// ---- Counters

std::uint64_t PoolCore::live_bytes() const noexcept {
  std::uint64_t live = retired_.live.read();
  for (const ThreadCache* c = caches_; c != nullptr; c = c->next) live += c->counters.live.read();
  return live;
}

// The most that a thread had since its last fold, as far as the others can tell: a peak that was
// counted already says nothing new.
std::int64_t PoolCore::latest_peak(const ThreadCache& cache) noexcept {
  const auto peak = static_cast<std::int64_t>(cache.counters.peak.read());
  return peak > cache.peak_seen ? peak : static_cast<std::int64_t>(cache.counters.live.read());
}

std::uint64_t PoolCore::peak_live() const noexcept {
  const auto live = static_cast<std::int64_t>(live_bytes());
  auto most = static_cast<std::int64_t>(peak_live_);
  for (const ThreadCache* c = caches_; c != nullptr; c = c->next) {
    most =
        std::max(most, live - static_cast<std::int64_t>(c->counters.live.read()) + latest_peak(*c));
  }
  return static_cast<std::uint64_t>(most);
}

// Called by the owner of `mine`, or with it shut out.
void PoolCore::fold_peaks(ThreadCache& mine) noexcept {
  peak_live_ = peak_live();
  mine.counters.peak.set(mine.counters.live.read());
  visit_caches([](ThreadCache& cache) {
    cache.peak_seen = static_cast<std::int64_t>(cache.counters.peak.read());
  });
}

// ---- Taking

Status PoolCore::refusal(const Need& need) const {
  const std::uint64_t bytes = rounded(need.bytes, need.alignment);
  return {Code::memory_refused,
          fmt::format("{}: no idle memory for {}", name(), to_string(Bytes{bytes}))};
}

Result<Taken> PoolCore::acquire_slow(const Need& need) {
  auto taken = refuse_bad_alloc([&] { return take_slow(need); });
  if (!taken) {
    record_event_of(EventKind::deny, need.bytes);
    const std::lock_guard lock{mutex_};
    ++refused_;
  }
  return taken;
}

Result<Taken> PoolCore::take_slow(const Need& need) {
  if (need.bytes > kLargestBlock) {
    return Status{Code::memory_refused,
                  fmt::format("{}: asked {}, a block is {} at most", name(),
                              to_string(Bytes{need.bytes}), to_string(Bytes{kLargestBlock}))};
  }
  const Stream stream = ordered(need.stream);
  Lock lock{mutex_};
  return take_noted(lock, cache_for_this_thread(stream, stream_id(stream)), need);
}

// The lock is gone when there is a block. What is refused is no sample.
Result<Taken> PoolCore::take_noted(Lock& lock, ThreadCache& cache, const Need& need) {
  Need mine = need;
  mine.context = context_now();
  auto taken = take(lock, cache, mine);
  if (taken && note_taken(need.bytes).wanted) record(*taken, mine);
  return taken;
}

Result<Taken> PoolCore::take(Lock& lock, ThreadCache& cache, const Need& need) {
  return is_small(need.bytes, need.alignment) ? take_small_slow(lock, cache, need)
                                              : take_large_slow(lock, cache, need);
}

std::uint32_t PoolCore::refill(ThreadCache& cache, SizeClass size_class) noexcept {
  ThreadCache::Bin& bin = cache.bins[size_class];
  const std::uint32_t wanted = std::clamp(bin.capacity / 2, 1U, kRefill);
  bin.count = slabs_.take(cache.stream, size_class, bin.blocks, wanted);
  return bin.count;
}

// Nobody may find the memory before upstream was told to wait.
bool PoolCore::adopt_stream(Lock& lock, PageHeap& heap, StreamId stream, StreamId other) noexcept {
  ExtentId taken = 0;
  for (ExtentId id = heap.take_any(other); id != 0; id = heap.take_any(other)) {
    extents_[id].next = taken;
    taken = id;
  }
  if (taken == 0) return false;
  const Stream waiter = streams_[stream];
  const Stream earlier = streams_[other];
  lock.unlock();
  upstream_->stream_wait(waiter, earlier);
  lock.lock();
  while (taken != 0) {
    const ExtentId id = std::exchange(taken, extents_[taken].next);
    extents_[id].stream = stream;
    heap.give_warm(id);
  }
  return true;
}

bool PoolCore::adopt_streams(Lock& lock, PageHeap& heap, StreamId stream) noexcept {
  bool any = false;
  for (StreamId other = 0; other != heap.streams(); ++other) {
    if (other != stream && adopt_stream(lock, heap, stream, other)) any = true;
  }
  return any;
}

// From memory that lies in other threads' caches and in slabs of other classes.
ExtentId PoolCore::take_idle_slab(Lock& lock, std::uint32_t pages, StreamId stream) noexcept {
  PageHeap& heap = slab_part().heap;
  empty_caches(true);
  empty_slabs();
  adopt_streams(lock, heap, stream);
  return heap.take_warm(pages, 1, stream, true);
}

Result<Taken> PoolCore::take_small_slow(Lock& lock, ThreadCache& cache, const Need& need) {
  const SizeClass size_class = class_of(need.bytes, need.alignment);
  const ClassLayout& layout = kClasses[size_class];
  ThreadCache::Bin& bin = cache.bins[size_class];
  const StreamId stream = stream_id(ordered(need.stream));
  SmallBlock one{};
  // The cache of a thread that keeps nothing has no room even for one.
  while (true) {
    if (bin.capacity != 0 && cache.stream == stream &&
        (bin.count != 0 || refill(cache, size_class) != 0)) {
      one = bin.blocks[--bin.count];
      break;
    }
    if (slabs_.take(stream, size_class, &one, 1) == 1) break;
    PageHeap& heap = slab_part().heap;
    ExtentId id = heap.take_warm(layout.slab_pages, 1, stream);
    if (id == 0 && adopt_streams(lock, heap, stream)) {
      id = heap.take_warm(layout.slab_pages, 1, stream);
    }
    if (id == 0 && !need.may_grow) {
      id = take_idle_slab(lock, layout.slab_pages, stream);
      if (id == 0) return refusal(need);
    }
    if (id == 0) {
      auto grown = grow(lock, slab_part(), layout.slab_pages, 1, stream);
      if (!grown) return grown.status();
      id = *grown;
    }
    if (!slabs_.add(id, size_class)) {
      slab_part().heap.give_warm(id);
      return out_of_host_memory();
    }
  }
  note_use();
  count_taken(cache, slabs_.tag_of(one.state), need, layout.bytes);
  fold_peaks(cache);
  const Soil old = one.state->load(std::memory_order_relaxed);
  one.state->store(kLive | need.soil, std::memory_order_relaxed);
  lock.unlock();
  clean(one.address, layout.bytes, old, need);
  return Taken{one.address, small_handle(one.state, size_class)};
}

void* PoolCore::hand_out(ThreadCache& cache, ExtentId id, const Need& need, Soil& old) noexcept {
  Extent& extent = extents_[id];
  old = extent.soil;
  extent.soil = need.soil;
  extent.requested = need.bytes;
  extent.become(ExtentState::live);
  count_taken(cache, extent.tag, need, extent.bytes());
  fold_peaks(cache);
  note_use();
  return reinterpret_cast<void*>(extent.start);  // NOLINT(performance-no-int-to-ptr)
}

Result<Taken> PoolCore::take_large_slow(Lock& lock, ThreadCache& cache, const Need& need) {
  const bool guard = cache.until_guard == 1;
  cache.until_guard = guard ? guard_every_ : cache.until_guard - 1;
  if (!guard) return take_pages(lock, cache, need, false);
  const auto pages = static_cast<std::uint32_t>(pages_of(need.bytes + kGuard));
  if (const ExtentId id = take_resting(pages, need, cache.stream); id != 0) {
    return take_guarded(lock, cache, id, need);
  }
  auto guarded = take_pages(lock, cache, need, true);
  if (guarded || guarded.status().code() != Code::memory_refused) return guarded;
  return take_pages(lock, cache, need, false);  // where it would have just fit
}

Result<Taken> PoolCore::take_pages(Lock& lock, ThreadCache& cache, const Need& need, bool guard) {
  const auto pages = static_cast<std::uint32_t>(pages_of(need.bytes + (guard ? kGuard : 0)));
  const auto alignment =
      static_cast<std::uint32_t>(std::max<std::uint64_t>(need.alignment >> kPageShift, 1));
  const StreamId stream = stream_id(ordered(need.stream));
  PageHeap& heap = large_.heap;
  ExtentId id = heap.take_warm(pages, alignment, stream);
  if (id == 0 &&
      (streams_.size() != 1 || !need.may_grow || idle_pages() + cached_pages() > slack())) {
    empty_caches(false);
    adopt_streams(lock, heap, stream);
    id = heap.take_warm(pages, alignment, stream, true);
  }
  if (id == 0) {
    if (!need.may_grow) return refusal(need);
    auto grown = grow(lock, large_, pages, alignment, stream);
    if (!grown) return grown.status();
    id = *grown;
  }
  Soil old = kPristine;
  void* const block = hand_out(cache, id, need, old);
  Need cleaned = need;
  if (guard) cleaned.bytes = extents_[id].bytes();  // the block's place in it is not settled
  lock.unlock();
  clean(block, extents_[id].bytes(), old, cleaned);
  if (guard && raise_guard(id, need)) {
    return Taken{static_cast<std::byte*>(block) + extents_[id].next, kNoHandle};
  }
  return Taken{block, large_handle(id)};
}

// ---- Giving

// On the way back nothing may fail: a stream that the pool has never seen has no number, and
// its blocks become ready on the stream that they came from, which waits for it.
bool PoolCore::find_stream(Stream stream, StreamId& id) const noexcept {
  const auto known = std::find(streams_.begin(), streams_.end(), stream);
  if (known == streams_.end()) return false;
  id = static_cast<StreamId>(known - streams_.begin());
  return true;
}

// A small block that comes back on another stream than its slab's: the slab's waits for it.
void PoolCore::release_small_slow(const Extent& slab, const SmallBlock& block, Stream stream,
                                  bool keep) noexcept {
  Lock lock{mutex_};
  StreamId id = 0;
  const bool known = find_stream(stream, id);
  if (!known || slab.stream != id) {
    const Stream home = streams_[slab.stream];
    lock.unlock();
    upstream_->stream_wait(home, stream);
    lock.lock();
  }
  ThreadCache& cache = known && keep ? cache_for_this_thread(stream, id) : *shared_cache_;
  ThreadCache::Bin& bin = cache.bins[slab.size_class];
  if (cache.stream == slab.stream && bin.capacity != 0) {
    if (bin.count >= bin.capacity) empty_bin(cache, slab.size_class, bin.capacity / 2);
    put_small(cache, slab.size_class, block);
  } else {
    count_given(cache, slabs_.tag_of(block.state), kClasses[slab.size_class].bytes);
    block.set_free();
    put_in_slab(block);
  }
  keep_to_limit(lock);
}

// The block may join its neighbours; their records come from far away, and can come while we wait.
// Others may be changing who they are: then this was in vain.
__attribute__((no_sanitize("thread"))) void PoolCore::fetch_neighbours(
    const Extent& extent) const noexcept {
  __builtin_prefetch(&extents_[extent.left]);
  __builtin_prefetch(&extents_[extent.right]);
}

// A large block is from now on ready on the stream that it came back on.
void PoolCore::release_large_slow(ExtentId id, Stream stream, bool keep) noexcept {
  Extent& extent = extents_[id];
  fetch_neighbours(extent);
  Lock lock{mutex_};
  StreamId on = 0;
  const bool known = find_stream(stream, on);
  if (known) {
    extent.stream = on;
  } else {
    const Stream home = streams_[extent.stream];
    lock.unlock();
    upstream_->stream_wait(home, stream);
    lock.lock();
  }
  ThreadCache& cache = known && keep ? cache_for_this_thread(stream, on) : *shared_cache_;
  ThreadCache::Slot& slot = cache.slot_of(extent.pages);
  if (slot.pages != extent.pages) empty_slot(cache, slot);
  if (cache.stream != extent.stream || !put_large(cache, id)) {
    count_given(cache, extent.tag, extent.bytes());
    large_.heap.give_warm(id);
  }
  keep_to_limit(lock);
}

// ---- Looking

PoolStats PoolCore::stats() const {
  const std::lock_guard lock{mutex_};
  PoolStats stats;
  std::uint64_t acquires = retired_.acquires.read();
  std::uint64_t requested = retired_.requested.read();
  std::uint64_t handed_out = retired_.handed_out.read();
  for (const ThreadCache* c = caches_; c != nullptr; c = c->next) {
    acquires += c->counters.acquires.read();
    requested += c->counters.requested.read();
    handed_out += c->counters.handed_out.read();
  }
  stats.reserved = Bytes{committed_pages_ << kPageShift};
  // While other threads are at work their counters are read one after another: what one took may
  // be missed, and seen where another gave it back.
  const auto live = static_cast<std::int64_t>(live_bytes());
  stats.live =
      std::min(Bytes{static_cast<std::uint64_t>(std::max<std::int64_t>(live, 0))}, stats.reserved);
  stats.idle = stats.reserved - stats.live;
  stats.largest_free =
      Bytes{std::max(small_.heap.largest_warm(), large_.heap.largest_warm()) << kPageShift};
  stats.metadata = extents_.used() + slabs_.used() + tracking_bytes() +
                   Bytes{(committed_pages_ * sizeof(ExtentId))};
  stats.peak_live = Bytes{peak_live()};
  stats.peak_reserved = Bytes{peak_committed_ << kPageShift};
  stats.live_blocks = live_blocks_now();
  stats.acquires = acquires;
  stats.misses = misses_;
  stats.hits = acquires - misses_;
  stats.refused = refused_;
  stats.requested_total = Bytes{requested};
  stats.handed_out_total = Bytes{handed_out};
  return stats;
}

std::uint64_t PoolCore::live_blocks_now() const noexcept {
  auto blocks = static_cast<std::int64_t>(retired_.acquires.read() - retired_.releases.read());
  for (const ThreadCache* c = caches_; c != nullptr; c = c->next) {
    blocks += static_cast<std::int64_t>(c->counters.acquires.read() - c->counters.releases.read());
  }
  return static_cast<std::uint64_t>(std::max<std::int64_t>(blocks, 0));
}

std::uint64_t PoolCore::live_blocks() const noexcept {
  const std::lock_guard lock{mutex_};
  return live_blocks_now();
}

}  // namespace forebay::detail
