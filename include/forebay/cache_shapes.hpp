// Caches of other shapes than key and value, over Cache<Key, Value>:
//
//   PairCache<Id, Value>   what belongs to two things in no order: similarities
//   TensorCache<Key>       what lies in device memory; two lines, the device's and the host's
//
// Budgets and clocks that are given must outlive them. User code (moves, destructors, weighers,
// listeners) runs with no lock held, unless it says otherwise.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <type_traits>
#include <utility>
#include <vector>

#include "forebay/cache.hpp"
#include "forebay/tensor.hpp"

#pragma GCC visibility push(default)
namespace forebay {

// A pinned entry, or none: a CacheHandle to the value itself.
template <typename Under>
class [[nodiscard]] ShapeHandle {
 public:
  ShapeHandle() noexcept = default;
  explicit ShapeHandle(typename Under::Handle entry) noexcept : entry_(std::move(entry)) {}
  explicit operator bool() const noexcept { return bool{entry_}; }
  // REQUIRES: there is an entry.
  const auto& key() const noexcept { return entry_.key(); }
  const auto& operator*() const noexcept { return entry_->value; }
  const auto* operator->() const noexcept { return &entry_->value; }
  void reset() noexcept { entry_.reset(); }

 private:
  typename Under::Handle entry_;
};

// ---- PairCache

namespace detail {

std::uint64_t mix_id(std::uint64_t hash) noexcept;

// A place in the list of one id.
struct PairSide {
  PairSide* next = nullptr;
  PairSide** before = nullptr;  // what points here; null: in no list
  std::uint64_t hash = 0;       // of the id; its lowest bit is which side this is
};
struct PairLinks {
  std::array<PairSide, 2> sides{};
  const void* key = nullptr;  // null: has never been in a list
};

// The pairs of each id: lists in buckets, each guarded by one of 64 locks.
class PairIndex {
 public:
  // Takes its bytes out of the options' max_bytes and from their budget. Throws Failure.
  PairIndex(CacheOptions& options, std::size_t entry_size);
  ~PairIndex();
  PairIndex(const PairIndex&) = delete;
  PairIndex& operator=(const PairIndex&) = delete;

  // Does nothing for what is linked already. `a` and `b` are hashes of the ids.
  void link(PairLinks& links, const void* key, std::uint64_t a, std::uint64_t b) noexcept;
  void unlink(PairLinks& links) noexcept;
  // Takes pairs of ids with that hash out of its list: those whose key `wanted` says true to,
  // under the lock, `most` at most.
  void take(std::uint64_t hash, std::size_t most, const std::function<bool(const void*)>& wanted);
  Bytes bytes() const noexcept;
  void validate() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

template <typename Id>
struct PairKey {
  Id a;
  Id b;
};
template <typename Id, typename Hash>
struct PairHash {
  using is_transparent = void;
  template <typename Pair>
  std::uint64_t operator()(const Pair& pair) const {
    return of(pair.a) + of(pair.b);  // in either order
  }
  static std::uint64_t of(const Id& id) { return mix_id(Hash{}(id)); }
};
struct PairEqual {
  template <typename One, typename Other>
  bool operator()(const One& x, const Other& y) const {
    return (x.a == y.a && x.b == y.b) || (x.a == y.b && x.b == y.a);
  }
};

// A value in the lists of both its ids, once it lies where it stays.
template <typename Value>
struct Paired {
  Paired(PairIndex* of, Value made) : index(of), value(std::move(made)) {}
  Paired(Paired&& other) noexcept(std::is_nothrow_move_constructible_v<Value>)
      : index(other.index), value(std::move(other.value)) {}
  Paired& operator=(Paired&&) = delete;
  ~Paired() {
    if (links.key != nullptr) index->unlink(links);
  }

  PairIndex* index;
  mutable PairLinks links{};  // of the index
  Value value;
};

}  // namespace detail

// A Cache of unordered pairs: (a, b) and (b, a) are one entry. Its options are Cache's; the index
// by member takes 56 B an entry, and 2 B an entry that could be, both part of max_bytes.
//
// Thread safety: as Cache.
template <typename Id, typename Value, typename IdHash = CacheHash<Id>>
class PairCache {
  using Key = detail::PairKey<Id>;
  using Stored = detail::Paired<Value>;
  using Hash = detail::PairHash<Id, IdHash>;
  using Under = Cache<Key, Stored, Hash, detail::PairEqual>;

