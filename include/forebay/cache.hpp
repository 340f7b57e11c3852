// Cache<Key, Value>: keeps what can be made again, bounded by bytes.
//
//   forebay::Cache<std::string, Embedding> cache{{.max_bytes = 256_MiB, .max_age = 1h}};
//   auto found = cache.get_or_compute(text, [&](const std::string& t) { return embed(t); });
//   if (found) use(**found);                  // pinned: valid while the handle is held
//
// Bound: max_bytes is a hard line. Each entry is charged the block that its key and value take
// from `memory`, rounding included, what the weigher says they hold elsewhere, and
// kCacheEntryOverhead for bookkeeping. The charge is made before memory is taken and released
// after it is given back: the sum is never above the line, not for an instant. So a replacement
// needs room for the old value and the new one. With a `budget` the same bytes are charged there.
//
// Pins: find() returns a handle that pins its entry. A pinned entry is not evicted, and may be
// erased, replaced or expire: then it is no longer found, and its bytes stay charged until its
// last handle goes. An eviction that meets a pinned entry sets it aside until then; it never
// meets it twice.
//
// Speed: a hit takes no lock and writes one shared word, the pin. Hits are told to the eviction
// policy later, in order, by whoever next holds the lock of the entry's shard; with one thread
// that is always before the next decision. (Pins before looks on headers that are never freed:
// as RocksDB's HyperClockCache. Growth by one bucket at a time: Litwin, "Linear hashing", 1980.)
//
// Time: entries with a deadline sit in a hierarchical timing wheel (Varghese & Lauck 1987) with a
// tick of 8.4 ms. None is served later than one tick (with the steady clock: two) past its
// deadline, none is dropped before it. A thread of the process frees what expired; with another
// clock call cleanup_expired().
//
// User code (loaders, listeners, destructors, moves of keys and values) is never called with a
// lock held; hashing and comparing keys may be, and must not use the cache or throw.
//
// The cache must outlive its handles, and aborts if it does not.
//
// Thread safety: thread-safe; a handle is used by one thread at a time and may end on any.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "forebay/budget.hpp"
#include "forebay/bytes.hpp"
#include "forebay/clock.hpp"
#include "forebay/device.hpp"
#include "forebay/status.hpp"

#pragma GCC visibility push(default)
namespace forebay {

// Bookkeeping that each entry is charged for: its header, its places in the table, in the policy
// and in the wheel.
inline constexpr Bytes kCacheEntryOverhead{64};

// Why an entry left.
enum class RemovalReason : std::uint8_t { evicted, expired, erased, replaced, cleared };
std::string_view to_string(RemovalReason reason) noexcept;

enum class PutOutcome : std::uint8_t {
  inserted,
  replaced,
  present,   // put_if_absent: the key was there; nothing changed
  declined,  // the policy holds the newcomer for worth less than what is in
};

struct CacheOptions {
  std::string name = "cache";
  Bytes max_bytes{64ULL << 20};
  std::uint64_t max_entries = ~std::uint64_t{0};
  // "lru", "lfu", "random", "utility", "hybrid", "fifo", "clock", "sieve", "s3fifo", "arc",
  // "lirs", "twoq", "wtinylfu", "gdsf", "learned", "auto".
  std::string policy = "lru";
  std::string objective = "objects";  // what is to be kept low: missed "objects", "bytes", "cost"
  std::uint64_t seed = 1;             // of policies that draw numbers
  // No entry gets older; also the time to live of those that give none. Zero: without end.
  Duration max_age{0};
  // A power of two, at most 1024; each has a lock for misses. Zero: by cores and max_bytes.
  std::uint32_t shards = 0;
  std::shared_ptr<MemoryResource> memory{};  // of blocks; none: a pool of the cache's own
  Budget* budget =
      nullptr;       // also charged; the cache is then a reclaimer of it. Outlives the cache
  int priority = 0;  // as a reclaimer: lower gives back first
  Clock* clock = &Clock::steady();  // outlives the cache
  // Whether a thread of the process frees what expired. The steady clock only.
  bool background_expiry = true;
};

struct EntryOptions {
  Duration ttl{0};    // zero: max_age. At most 200 days
  float cost = 0;     // to make it again, microseconds. Zero: 1, or what its loader took
  float utility = 0;  // a score; for the policies that use one, higher stays longer
  // get_or_compute: for how long a failure of the loader is the answer of others too.
  Duration failure_ttl{0};
};

// Figures since the start, but for the first group. hits + misses = lookups.
struct CacheStats {
  Bytes used;  // charged now
  Bytes peak;  // highest `used`
  Bytes max_bytes;
  std::uint64_t entries = 0;    // that can be found
  std::uint64_t set_aside = 0;  // of these, met by an eviction while pinned
  std::uint64_t leaving = 0;    // that cannot be found any more and are still pinned
  Bytes bookkeeping;            // really taken now, beside the blocks

