// CacheImpl: a cache without its types: shards, one bound over all of them, and its memory.
//
// A put makes room by evicting, adds its charge by a compare-and-swap that cannot pass the line,
// takes memory, and is put in; each step without the lock but for the first and the last. What
// leaves is destroyed and its memory given back before its charge is released. So the charge
// covers what is taken at every instant.
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "base/upkeep.hpp"
#include "cache/cache_policies.hpp"
#include "cache/policy.hpp"
#include "cache/readers.hpp"
#include "cache/reserved_array.hpp"
#include "cache/shard.hpp"
#include "forebay/cache.hpp"
#include "forebay/pool.hpp"

namespace forebay::detail {

// One loader at work, and those who wait for it.
class CacheFlight {
 public:
  std::uint64_t hash = 0;
  std::shared_ptr<const void> key;
  std::thread::id leader;
  bool done = false;
  std::uint32_t waiters = 0;
  Status failure;
  PinnedEntry result;               // pinned once for each waiter
  Clock::TimePoint forgotten_at{};  // of a failure that answers others too
  std::condition_variable changed;
};

struct FlightTable {
  using Flights = std::list<std::shared_ptr<CacheFlight>>;
  std::mutex mutex;
  Flights flights;   // at work
  Flights failures;  // kept for a while
};

struct CacheImpl final : Upkeep::Charge {
  CacheImpl(CacheOptions given, const EntryType& entry_type);
  ~CacheImpl();
  CacheImpl(const CacheImpl&) = delete;
  CacheImpl& operator=(const CacheImpl&) = delete;

  // Finding.
  std::uint32_t shard_of(std::uint64_t hash) const noexcept {
    return static_cast<std::uint32_t>(hash >> 1 >> (63 - shard_bits));
  }
  std::uint64_t ticks() const noexcept;
  std::uint64_t steady_ticks() const noexcept;  // REQUIRES: steady
  PinnedEntry find(std::uint64_t hash, const void* key, SameKey same_key) noexcept;
  enum class Look : std::uint8_t { other, found, stale, busy };
  Look pin_if(EntryHeader& header, std::uint64_t hash, const void* key, SameKey same_key) noexcept;
  // Looks at the whole chain.
  PinnedEntry find_all(std::uint32_t index, std::uint64_t hash, const void* key,
                       SameKey same_key) noexcept;
  // Under the lock, for those who met an entry that was busy.
  PinnedEntry find_slowly(std::uint32_t index, std::uint64_t hash, const void* key,
                          SameKey same_key) noexcept;
  void note_hit(std::uint32_t shard, EntryId id) noexcept;
  void note_miss(bool stale) noexcept;
  Duration longest_aside() const noexcept;
  void unpin(std::atomic<std::uint64_t>* state) noexcept {
    const std::uint64_t old = state->fetch_sub(1, std::memory_order_acq_rel);
    if ((old & (kDoomed | kAside)) != 0 && (old & kPinMask) == 1) last_unpinned(state);
  }
  struct EntryPlace {
    std::uint32_t shard;
    EntryId id;
  };
  EntryPlace place_of(const std::atomic<std::uint64_t>* state) const noexcept;
  void last_unpinned(std::atomic<std::uint64_t>* state) noexcept;

  // Putting.
  struct Fresh;
  Result<PutOutcome> put(EntryDraft& draft, PinnedEntry* pinned);
  std::optional<PutOutcome> make_room(CacheShard& shard, const EntryDraft& draft,
                                      const EntryFacts& facts, PinnedEntry* pinned, Fresh& fresh,
                                      Status& refusal);
  EntryId look_up_fresh(CacheShard& shard, const EntryDraft& draft, Departures& out);
  EvictionOutcome make_way(CacheShard& shard, const EntryFacts& facts, std::uint64_t asked,
                           std::uint64_t wish, Fresh& fresh) noexcept;
  Status charge_budget(Fresh& fresh);
  void save_up(Fresh& fresh);
  bool make_room_elsewhere(const CacheShard& shard, std::uint64_t bytes) noexcept;
  Status build(const EntryDraft& draft, Fresh& fresh);
  std::optional<PutOutcome> put_in(CacheShard& shard, const EntryDraft& draft,
                                   const EntryFacts& facts, Fresh& fresh, PinnedEntry* pinned);
  bool replace_in_place(CacheShard& shard, EntryId id, const EntryFacts& facts, std::uint64_t word,
                        Fresh& fresh) noexcept;
  EntryId add(CacheShard& shard, const EntryDraft& draft, const EntryFacts& facts,
              std::uint64_t word, Fresh& fresh, EntryId old, Departures& out);
  static PinnedEntry pin(CacheShard& shard, EntryId id) noexcept;
  std::uint64_t deadline_for(const EntryOptions& options) const;
  // ~0 if it is more than any entry can be charged.
  std::uint64_t charge_of(const EntryDraft& draft) const noexcept;
  Status refusal(std::uint64_t asked, std::string_view why) const;