 public:
  // Its key() has the ids, a and b, in the order of the put.
  using Handle = ShapeHandle<Under>;
  struct Hooks {
    std::function<Bytes(const Id& a, const Id& b, const Value&)> weigher{};
    std::function<void(const Id& a, const Id& b, const Value&, RemovalReason)> listener{};
  };

  // Throws as Cache's constructor; Failure also if max_bytes has no room for the index.
  explicit PairCache(CacheOptions options = {}, Hooks hooks = {})
      : index_(options, sizeof(detail::CacheEntry<Key, Stored>)),
        cache_(std::move(options), under(std::move(hooks))) {}

  Handle find(const Id& a, const Id& b) {
    return Handle{cache_.find(detail::PairKey<const Id&>{a, b})};
  }
  // Errors: as Cache::put.
  Result<PutOutcome> put(Id a, Id b, Value value, const EntryOptions& options = {}) {
    const Key key{std::move(a), std::move(b)};
    auto outcome = cache_.put(key, Stored{&index_, std::move(value)}, options);
    if (outcome && *outcome != PutOutcome::declined) link(cache_.peek(key));
    return outcome;
  }
  // loader(a, b) makes a Value or a Result<Value>. As Cache::get_or_compute.
  template <typename Loader>
  Result<Handle> get_or_compute(const Id& a, const Id& b, Loader&& loader,
                                const EntryOptions& options = {}) {
    if (Handle found = find(a, b)) return found;
    auto made = cache_.get_or_compute(
        Key{a, b},
        [&](const Key& key) -> Result<Stored> {
          Result<Value> value = loader(key.a, key.b);
          if (!value) return value.status();
          return Stored{&index_, std::move(*value)};
        },
        options);
    if (!made) return made.status();
    link(*made);
    return Handle{std::move(*made)};
  }
  bool erase(const Id& a, const Id& b) { return cache_.erase(Key{a, b}); }
  // Erases all pairs that `id` is in, by a list of them; how many. Pairs that are put meanwhile
  // may stay. Throws std::bad_alloc, with some erased. Copies ids under a lock.
  std::uint64_t erase_all_of(const Id& id) {
    std::uint64_t erased = 0;
    std::vector<Key> found;
    for (std::size_t batch = 64;; batch = std::min<std::size_t>(batch * 2, 4096)) {
      found.clear();
      found.reserve(batch);
      // What was taken out of the lists must go, whatever happens.
      const Erasing rest{cache_, found, erased};
      index_.take(Hash::of(id), batch, [&](const void* stored) {
        const Key& key = *static_cast<const Key*>(stored);
        if (!(key.a == id) && !(key.b == id)) return false;
        found.push_back(key);
        return true;
      });
      if (found.size() < batch) break;
    }
    return erased;
  }
  void clear() noexcept { cache_.clear(); }

  // As Cache's. Its stats are those of the entries: without index_bytes().
  void set_max_bytes(Bytes bytes) { cache_.set_max_bytes(saturating_sub(bytes, index_.bytes())); }
  Bytes index_bytes() const noexcept { return index_.bytes(); }
  std::uint64_t cleanup_expired() noexcept { return cache_.cleanup_expired(); }
  CacheStats stats() const noexcept { return cache_.stats(); }
  Reclaimer& reclaimer() noexcept { return cache_.reclaimer(); }
  void validate() const {
    cache_.validate();
    index_.validate();
  }

 private:
  struct Erasing {
    ~Erasing() {
      for (const Key& key : found) erased += cache.erase(key) ? 1U : 0U;
    }
    Under& cache;
    const std::vector<Key>& found;
    std::uint64_t& erased;
  };
  void link(const typename Under::Handle& entry) noexcept {
    if (!entry) return;
    index_.link(entry->links, &entry.key(), Hash::of(entry.key().a), Hash::of(entry.key().b));
  }
  static typename Under::Hooks under(Hooks hooks) {
    typename Under::Hooks made;
    if (hooks.weigher) {
      made.weigher = [weigh = std::move(hooks.weigher)](const Key& key, const Stored& stored) {
        return weigh(key.a, key.b, stored.value);
      };
    }
    if (hooks.listener) {
      made.listener = [tell = std::move(hooks.listener)](const Key& key, const Stored& stored,
                                                         RemovalReason reason) {
        tell(key.a, key.b, stored.value, reason);
      };
    }
    return made;
  }