  std::uint64_t lookups = 0;
  std::uint64_t hits = 0;
  std::uint64_t misses = 0;
  std::uint64_t stale = 0;       // of the misses: the entry was there, past its deadline
  std::uint64_t unrecorded = 0;  // of the hits: not told to the policy, whose lock was taken
  std::uint64_t insertions = 0;
  std::uint64_t declined = 0;
  std::uint64_t refused = 0;  // puts that found no room or no memory
  std::uint64_t evicted = 0;  // by reason
  std::uint64_t expired = 0;
  std::uint64_t erased = 0;
  std::uint64_t replaced = 0;
  std::uint64_t cleared = 0;
  std::uint64_t loads = 0;  // loaders run
  std::uint64_t load_failures = 0;
  std::uint64_t loads_shared = 0;  // calls that were answered by another's loader
  Duration load_time{0};

  // 1 if there were no lookups.
  double hit_rate() const noexcept {
    return lookups == 0 ? 1.0 : static_cast<double>(hits) / static_cast<double>(lookups);
  }
};

namespace detail {

// An entry's state is one word: pins in the low bits, flags, and above them its deadline in
// ticks. src/cache/headers.hpp has the rules.
inline constexpr std::uint64_t kPinMask = (1ULL << 24) - 1;
inline constexpr std::uint64_t kLive = 1ULL << 24;
inline constexpr std::uint64_t kDoomed = 1ULL << 25;
inline constexpr std::uint64_t kClaimed = 1ULL << 26;
inline constexpr std::uint64_t kAside = 1ULL << 27;
inline constexpr std::uint64_t kBusy = 1ULL << 28;
inline constexpr std::uint64_t kDetached = 1ULL << 29;

struct PinnedEntry {
  std::atomic<std::uint64_t>* state = nullptr;  // null: none
  void* block = nullptr;
};

using SameKey = bool (*)(const void* block, const void* key) noexcept;

// What the core must know of the entries of one type.
struct EntryType {
  std::size_t size = 0;
  std::size_t alignment = 0;
  void (*destroy)(void* block) noexcept = nullptr;
  // Null: nobody listens.
  void (*removed)(void* context, const void* block, RemovalReason reason) noexcept = nullptr;
  void* context = nullptr;
};

struct EntryDraft {
  std::uint64_t hash = 0;
  const void* key = nullptr;
  SameKey same_key = nullptr;
  // Moves the parts into the block; where the key is now. May throw.
  const void* (*construct)(void* block, void* parts) = nullptr;
  void* parts = nullptr;
  std::uint64_t weight = 0;  // bytes held elsewhere
  std::optional<std::uint64_t> epoch{};
  EntryOptions options{};
  bool only_if_absent = false;
  // For flights.
  std::shared_ptr<const void> shared_key{};
  bool (*equal_keys)(const void* a, const void* b) noexcept = nullptr;
};

struct CacheImpl;
class CacheFlight;

// Cache without its types. All functions are thread-safe.
class CacheCore final : public Reclaimer {
 public:
  CacheCore(CacheOptions options, EntryType type);
  ~CacheCore() override;

  PinnedEntry find(std::uint64_t hash, const void* key, SameKey same_key) noexcept;
  // As find, and nobody counts it or tells the policy.
  PinnedEntry peek(std::uint64_t hash, const void* key, SameKey same_key) noexcept;
  // `pinned`, if given, gets the entry that the key has now, unless it was declined.
  Result<PutOutcome> put(const EntryDraft& draft, PinnedEntry* pinned);
  bool erase(std::uint64_t hash, const void* key, SameKey same_key) noexcept;
  std::uint64_t erase_epochs_before(std::uint64_t epoch) noexcept;
  void clear() noexcept;
  void snapshot(std::vector<PinnedEntry>& entries);
  // For the pin that brought an entry with kDoomed or kAside to zero.
  void last_unpinned(std::atomic<std::uint64_t>* state) noexcept;

