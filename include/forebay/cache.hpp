// Cache<Key, Value>: keeps what can be made again, bounded by bytes.
//
//   forebay::Cache<std::string, Embedding> cache{{.max_bytes = 256_MiB, .max_age = 1h}};
//   auto found = cache.get_or_compute(text, [&](const std::string& t) { return embed(t); });
//   if (found) use(**found);                  // pinned: valid while the handle is held
//
// Bound: max_bytes is a hard line. Each entry is charged the block that its key and value take
// from `memory`, rounding included, what the weigher says they hold elsewhere, and
// cache_entry_overhead() for bookkeeping. The charge is made before memory is taken and released
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
#include <concepts>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "forebay/cache_core.hpp"

#pragma GCC visibility push(default)
namespace forebay {

namespace detail {

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
// Of integers it is the number itself: then no key is ever compared.
template <std::integral Key>
struct CacheHash<Key> {
  std::uint64_t operator()(Key key) const noexcept { return static_cast<std::uint64_t>(key); }
};
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
  Handle peek(const Key& key) { return {&core_, core_.peek(Hash{}(key), &key, same<Key>())}; }

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
  bool erase(const Key& key) noexcept { return core_.erase(Hash{}(key), &key, same<Key>()); }
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
  // What `auto` chose and why. Stops nobody: takes the lock of the simulations, for which no
  // request waits. Throws std::bad_alloc.
  CachePolicyReport policy_report() const { return core_.policy_report(); }
  // What LRU caches from a sixty-fourth to eight times of max_bytes would miss of the requests so
  // far: hits, and puts of what was not there. Empty before the first, and without the option.
  // Throws std::bad_alloc.
  std::vector<MissRatioPoint> miss_ratio_curve() const { return core_.miss_ratio_curve(); }
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
    Status failure{};
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

  static constexpr bool kHashIsKey = std::integral<Key> && std::same_as<Hash, CacheHash<Key>> &&
                                     std::same_as<Equal, std::equal_to<>>;
  template <typename Other>
  static constexpr detail::SameKey same() noexcept {
    return kHashIsKey ? nullptr : same_as<Other>;
  }
  template <typename Other>
  static bool same_as(const void* block, const void* key) noexcept {
    return Equal{}(static_cast<const Entry*>(block)->key, *static_cast<const Other*>(key));
  }
  static bool equal_keys(const void* a, const void* b) noexcept {
    return Equal{}(*static_cast<const Key*>(a), *static_cast<const Key*>(b));
  }
  template <typename Other>
  Handle find_as(const Other& key) {
    return {&core_, core_.find(Hash{}(key), &key, same<Other>())};
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
    made.same_key = same<Key>();
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