  detail::PairIndex index_;
  Under cache_;
};

// ---- TensorCache

struct TensorCacheOptions {
  // Of entries on the host: keys, handles of blocks, bookkeeping. max_bytes and budget are the
  // host's. By default the lowest utility goes first.
  CacheOptions host{.name = "tensors", .policy = "utility", .shards = 1};
  Bytes max_device_bytes{1ULL << 30};  // of values
  // Also charged for values, and this cache is then a reclaimer of it. For pools that do not
  // themselves draw from that budget; if they do, leave it out: the bytes are charged there.
  Budget* device_budget = nullptr;
  int device_priority = 0;
  // Where values come from: they are charged its good_size(), rounding included. None: size().
  std::shared_ptr<MemoryResource> resource{};
  // The Pool or TensorPool of the values: passes them on when device bytes are reclaimed.
  std::shared_ptr<Reclaimer> idle{};
};

struct TensorCacheStats {
  CacheStats host;
  Bytes device_used;  // charged now, pinned values included
  Bytes device_peak;
  Bytes max_device_bytes;
  std::uint64_t device_refused = 0;  // values that found no room on the device
};

namespace detail {

// The device's side of a cache: a hard line of bytes, the budget that they are charged to as well,
// and the reclaimer of that budget.
class DeviceLine final : public Reclaimer {
 public:
  using Evict = EvictionOutcome (*)(void* context) noexcept;
  DeviceLine(const TensorCacheOptions& options, void* cache, Evict evict_one);
  ~DeviceLine() override;

  // From now on the budget asks this for bytes, until close().
  void open();
  void close() noexcept;
  std::uint64_t charge_of(Bytes size, Bytes alignment) const noexcept;
  // After evicting what is in the way: for the newcomer, or if that is null, for whom it may be.
  // False: the policy declined the newcomer.
  Result<bool> charge(std::uint64_t bytes, void* newcomer, Evict evict_for);
  void release(std::uint64_t bytes) noexcept;
  void set_max(Bytes bytes) noexcept;
  void add_to(TensorCacheStats& stats) const noexcept;
  Bytes reclaim(Bytes goal) noexcept override;
  Bytes reclaimable() const noexcept override;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

class DeviceCharge {
 public:
  DeviceCharge(DeviceLine* line, std::uint64_t bytes) noexcept : line_(line), bytes_(bytes) {}
  DeviceCharge(DeviceCharge&& other) noexcept
      : line_(std::exchange(other.line_, nullptr)), bytes_(other.bytes_) {}
  DeviceCharge& operator=(DeviceCharge&&) = delete;
  ~DeviceCharge() {
    if (line_ != nullptr) line_->release(bytes_);
  }
  explicit operator bool() const noexcept { return line_ != nullptr; }

 private:
  DeviceLine* line_;
  std::uint64_t bytes_;
};

inline Bytes alignment_of(const Buffer& buffer) noexcept { return buffer.alignment(); }
inline Bytes alignment_of(const Tensor&) noexcept { return TensorPoolOptions{}.alignment; }

}  // namespace detail

// A value of a TensorCache. Its end comes before its charge's.
template <typename Value>
struct OnDevice {
  detail::DeviceCharge charge;
  Value value;
};

// A Cache whose values are blocks of device memory: Tensor or Buffer. What they take is held to
// max_device_bytes, and charged to the device's budget; entries are held to host.max_bytes, and
// charged to the host's: each line by itself, at every instant. Their content is never read.
//
// Where either line is full, who the policy holds for worth least goes, and its block is back in
// its pool; with the policy "utility" that is the lowest activation. A handle keeps its block,
// charged, also when the entry was evicted or replaced. Policies that weigh sizes know those on
// the host only. Pools of the values must outlive the cache.
//
// Thread safety: as Cache.
template <typename Key, typename Value = Tensor, typename Hash = CacheHash<Key>>
class TensorCache {
  using Stored = OnDevice<Value>;
  using Under = Cache<Key, Stored, Hash>;