  // An entry that no cache has: for values that were made and not taken in.
  PinnedEntry detached(const EntryDraft& draft);
  // One loader a key. Null: the caller is the loader and must end_flight(); otherwise wait for it.
  CacheFlight* join_flight(const EntryDraft& draft, Status* failure, PinnedEntry* result);
  void end_flight(CacheFlight* flight, Status failure, PinnedEntry result, Duration took,
                  Duration failure_ttl) noexcept;
  Clock& clock() const noexcept;

  void set_max_bytes(Bytes bytes);
  std::uint64_t cleanup_expired() noexcept;
  CacheStats stats() const noexcept;
  void validate() const;

  Bytes reclaim(Bytes goal) noexcept override;
  Bytes reclaimable() const noexcept override;
  std::string kept_because() const override;

 private:
  std::unique_ptr<CacheImpl> impl_;
};

inline void unpin(CacheCore* core, std::atomic<std::uint64_t>* state) noexcept {
  const std::uint64_t old = state->fetch_sub(1, std::memory_order_acq_rel);
  if ((old & (kDoomed | kAside)) != 0 && (old & kPinMask) == 1) core->last_unpinned(state);
}

template <typename Key, typename Value>
struct CacheEntry {
  Key key;
  Value value;
};

}  // namespace detail

// How keys are hashed; the cache mixes what comes out. Another type with is_transparent, and an
// Equal that compares it with keys, makes look-ups by it possible: as strings by string_view.
template <typename Key>
struct CacheHash : std::hash<Key> {};
template <>
struct CacheHash<std::string> {
  using is_transparent = void;
  std::size_t operator()(std::string_view text) const noexcept {
    return std::hash<std::string_view>{}(text);
  }
};

// A key of an epoch: erase_epochs_before() finds it without a search. Any other type of key does
// for which a function cache_epoch(key) is found.
template <typename Id>
struct EpochKey {
  std::uint64_t epoch = 0;
  Id id{};
  friend bool operator==(const EpochKey&, const EpochKey&) = default;
  friend std::uint64_t cache_epoch(const EpochKey& key) noexcept { return key.epoch; }
};
template <typename Id>
struct CacheHash<EpochKey<Id>> {
  std::size_t operator()(const EpochKey<Id>& key) const {
    return key.epoch * 0x9e3779b97f4a7c15ULL ^ CacheHash<Id>{}(key.id);
  }
};
template <typename Key>
concept EpochKeyed = requires(const Key& key) {
  std::uint64_t{cache_epoch(key)};
};

// A pinned entry, or none. The value is shared with others who found it, and so const.
template <typename Key, typename Value>
class [[nodiscard]] CacheHandle {
 public:
  CacheHandle() noexcept = default;
  CacheHandle(CacheHandle&& other) noexcept
      : core_(other.core_), pinned_(std::exchange(other.pinned_, {})) {}
  CacheHandle& operator=(CacheHandle&& other) noexcept {
    if (this == &other) return *this;
    reset();
    core_ = other.core_;
    pinned_ = std::exchange(other.pinned_, {});
    return *this;
  }
  ~CacheHandle() { reset(); }

  explicit operator bool() const noexcept { return pinned_.state != nullptr; }
  // REQUIRES: there is an entry.
  const Key& key() const noexcept { return entry().key; }
  const Value& operator*() const noexcept { return entry().value; }
  const Value* operator->() const noexcept { return &entry().value; }
  // Unpins it.
  void reset() noexcept {
    if (pinned_.state != nullptr) detail::unpin(core_, std::exchange(pinned_, {}).state);
  }

 private:
  template <typename, typename, typename, typename>
  friend class Cache;
  CacheHandle(detail::CacheCore* core, detail::PinnedEntry pinned) noexcept
      : core_(core), pinned_(pinned) {}
  const detail::CacheEntry<Key, Value>& entry() const noexcept {
    return *static_cast<const detail::CacheEntry<Key, Value>*>(pinned_.block);
  }

  detail::CacheCore* core_ = nullptr;
  detail::PinnedEntry pinned_;
};

template <typename Key, typename Value, typename Hash = CacheHash<Key>,
          typename Equal = std::equal_to<>>
class Cache {
 public:
  using Handle = CacheHandle<Key, Value>;
  struct Hooks {
    // Bytes that key and value hold beyond sizeof. Must not change while they are in.
    std::function<Bytes(const Key&, const Value&)> weigher{};
    // Told of each entry that leaves, before it is destroyed; must not throw.
    std::function<void(const Key&, const Value&, RemovalReason)> listener{};
  };

