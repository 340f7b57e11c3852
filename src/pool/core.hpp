// PoolCore: blocks of one pool, from a thread's own cache down to upstream.
//
// The fast paths (core_fast.cpp) touch the calling thread's cache only. Everything else is under
// one mutex: refilling and emptying caches (core.cpp), growing (growth.cpp), giving back
// (giving_back.cpp). Upstream is called without it.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string_view>
#include <vector>

#include "forebay/pool.hpp"
#include "pool/page_heap.hpp"
#include "pool/retention.hpp"
#include "pool/slabs.hpp"
#include "pool/thread_cache.hpp"
#include "track/source.hpp"

namespace forebay::detail {

using Lock = std::unique_lock<std::mutex>;

// The largest block, in bytes: pages are numbered by 32 bits, and a block may need its
// alignment on top.
inline constexpr std::uint64_t kLargestBlock = 1ULL << 41;

// A request, checked and rounded to the pool's least alignment.
struct Need {
  std::uint64_t bytes = 0;
  std::uint64_t alignment = 0;
  Stream stream{};
  Soil soil = 1;  // tenant + 1
  bool zeroed = false;
  bool may_grow = true;
  ContextId context = 0;        // the tracker's; noted where the block is taken
  const void* frame = nullptr;  // of the function that the user called
};

// A block on its way out, and the number by which it can come back without a search.
struct Taken {
  void* block = nullptr;
  std::uint64_t handle = 0;
};
inline constexpr std::uint8_t kLargeHandle = 0xfc;
inline constexpr std::uint64_t kNoHandle = 0xfd;  // it comes back by its address only
inline std::uint64_t small_handle(BlockState* state, SizeClass size_class) noexcept {
  return reinterpret_cast<std::uintptr_t>(state) << 8 | (size_class + 1U);
}
inline std::uint64_t large_handle(ExtentId id) noexcept {
  return std::uint64_t{id} << 8 | kLargeHandle;
}

// What is known of a block that comes back.
struct Return {
  std::uint64_t bytes = 0;  // as asked for; 0: not known
  std::uint64_t alignment = 0;
  Stream stream{};
};

class CheckedBlocks;

class PoolCore final : public BlockSource {
 public:
  PoolCore(std::shared_ptr<MemoryResource> upstream, const PoolOptions& options);
  // REQUIRES: no block is live.
  ~PoolCore();
  PoolCore(const PoolCore&) = delete;
  PoolCore& operator=(const PoolCore&) = delete;

  // No block if the thread's cache cannot serve it.
  Taken acquire_fast(const Need& need) noexcept;
  Taken acquire_plain(std::uint64_t bytes, const void* frame) noexcept;
  Result<Taken> acquire_slow(const Need& need);
  void release(void* block, const Return& back) noexcept;
  // What release() of these live blocks touches.
  void fetch(std::span<const void* const> blocks) const noexcept;
  // `handle` is what the block was taken with.
  void release_known(void* block, std::uint64_t handle, Stream at) noexcept;

  std::uint64_t rounded(std::uint64_t bytes, std::uint64_t alignment) const noexcept {
    return is_small(bytes, alignment) ? kClasses[class_of(bytes, alignment)].bytes
                                      : pages_of(bytes) << kPageShift;
  }
  std::uint64_t aligned(std::uint64_t alignment) const noexcept {
    return alignment > min_alignment_ ? alignment : min_alignment_;
  }
  // Bytes of the live block that starts at `block`; aborts, saying what is wrong, if none does.
  std::uint64_t live_block_bytes(const void* block) const noexcept;

  Bytes trim(Bytes goal) noexcept;
  Bytes tick() noexcept;
  PoolStats stats() const;
  Bytes reclaimable() const noexcept;
  void validate() const;
  // Prints the first few live blocks, a line each.
  void print_live() const noexcept;
  std::uint64_t live_blocks() const noexcept;

  // Past the threads' caches.
  Result<Taken> acquire_uncached(const Need& need);
  void release_uncached(void* block, Stream at) noexcept;

