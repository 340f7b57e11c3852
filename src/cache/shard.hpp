// CacheShard: a part of a cache with a lock of its own, and who leaves it.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <utility>

#include "cache/aside_ages.hpp"
#include "cache/epochs.hpp"
#include "cache/headers.hpp"
#include "cache/policy.hpp"
#include "cache/readers.hpp"
#include "cache/table.hpp"
#include "cache/wheel.hpp"
#include "forebay/cache.hpp"

namespace forebay::detail {

// Entries that were taken out of a shard under its lock. What user code is needed for is done
// without it.
class Departures {
 public:
  // Bounds what is done under one hold of the lock.
  static constexpr std::uint32_t kMost = 64;
  struct Departure {
    EntryId id;
    RemovalReason reason;
    bool claimed;  // to be destroyed; else it is pinned here, for the listener
  };

  bool full() const noexcept { return count_ == kMost; }
  bool empty() const noexcept { return count_ == 0 && spare_ == 0; }
  // Bytes that the policy does not need any more: see CacheShard::take_spare().
  void add_spare(std::uint64_t bytes) noexcept { spare_ += bytes; }
  std::uint64_t take_spare() noexcept { return std::exchange(spare_, 0); }
  void add(Departure departure) noexcept { departures_[count_++] = departure; }
  std::span<Departure> all() noexcept { return {departures_.data(), count_}; }
  void clear() noexcept { count_ = attached_ = 0; }
  // Those that are still in tables and lists: see CacheShard::evict().
  std::span<Departure> attached() noexcept { return all().subspan(attached_); }
  void note_detached() noexcept { attached_ = count_; }

 private:
  std::array<Departure, kMost> departures_;
  std::uint32_t count_ = 0;
  std::uint32_t attached_ = 0;  // from here on
  std::uint64_t spare_ = 0;
};

// Written under the shard's lock, read by anyone.
class ShardCounter {
 public:
  void add(std::uint64_t n) noexcept { count_.store(load() + n, std::memory_order_relaxed); }
  void subtract(std::uint64_t n) noexcept { count_.store(load() - n, std::memory_order_relaxed); }
  void set(std::uint64_t n) noexcept { count_.store(n, std::memory_order_relaxed); }
  std::uint64_t load() const noexcept { return count_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::uint64_t> count_{0};
};

// What a shard knows of time.
struct TickSource {
  const void* of = nullptr;
  std::uint64_t (*read)(const void* of) noexcept = nullptr;
  std::uint64_t now() const noexcept { return read(of); }
};

// What find() learned.
struct Found {
  EntryId id = kNoEntry;
  bool stale = false;  // it was there, past its deadline
};

// The lock guards everything but the table's and headers' parts that are for any thread.
// Invariants (validate()):
//   1. an entry is in the table if and only if its state is live;
//   2. the policy has all of these but those set aside;
//   3. the wheel has those with a deadline;
//   4. what the policy takes beyond the entries' own charges is charged: policy_bytes.
struct alignas(64) CacheShard final : EntryFactsSource {
  CacheShard(const EntryHeaders& header_array, std::uint32_t most,
             std::unique_ptr<EvictionPolicy> eviction, TickSource clock);

  CacheShard(const CacheShard&) = delete;
  CacheShard& operator=(const CacheShard&) = delete;
  ~CacheShard() = default;

  // For the policy.
  EntryFacts facts_of(EntryId id) const noexcept override { return headers[id].facts(); }

  // The entry of a key, if any, whatever its deadline. REQUIRES: the lock.
  EntryId look_up(std::uint64_t hash, const void* key, SameKey same_key) const noexcept;
  // Without the lock: pins it. `now` is asked only for an entry with a deadline.
  template <typename Now>
  Found find(std::uint64_t hash, const void* key, SameKey same_key, Now now) noexcept;
  // Without the lock: looks under it, for those who met an entry that was busy.
  template <typename Now>
  Found find_slowly(std::uint64_t hash, const void* key, SameKey same_key, Now now) noexcept;