  // Throws Failure (invalid_argument) for options that are not allowed; std::bad_alloc.
  explicit Cache(CacheOptions options = {}, Hooks hooks = {})
      : hooks_(std::move(hooks)), core_(std::move(options), type()) {}
  Cache(const Cache&) = delete;
  Cache& operator=(const Cache&) = delete;

  // An empty handle if it is not there, or past its deadline. Never waits for a lock, unless the
  // entry is being replaced at this moment.
  Handle find(const Key& key) { return find_as(key); }
  template <typename Other>
  requires requires { typename Hash::is_transparent; }
  Handle find(const Other& key) { return find_as(key); }
  // The same, and it counts for nothing: not as a lookup, nor for the policy.
  Handle peek(const Key& key) { return {&core_, core_.peek(Hash{}(key), &key, same_as<Key>)}; }

  // Errors: memory_refused, with the reason, if what could be evicted does not make room for it,
  // or `memory` or the budget refuses; then what the cache holds is not changed, but for what was
  // evicted. invalid_argument: a negative ttl.
  Result<PutOutcome> put(Key key, Value value, const EntryOptions& options = {}) {
    Parts parts{std::move(key), std::move(value)};
    return core_.put(draft(parts, options), nullptr);
  }
  Result<PutOutcome> put_if_absent(Key key, Value value, const EntryOptions& options = {}) {
    Parts parts{std::move(key), std::move(value)};
    detail::EntryDraft made = draft(parts, options);
    made.only_if_absent = true;
    return core_.put(made, nullptr);
  }

  // What find() finds, or else what loader(key) makes: a Value or a Result<Value>. One loader of a
  // key runs at a time; others wait for it, and get what it made or its Status. What it throws
  // passes through. A value that the cache has no room for is the handle's alone, and not
  // charged. Errors: those of the loader; failed_precondition for a loader that asks for its key.
  template <typename Loader>
  Result<Handle> get_or_compute(const Key& key, Loader&& loader, const EntryOptions& options = {}) {
    if (Handle found = find(key)) return found;
    detail::EntryDraft made = key_draft(key, options);
    made.shared_key = std::make_shared<const Key>(key);
    made.equal_keys = equal_keys;
    Status failure;
    detail::PinnedEntry shared;
    Landing landing{core_, options, core_.join_flight(made, &failure, &shared)};
    if (landing.flight != nullptr) return load(key, loader, options, landing);
    if (!failure.ok()) return failure;
    return Handle{&core_, shared};
  }

  // Whether it was there.
  bool erase(const Key& key) noexcept { return core_.erase(Hash{}(key), &key, same_as<Key>); }
  // Erases what belongs to epochs before this one, in steps; how many entries.
  std::uint64_t erase_epochs_before(std::uint64_t epoch) noexcept requires EpochKeyed<Key> {
    return core_.erase_epochs_before(epoch);
  }
  // Empties it, and gives the memory back.
  void clear() noexcept { core_.clear(); }

  // All entries, pinned; of each shard as at one instant. Throws std::bad_alloc.
  std::vector<Handle> snapshot() {
    std::vector<detail::PinnedEntry> pinned;
    std::vector<Handle> handles;
    core_.snapshot(pinned);
    const Unpinning rest{core_, pinned, handles};
    handles.reserve(pinned.size());
    for (const detail::PinnedEntry& entry : pinned) handles.push_back(Handle{&core_, entry});
    return handles;
  }

  // A new line at any time; above it entries are evicted and memory is given back before this
  // returns, in steps that stop nobody. Throws Failure for zero, std::bad_alloc.
  void set_max_bytes(Bytes bytes) { core_.set_max_bytes(bytes); }
  // Frees what is past its deadline; how many entries. In steps of at most 64.
  std::uint64_t cleanup_expired() noexcept { return core_.cleanup_expired(); }
  // Lock-free.
  CacheStats stats() const noexcept { return core_.stats(); }
  // Evicts what the policy holds for worth least, until `goal` bytes are free and given back to
  // the system or nothing is left but what is pinned; the bytes.
  Bytes reclaim(Bytes goal) noexcept { return core_.reclaim(goal); }
  // For budgets and governors; a cache with a `budget` is registered there already.
  Reclaimer& reclaimer() noexcept { return core_; }
  // Aborts unless every structure is consistent. For tests: takes each lock for long.
  void validate() const { core_.validate(); }