 public:
  using Handle = ShapeHandle<Under>;
  // As Cache's. The weigher says what key and handle hold of the host's memory.
  using Hooks = typename Under::Hooks;

  // Throws as Cache's constructor.
  explicit TensorCache(TensorCacheOptions options, Hooks hooks = {})
      : line_(options, this, evict_one), cache_(std::move(options.host), std::move(hooks)) {
    line_.open();
  }
  ~TensorCache() { line_.close(); }

  Handle find(const Key& key) { return Handle{cache_.find(key)}; }
  // EntryOptions::utility is the activation. Whatever the outcome, the value is the cache's: if
  // it is not kept, its block is back in its pool. Errors: as Cache::put; memory_refused also for
  // the device's line or budget.
  Result<PutOutcome> put(const Key& key, Value value, const EntryOptions& options = {}) {
    auto stored = charged(key, std::move(value), options, false);
    if (!stored) return stored.status();
    if (!stored->charge) return PutOutcome::declined;
    return cache_.put(key, std::move(*stored), options);
  }
  // loader(key) makes a Value or a Result<Value>. As Cache::get_or_compute, but that a value for
  // which the device has no room is an error.
  template <typename Loader>
  Result<Handle> get_or_compute(const Key& key, Loader&& loader, const EntryOptions& options = {}) {
    auto made = cache_.get_or_compute(
        key,
        [&](const Key& wanted) -> Result<Stored> {
          Result<Value> value = loader(wanted);
          if (!value) return value.status();
          return charged(wanted, std::move(*value), options, true);
        },
        options);
    if (!made) return made.status();
    return Handle{std::move(*made)};
  }
  bool erase(const Key& key) noexcept { return cache_.erase(key); }
  void clear() noexcept { cache_.clear(); }

  // A new line of the device at any time: entries are evicted until it holds.
  void set_max_device_bytes(Bytes bytes) noexcept { line_.set_max(bytes); }
  // As Cache's: the host's line.
  void set_max_bytes(Bytes bytes) { cache_.set_max_bytes(bytes); }
  std::uint64_t cleanup_expired() noexcept { return cache_.cleanup_expired(); }
  // Evicts until `goal` bytes of the device are free, and has them passed on; the bytes.
  Bytes reclaim_device(Bytes goal) noexcept { return line_.reclaim(goal); }
  Reclaimer& device_reclaimer() noexcept { return line_; }
  Reclaimer& reclaimer() noexcept { return cache_.reclaimer(); }
  TensorCacheStats stats() const noexcept {
    TensorCacheStats stats;
    stats.host = cache_.stats();
    line_.add_to(stats);
    return stats;
  }
  void validate() const { cache_.validate(); }

 private:
  struct Newcomer {
    Under& cache;
    const Key& key;
    const EntryOptions& options;
  };
  static detail::EvictionOutcome evict_for(void* given) noexcept {
    const auto& newcomer = *static_cast<Newcomer*>(given);
    if (newcomer.cache.cleanup_expired() != 0) return detail::EvictionOutcome::done;
    return newcomer.cache.evict_for(newcomer.key, newcomer.options);
  }
  static detail::EvictionOutcome evict_one(void* cache) noexcept {
    const Bytes freed = static_cast<TensorCache*>(cache)->cache_.reclaim(Bytes{1});
    return freed.is_zero() ? detail::EvictionOutcome::none : detail::EvictionOutcome::done;
  }
  // A value with its charge; without one if the policy declines it.
  Result<Stored> charged(const Key& key, Value value, const EntryOptions& options, bool wanted) {
    Newcomer newcomer{cache_, key, options};
    const std::uint64_t bytes = line_.charge_of(value.size(), detail::alignment_of(value));
    auto room = line_.charge(bytes, wanted ? nullptr : &newcomer, evict_for);
    if (!room) return room.status();
    return Stored{{*room ? &line_ : nullptr, bytes}, std::move(value)};
  }

  detail::DeviceLine line_;
  Under cache_;
};

}  // namespace forebay
#pragma GCC visibility pop