  // All below: REQUIRES: the lock.
  // Tells the policy of the hits that this thread has noted, so that it knows what it decides on,
  // and of those of some others, in turn: with many threads not all are looked at with each miss.
  void drain(std::uint32_t index, CacheReaders& readers) noexcept;
  // Takes a live entry out: claims it, or if it is pinned, dooms it.
  // REQUIRES: out is not full, and has none that is attached.
  void take_out(EntryId id, RemovalReason reason, bool listened, Departures& out) noexcept;
  // Evicts the policy's next victim that is not pinned; the others are set aside on the way. The
  // caller goes on to detach(), for all of them together, before the lock is let go.
  EvictionOutcome evict(const EntryFacts& incoming, Departures& out) noexcept;
  void detach(Departures& out) noexcept;
  // What the next eviction touches comes from memory while others use the shard.
  void fetch_next_victims() const noexcept;
  // The policy forgets an entry that is pinned, until it is not. False: nobody has it pinned now.
  bool set_aside(EntryId id) noexcept;
  void fetch(std::span<const EntryId> entries) const noexcept;
  // What take_out() of these touches.
  void fetch_leaving(std::span<const EntryId> entries) const noexcept;
  // What evict() is likely to look at, for so many entries at most.
  void fetch_victims(std::size_t most) const noexcept;
  // Entries past their deadline go. Whether there may be more.
  bool expire(std::uint64_t now, bool listened, Departures& out) noexcept;
  // Puts an entry that was set aside back, if nobody has it pinned. The policy may have no memory
  // for that; then it goes.
  void put_back(EntryId id, bool listened, Departures& out) noexcept;
  void free(EntryId id) noexcept;
  // In one order with CacheImpl::awaited: see expiry.cpp.
  void note_next_due() noexcept { next_due.store(wheel.next_due()); }
  // What the policy needs charged, and what a newcomer may be asked for it.
  PolicyCharge policy_charge() const noexcept {
    return pays_policy_ ? policy->charge(aside.load() + leaving.load()) : PolicyCharge{};
  }
  // A miss: the policy may begin what it has waited for. Exceptions: std::bad_alloc.
  void missed(const EntryFacts& incoming) {
    if (pays_policy_) policy->charged(policy_bytes.load(), aside.load() + leaving.load());
    policy->missed(incoming);
  }
  // Charged for the policy, and not needed.
  std::uint64_t spare() const noexcept;
  // The same, to be released when the lock has been let go.
  std::uint64_t take_spare() noexcept;
  // Whether that is enough for the policy to have one entry more.
  bool pays_for_newcomer(std::uint64_t bytes) const noexcept;
  std::uint64_t charged_entries() const noexcept {
    return in_policy.load() + aside.load() + leaving.load();
  }
  std::uint64_t expired_count() const noexcept {
    return removed[static_cast<std::size_t>(RemovalReason::expired)].load();
  }
  void note_bookkeeping() noexcept {
    bookkeeping.set(headers.used() * sizeof(EntryHeader) + table.bytes() + wheel.bytes() +
                    epochs.bytes() + policy->metadata_bytes());
  }
  void validate() const;

  mutable std::mutex mutex;
  std::atomic<std::uint64_t> next_due{TimerWheel::kNever};
  EntryHeaders headers;
  CacheTable table;
  std::unique_ptr<EvictionPolicy> policy;
  TimerWheel wheel;
  EpochLists epochs;

  ShardCounter in_policy;
  ShardCounter aside;
  ShardCounter aside_since;  // the tick of the oldest; AsideAges::kNone
  ShardCounter leaving;      // doomed, not claimed yet
  ShardCounter insertions;
  ShardCounter declined;
  std::array<ShardCounter, 5> removed;  // by reason
  ShardCounter bookkeeping;             // bytes, as of the latest put
  ShardCounter policy_bytes;            // charged beside what the headers say
  ShardCounter newcomer_bytes;          // of these, an entry's part, as of the latest change

 private:
  void drain_ring(HitRing& ring) noexcept;
  void not_aside(EntryId id) noexcept;
  bool claim_unpinned(EntryId id) noexcept;
  void unlink(EntryId id) noexcept;

  const TickSource ticks_;
  const bool pays_policy_;
  AsideAges ages_;
  CacheReader* next_reader_ = nullptr;  // whose hits are told of next
};

// A deadline of 32 bits that lies within 2^31 ticks of `now`.
inline std::uint64_t whole_deadline(std::uint64_t state, std::uint64_t now) noexcept {
  const auto low = static_cast<std::uint32_t>(state >> kDeadlineShift);
  const auto ahead = static_cast<std::int32_t>(low - static_cast<std::uint32_t>(now));
  return now + static_cast<std::uint64_t>(static_cast<std::int64_t>(ahead));
}
inline bool has_deadline(std::uint64_t state) noexcept { return state >> kDeadlineShift != 0; }
template <typename Now>
bool is_stale(std::uint64_t state, Now now) noexcept {
  if (!has_deadline(state)) return false;
  const std::uint64_t ticks = now();
  return whole_deadline(state, ticks) <= ticks;
}

template <typename Now>
Found CacheShard::find_slowly(std::uint64_t hash, const void* key, SameKey same_key,
                              Now now) noexcept {
  const std::lock_guard lock{mutex};
  const EntryId id = look_up(hash, key, same_key);
  if (id == kNoEntry) return {};
  const std::uint64_t old = headers[id].state.load(std::memory_order_relaxed);
  if (is_stale(old, now)) return {kNoEntry, true};
  headers[id].state.fetch_add(1, std::memory_order_acq_rel);
  return {id, false};
}

}  // namespace forebay::detail