  // The bound.
  bool try_count() noexcept;
  void release_count(std::uint64_t count) noexcept {
    if (counted) entries.fetch_sub(count, std::memory_order_acq_rel);
  }
  bool try_charge(std::uint64_t bytes, bool for_entry = true) noexcept;
  void release_charge(std::uint64_t bytes, std::uint64_t entries) noexcept;
  void validate() const;
  // Bytes to be freed before `bytes` more fit; `leaving` are on their way.
  bool lacks(std::uint64_t bytes, std::uint64_t leaving,
             std::uint64_t leaving_entries) const noexcept;

  // Leaving. All without a lock.
  bool listened() const noexcept { return type.removed != nullptr; }
  // Calls user code, gives blocks back, releases charges. Numbers stay taken: see free_numbers().
  // Returns the bytes released.
  std::uint64_t settle(CacheShard& shard, Departures& out) noexcept;
  // REQUIRES: the lock. Clears `out`.
  static void free_numbers(CacheShard& shard, Departures& out) noexcept;
  static void settle_numbers(CacheShard& shard, Departures& out) noexcept;
  std::uint64_t settle_and_free(CacheShard& shard, Departures& out) noexcept;
  void fetch_blocks(const CacheShard& shard, Departures& out) const noexcept;
  void destroy(void* block) const noexcept {
    if (type.destroy != nullptr) type.destroy(block);
  }
  void destroy_block(void* block) noexcept;
  Bytes block_bytes(const void* block) const noexcept {
    return Bytes{type.size + (type.tail == nullptr ? 0 : type.tail(block))};
  }
  // Evicts from one shard until `goal` bytes went or it has nothing more to give.
  std::uint64_t evict_from(std::uint32_t index, std::uint64_t goal) noexcept;
  std::uint64_t reclaim(std::uint64_t goal) noexcept;
  void clear_shard(CacheShard& shard) noexcept;
  std::uint64_t expire_all() noexcept;
  std::uint64_t next_due() const noexcept;

  // Expiring in the background (expiry.cpp).
  void start_expiring();  // throws std::system_error if the process can have no more threads
  // On return the cache is not being looked at, and will not be.
  void stop_expiring() noexcept;
  // Wakes the thread that expires, if it would sleep for longer. Call it with no lock held.
  void await(std::uint64_t deadline) noexcept;
  Upkeep::TimePoint look() noexcept override;
  Upkeep::TimePoint time_of(std::uint64_t tick) const noexcept;
  // Idle memory of the cache's own pool; where that is too little of the goal, entries are moved to
  // leave more of it idle.
  void give_memory_back(std::uint64_t goal) noexcept;
  class Compaction;

  FlightTable& flights_of(std::uint64_t hash) noexcept { return flights[hash % flights.size()]; }

  CacheOptions options;
  EntryType type;
  std::shared_ptr<MemoryResource> memory;
  std::shared_ptr<Pool> own_pool;          // the same, if it is the cache's
  Pool* pool = nullptr;                    // `memory`, if it is one
  std::shared_ptr<MemoryResource> budget;  // counts, and has no memory; null: none
  bool counted = false;                    // whether max_entries is a bound
  bool steady = false;
  std::uint64_t first_tick = 0;
  std::uint64_t smallest_block = 0;  // one without a tail takes so much
  // For bookkeeping, in what a header says of its entry; see CacheShard::policy_bytes for the rest.
  std::uint64_t entry_overhead = 0;
  std::uint64_t entry_charge = 0;  // both
  bool reads_leaving = false;      // whether what an entry's block holds is looked at as it goes
  std::uint32_t shard_bits = 0;
  std::uint32_t most_per_shard = 0;
  std::unique_ptr<CachePolicies> policies;  // outlives the shards
  std::unique_ptr<ReservedArray<EntryHeader>> headers;
  std::vector<std::unique_ptr<CacheShard>> shards;
  std::unique_ptr<CacheReaders> readers;

  alignas(64) std::atomic<std::uint64_t> used{0};
  std::atomic<std::uint64_t> entries{0};  // charged; only if `counted`
  std::atomic<std::uint64_t> peak{0};
  alignas(64) std::atomic<std::uint64_t> max_bytes{0};  // for entries: without what is reserved
  std::atomic<std::uint32_t> next_victim_shard{0};

  // By threads that have no reader of their own.
  std::atomic<std::uint64_t> other_hits{0};
  std::atomic<std::uint64_t> other_misses{0};
  std::atomic<std::uint64_t> other_stale{0};
  std::atomic<std::uint64_t> refused{0};
  std::atomic<std::uint64_t> loads{0};
  std::atomic<std::uint64_t> load_failures{0};
  std::atomic<std::uint64_t> loads_shared{0};
  std::atomic<std::int64_t> load_nanoseconds{0};

  std::array<FlightTable, 16> flights;
  // When the process's thread is to look here next, in ticks: see expiry.cpp.
  std::atomic<std::uint64_t> awaited{TimerWheel::kNever};
  bool in_background = false;
  ReclaimerRegistration registration;
};

}  // namespace forebay::detail