  // ---- Emptying sparse memory (consolidation.cpp). A home is what is free as a whole once the
  // blocks in it are gone: a segment; where memory comes by the page, a slab. One thread at a time
  // does this; any other use goes on.
  //
  // False while another thread does.
  bool begin_emptying() noexcept { return !emptying_.exchange(true, std::memory_order_acquire); }
  void end_emptying() noexcept { emptying_.store(false, std::memory_order_release); }
  bool empties_slabs() const noexcept { return ranges_; }
  // Where the home of a live block begins; 0 if emptying it is of no use.
  std::uintptr_t home_of(const void* block) const noexcept;
  // What threads keep goes back where it came from.
  void empty_all_caches() noexcept;
  // From now on no block leaves this home. False, and nothing changes, unless just `blocks` blocks
  // are live there, taking less than half of it, and there is room elsewhere.
  bool close_home(std::uintptr_t home, std::uint64_t blocks) noexcept;
  // Makes what is free there available again, if blocks are left. Else a segment goes upstream, the
  // pages of a slab are idle. What threads keep counts as left.
  struct Emptied {
    bool any = false;
    std::uint64_t given = 0;  // pages
  };
  Emptied open_home(std::uintptr_t home) noexcept;
  // Idle pages that could go upstream; those that threads keep are not counted.
  std::uint64_t pages_to_go() const noexcept;
  // Gives idle memory upstream until only `pages` of such are left. Returns the bytes given.
  Bytes give_all_but(std::uint64_t pages) noexcept;

  // ---- For the tracker (tracking.cpp)
  std::uint32_t source_number() const noexcept override { return source_; }
  std::string_view source_name() const noexcept override { return options_.name; }
  void copy_live(std::vector<SourceBlock>& blocks) const override;
  void add_tags(std::vector<TagSum>& sums) const override;
  void add_statistics(std::vector<StatisticsGroup>& groups) const override;
  std::vector<PoolView::Segment> segments() const;
  // For a handler of signals: nothing, if the pool is locked.
  void try_show_counters(const CounterSink& sink) const noexcept;
  ContextId context_of(const void* block) const noexcept;
  // What was known of `from` is known of `to` from here on, and of `from` no more. REQUIRES: both
  // are live, of one context, and nothing is known of `to`.
  void carry_over(const void* from, const void* to) noexcept;
  // The block is nobody's from here on, though it is live.
  void disown(const void* block) noexcept;
  // It is the calling thread's, as if it had taken it now. REQUIRES: it is nobody's.
  void own(const void* block, std::uint64_t bytes, const void* frame) noexcept;

  // ---- Guard pages (guard_pages.cpp)
  struct Guarded {
    std::uintptr_t block = 0;  // 0: the address is in no guard page
    std::uint64_t bytes = 0;
  };
  // For a handler of signals: takes no lock.
  Guarded guarded_before(std::uintptr_t address) const noexcept;

  // What stands around it, before its first block and again, with null, after its last: what a
  // checked pool knows of its blocks, which ages with tick(), and a mutex. Both are held over
  // forks.
  void attach(CheckedBlocks* checked, std::mutex* held_over_fork) noexcept;

  MemoryResource& upstream() const noexcept { return *upstream_; }
  std::string_view name() const noexcept { return options_.name; }
  const PoolOptions& options() const noexcept { return options_; }
  std::uint64_t serial() const noexcept { return serial_; }

  // For the registry of threads and pools.
  void retire_caches_of(const void* thread) noexcept;
  void before_fork() noexcept;
  void after_fork(bool in_child) noexcept;

  PoolCore* next_core = nullptr;  // in the registry
  PoolCore* previous_core = nullptr;

 private:
  // Memory of one kind of block and where it comes from.
  struct Part {
    Part(ExtentTable& extents, std::uint64_t& releases, std::uint64_t first_region)
        : heap(extents, releases), next_region(first_region) {}

    PageHeap heap;
    std::vector<std::unique_ptr<Region>> regions;
    std::uint64_t next_region;  // bytes
  };

  Result<Taken> take_slow(const Need& need);
  Result<Taken> take_noted(Lock& lock, ThreadCache& cache, const Need& need);
  Result<Taken> take(Lock& lock, ThreadCache& cache, const Need& need);