 private:
  using Entry = detail::CacheEntry<Key, Value>;
  struct Parts {
    Key key;
    Value value;
    bool used = false;
  };
  // Ends a flight, whatever happens.
  struct Landing {
    ~Landing() {
      if (flight != nullptr) {
        core.end_flight(flight, std::move(failure), result, took, options.failure_ttl);
      }
    }
    detail::CacheCore& core;
    const EntryOptions& options;
    detail::CacheFlight* flight;
    Status failure{Code::failed_precondition, "the loader threw"};
    detail::PinnedEntry result{};
    Duration took{};
  };
  // Gives back the pins of a snapshot that found no memory for its handles.
  struct Unpinning {
    ~Unpinning() {
      for (std::size_t i = handles.size(); i < pinned.size(); ++i) {
        detail::unpin(&core, pinned[i].state);
      }
    }
    detail::CacheCore& core;
    const std::vector<detail::PinnedEntry>& pinned;
    const std::vector<Handle>& handles;
  };

  template <typename Other>
  static bool same_as(const void* block, const void* key) noexcept {
    return Equal{}(static_cast<const Entry*>(block)->key, *static_cast<const Other*>(key));
  }
  static bool equal_keys(const void* a, const void* b) noexcept {
    return Equal{}(*static_cast<const Key*>(a), *static_cast<const Key*>(b));
  }
  template <typename Other>
  Handle find_as(const Other& key) {
    return {&core_, core_.find(Hash{}(key), &key, same_as<Other>)};
  }

  detail::EntryType type() noexcept {
    detail::EntryType made{sizeof(Entry), alignof(Entry),
                           [](void* block) noexcept { static_cast<Entry*>(block)->~Entry(); }};
    if (!hooks_.listener) return made;
    made.context = this;
    made.removed = [](void* cache, const void* block, RemovalReason reason) noexcept {
      const auto& entry = *static_cast<const Entry*>(block);
      static_cast<Cache*>(cache)->hooks_.listener(entry.key, entry.value, reason);
    };
    return made;
  }
  detail::EntryDraft key_draft(const Key& key, const EntryOptions& options) const {
    detail::EntryDraft made;
    made.hash = Hash{}(key);
    made.key = &key;
    made.same_key = same_as<Key>;
    made.options = options;
    if (made.options.cost == 0) made.options.cost = 1;
    if constexpr (EpochKeyed<Key>) made.epoch = cache_epoch(key);
    return made;
  }
  detail::EntryDraft draft(Parts& parts, const EntryOptions& options) const {
    detail::EntryDraft made = key_draft(parts.key, options);
    if (hooks_.weigher) made.weight = hooks_.weigher(parts.key, parts.value).count();
    made.parts = &parts;
    made.construct = [](void* block, void* given) -> const void* {
      auto& from = *static_cast<Parts*>(given);
      from.used = true;
      return &(new (block) Entry{std::move(from.key), std::move(from.value)})->key;
    };
    return made;
  }

  template <typename Loader>
  Result<Handle> load(const Key& key, Loader& loader, const EntryOptions& options,
                      Landing& landing) {
    // A loader before this one may just have put it in.
    if (Handle there = peek(key)) {
      landing.failure = {};
      landing.result = there.pinned_;
      return there;
    }
    const Clock::TimePoint begin = core_.clock().now();
    Result<Value> made = loader(key);
    landing.took = core_.clock().now() - begin;
    if (!made) {
      landing.failure = made.status();
      return made.status();
    }
    Parts parts{key, std::move(*made)};
    detail::EntryDraft entry = draft(parts, options);
    if (options.cost == 0)
      entry.options.cost = std::max(1e-3F * static_cast<float>(landing.took.count()), 1.0F);
    detail::PinnedEntry pinned;
    auto outcome = core_.put(entry, &pinned);
    if (!outcome && parts.used) {
      landing.failure = outcome.status();
      return outcome.status();
    }
    if (pinned.state == nullptr) pinned = core_.detached(entry);
    landing.failure = {};
    landing.result = pinned;
    return Handle{&core_, pinned};
  }

  Hooks hooks_;
  detail::CacheCore core_;
};

}  // namespace forebay
#pragma GCC visibility pop