  // ---- core_fast.cpp
  Taken take_small(ThreadCache& cache, const Need& need) noexcept;
  Taken take_large(ThreadCache& cache, const Need& need) noexcept;
  bool put_small(ThreadCache& cache, SizeClass size_class, const SmallBlock& block) noexcept;
  bool put_large(ThreadCache& cache, ExtentId id) noexcept;
  ThreadCache* cached_for_this_thread(Stream stream) const noexcept;
  void clean(void* block, std::uint64_t bytes, Soil old, const Need& need) const noexcept;
  Stream ordered(Stream stream) const noexcept { return stream_ordered_ ? stream : Stream{}; }
  [[noreturn, gnu::cold, gnu::noinline]] void misuse(const void* block,
                                                     const char* what) const noexcept;
  ExtentId extent_of(const void* block) const noexcept;
  SmallBlock small_block(const Extent& slab, void* block) const noexcept;
  static bool is_plain_large(const Extent& extent, const void* block) noexcept {
    return extent.start == reinterpret_cast<std::uintptr_t>(block) &&
           extent.is() == ExtentState::live;
  }
  void check_guarded(const Extent& extent, const void* block) const noexcept;

  // ---- tracking.cpp
  // The tag of a live block, and where its record is or may be put.
  struct Place {
    std::atomic<BlockTag>* tag = nullptr;
    const BlockState* state = nullptr;  // of a small block
    ExtentId extent = 0;                // of a large one
  };
  Place place_of(const void* block) const noexcept;
  Place place_of(const Taken& taken) const noexcept;
  BlockRecord* record_at(const Place& place, bool make) noexcept;
  template <typename Count>
  void count_tag(Count count) noexcept;
  [[gnu::cold, gnu::noinline]] void record(const Taken& taken, const Need& need) noexcept;
  [[gnu::cold, gnu::noinline]] void forget(const void* block, const Place& place) noexcept;
  // With a lock that validate() can shut, as the counters are.
  static void count_taken(ThreadCache& cache, std::atomic<BlockTag>& tag, const Need& need,
                          std::uint64_t bytes) noexcept {
    cache.counters.took(need.bytes, bytes);
    if constexpr (!kTracking) return;
    if (need.context == 0) return;
    cache.tags[need.context].took(bytes);
    tag.store(need.context, std::memory_order_relaxed);
  }
  static void count_given(ThreadCache& cache, std::atomic<BlockTag>& tag,
                          std::uint64_t bytes) noexcept {
    cache.counters.gave(bytes);
    if constexpr (!kTracking) return;
    const BlockTag was = tag.load(std::memory_order_relaxed);
    if (was == 0) return;
    cache.tags[was & kContextOf].gave(bytes);
    tag.store(0, std::memory_order_relaxed);
  }
  // Asked of the block's owner, with no lock held.
  static bool has_record(const std::atomic<BlockTag>& tag) noexcept {
    return kTracking && (tag.load(std::memory_order_relaxed) & kRecorded) != 0;
  }
  void record_event_of(EventKind kind, std::uint64_t bytes) const noexcept {
    detail::record(kind, subject_, Bytes{bytes}, 0, this_tracking.context);
  }
  TagSum total() const noexcept;
  std::uint64_t large_in_caches() const noexcept;
  void show_large(const CounterSink& sink) const noexcept;
  Bytes tracking_bytes() const noexcept;  // at most; with the mutex
  template <typename Visit>
  void visit_tags(Visit visit) const;
  void retire_all_tags() noexcept;
  void retire_tags(const ThreadCache& cache) noexcept;
  std::uint64_t copy_live_into(std::vector<SourceBlock>& blocks) const;

  // ---- core.cpp. All expect the mutex to be held.
  StreamId stream_id(Stream stream);
  std::uint64_t live_blocks_now() const noexcept;
  ThreadCache& cache_for_this_thread(Stream stream, StreamId id) noexcept;
  ThreadCache* make_cache(StreamId id) noexcept;
  void drop_cache(ThreadCache* cache) noexcept;
  bool find_stream(Stream stream, StreamId& id) const noexcept;
  void fetch_neighbours(const Extent& extent) const noexcept;  // without the mutex
  // `keep`: the thread's cache may have it.
  void release_small_slow(const Extent& slab, const SmallBlock& block, Stream stream,
                          bool keep = true) noexcept;
  void release_large_slow(ExtentId id, Stream stream, bool keep = true) noexcept;
  ExtentId take_idle_slab(Lock& lock, std::uint32_t pages, StreamId stream) noexcept;
  Result<Taken> take_small_slow(Lock& lock, ThreadCache& cache, const Need& need);
  Result<Taken> take_large_slow(Lock& lock, ThreadCache& cache, const Need& need);
  Result<Taken> take_pages(Lock& lock, ThreadCache& cache, const Need& need, bool guard);
  std::uint32_t refill(ThreadCache& cache, SizeClass size_class) noexcept;
  void empty_bin(ThreadCache& cache, SizeClass size_class, std::uint32_t keep) noexcept;
  void empty_slot(ThreadCache& cache, ThreadCache::Slot& slot) noexcept;
  void put_in_slab(const SmallBlock& block) noexcept;
  void empty_caches(bool small_too) noexcept;
  void empty_cache(ThreadCache& cache, bool small_too) noexcept;
  template <typename Visit>
  void visit_caches(Visit visit) noexcept {
    for (ThreadCache* cache = caches_; cache != nullptr; cache = cache->next) visit(*cache);
  }
  void shut_caches() noexcept;
  void open_caches() noexcept;
  static std::int64_t latest_peak(const ThreadCache& cache) noexcept;
  std::uint64_t peak_live() const noexcept;
  void fold_peaks(ThreadCache& mine) noexcept;
  std::uint64_t live_bytes() const noexcept;
  // Idle memory of other streams becomes this one's, which waits for them. True if there was any.
  // Both let go of the mutex meanwhile.
  bool adopt_streams(Lock& lock, PageHeap& heap, StreamId stream) noexcept;
  bool adopt_stream(Lock& lock, PageHeap& heap, StreamId stream, StreamId other) noexcept;
  void* hand_out(ThreadCache& cache, ExtentId id, const Need& need, Soil& old) noexcept;
  Status refusal(const Need& need) const;

  // ---- growth.cpp. The mutex is held before and after, not in between.
  Result<ExtentId> grow(Lock& lock, Part& part, std::uint32_t pages, std::uint32_t alignment,
                        StreamId stream);
  Result<ExtentId> grow_range(Lock& lock, Part& part, std::uint32_t pages, std::uint32_t alignment,
                              StreamId stream);
  Result<ExtentId> grow_segment(Lock& lock, Part& part, std::uint32_t pages,
                                std::uint32_t alignment, StreamId stream);
  Status add_range(Lock& lock, Part& part, std::uint64_t bytes);
  Status add_segment(Lock& lock, Part& part, std::uint64_t bytes, StreamId stream);
  // What has memory of a planned growth's target, from its front.
  struct Filled {
    std::uint32_t pages = 0;
    std::uint32_t fresh = 0;  // of those, what upstream gave
    ExtentId unmoved = 0;     // the first of the moves that could not be
    Status status{};
  };
  Filled fill(const Growth& growth) noexcept;
  void finish_moves(PageHeap& heap, ExtentId moves, ExtentId unmoved) noexcept;
  std::uint64_t slack() const noexcept;
  bool take_first_range(Part& part);

  // ---- consolidation.cpp. Both expect the mutex.
  bool close_segment(Region& segment, std::uint64_t blocks) noexcept;
  bool close_slab(ExtentId id, std::uint64_t blocks) noexcept;
  void set_closed(Region& segment, bool closed) noexcept;

  // ---- guard_pages.cpp
  // Whether the pages at the block's end are guards now. The caller has the block to itself.
  bool raise_guard(ExtentId id, const Need& need) noexcept;
  void place_before_guard(ExtentId id, const Need& need) noexcept;
  // The next expect the mutex. One with its guard up, in the caller's hands; 0 if none fits.
  ExtentId take_resting(std::uint32_t pages, const Need& need, StreamId stream) noexcept;
  Taken take_guarded(Lock& lock, ThreadCache& cache, ExtentId id, const Need& need) noexcept;
  bool rest(ExtentId id, StreamId stream) noexcept;
  void empty_resting() noexcept;
  void release_guarded(ExtentId id, Stream stream) noexcept;

  // ---- giving_back.cpp
  static constexpr std::uint32_t kMostAtOnce = (64U << 20) >> kPageShift;
  // Gives about `pages` idle pages upstream, at most `most` at once; returns how many.
  std::uint64_t give_back(Lock& lock, std::uint64_t pages,
                          std::uint32_t most = kMostAtOnce) noexcept;
  std::uint64_t give_back_as_it_is(Lock& lock, std::uint64_t pages, std::uint32_t most) noexcept;
  void decommit_list(ExtentId list) noexcept;                  // without the mutex
  void finish_purges(PageHeap& heap, ExtentId list) noexcept;  // with it
  std::uint64_t send_region(Lock& lock, Part& part, ExtentId whole) noexcept;
  void empty_slabs() noexcept;
  void empty_unused() noexcept;
  std::uint64_t idle_pages() const noexcept;
  std::uint64_t cached_pages() const noexcept;  // of large blocks, in threads' hands
  void note_use() noexcept;
  void keep_to_limit(Lock& lock) noexcept;

  Part& slab_part() noexcept { return ranges_ ? small_ : large_; }
  const Part& slab_part() const noexcept { return ranges_ ? small_ : large_; }

  const PoolOptions options_;
  const std::shared_ptr<MemoryResource> upstream_;
  const std::uint64_t serial_;
  const std::uint32_t source_ = next_source_number();
  const SubjectId subject_;
  const std::uint64_t min_alignment_;
  const bool stream_ordered_;
  const Soil fresh_segment_;  // what a block of upstream's may show
  bool ranges_ = false;       // memory is committed piece by piece
  std::atomic<bool> emptying_{false};
  std::uint64_t guard_every_ = ThreadCache::kNoGuards;
  bool over_a_pool_ = false;  // upstream's blocks are another pool's; under the mutex

  mutable std::mutex mutex_;  // guards all below; see ThreadCache for its exception
  CheckedBlocks* checked_ = nullptr;
  std::mutex* held_over_fork_ = nullptr;
  ExtentTable extents_;
  LazyArray<BlockRecord> extent_records_;
  Slabs slabs_;
  std::uint64_t releases_ = 0;
  Part small_;
  Part large_;
  std::vector<Stream> streams_;
  ThreadCache* caches_ = nullptr;
  ThreadCache* shared_cache_ = nullptr;  // for threads that have none
  Counters retired_;                     // sums of caches that are gone
  std::uint64_t kept_by_threads_ = 0;    // bytes at most, in their caches
  std::uint64_t committed_pages_ = 0;    // held from upstream
  std::int64_t on_the_way_ = 0;          // pages that extents have but upstream still has too
  std::uint64_t peak_committed_ = 0;
  std::uint64_t peak_live_ = 0;
  std::uint64_t misses_ = 0;
  std::uint64_t refused_ = 0;
  static constexpr std::size_t kMostResting = 4;
  std::array<ExtentId, kMostResting> resting_{};  // 0: a free place
  Retention retention_;
};

// ---- registry.cpp: the threads' caches and the pools of the process

// Where the calling thread finds its caches.
struct CacheEntry {
  std::uint64_t serial = 0;
  std::uintptr_t stream = 0;
  ThreadCache* cache = nullptr;
};
inline constexpr std::uint32_t kCacheEntries = 16;
struct ThreadCaches {
  std::array<CacheEntry, kCacheEntries> entries{};
  bool ended = false;  // the thread is on its way out: no more caches
  CacheEntry& entry(std::uint64_t serial, Stream stream) noexcept {
    return entries[(serial + (stream.handle >> 6) + stream.handle) % kCacheEntries];
  }
};
// Found without a call also in a shared library.
[[gnu::tls_model("initial-exec")]] extern constinit thread_local ThreadCaches this_threads_caches;

// Enters the pool into the list of pools; from now on its caches are retired when their threads
// end.
void register_core(PoolCore* core);
void unregister_core(PoolCore* core) noexcept;
// The thread is told to retire its caches when it ends.
void retire_at_thread_exit() noexcept;
std::uint64_t next_pool_serial() noexcept;
// Each with the list of them locked.
void visit_cores(const std::function<void(const PoolCore&)>& visit);
void show_pools(const CounterSink& sink) noexcept;

}  // namespace forebay::detail
