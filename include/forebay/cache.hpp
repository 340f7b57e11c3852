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
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "forebay/cache_core.hpp"
#include "forebay/cache_file.hpp"

#pragma GCC visibility push(default)
namespace forebay {

namespace detail {

template <typename Key, typename Value>
struct CacheEntry {
  Key key;
  Value value;
};

}  // namespace detail

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
  // What is put: a Value, but for CacheBytes a span of bytes.
  using Given = typename detail::CacheValue<Value>::Given;
  struct Hooks {
    // Bytes that key and value hold elsewhere. Must not change while they are in.
    std::function<Bytes(const Key&, const Given&)> weigher{};
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
  Result<PutOutcome> put(Key key, Given value, const EntryOptions& options = {}) {
    Parts parts{std::move(key), std::move(value)};
    return core_.put(draft(parts, options), nullptr);
  }
  Result<PutOutcome> put_if_absent(Key key, Given value, const EntryOptions& options = {}) {
    Parts parts{std::move(key), std::move(value)};
    detail::EntryDraft made = draft(parts, options);
    made.only_if_absent = true;
    return core_.put(made, nullptr);
  }

  // What find() finds, or else what loader(key) makes: a Value (for CacheBytes, a
  // std::vector<std::byte>) or a Result of it. One loader of a
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

  // Writes what is in and not past its deadline to a file, the one that would go first standing
  // first: keys, values, times to live, costs, utilities; not how often each was asked for. The
  // file is new, with mode 0600, and whole or absent: whatever happens, what was there stays until
  // all is on the disk. One entry at a time is pinned and written; beyond that it takes 16 bytes an
  // entry. What comes in meanwhile is left out. Errors: io_error, invalid_argument (the path, the
  // type's name), memory_refused. What the serializer throws passes through.
  template <typename Serializer = CacheSerializer<Key, Value>>
  Result<CacheSaved> save(const std::string& path, const Serializer& serializer = {}) {
    return core_.save(path, Form<Serializer>{this, serializer}.erased());
  }
  // Takes in what save() wrote. The whole file is checked before anything of it is believed. If not
  // all of it fits, what stood first is left out. Others may use the cache meanwhile. Errors, after
  // which the cache is empty: not_found (no file), failed_precondition (the cache had entries; they
  // stay), corrupt_data with the place and the reason (damaged, cut, of another version or other
  // types, what the serializer refuses), invalid_argument, io_error, memory_refused. What the
  // serializer throws passes through.
  template <typename Serializer = CacheSerializer<Key, Value>>
  Result<CacheLoaded> load(const std::string& path, const CacheLoadOptions& options = {},
                           const Serializer& serializer = {}) {
    return core_.load(path, Form<Serializer>{this, serializer}.erased(), options);
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
  // Evicts one entry, if the policy holds any for worth less than the newcomer: for those who
  // bound more than these bytes, as TensorCache does.
  detail::EvictionOutcome evict_for(const Key& newcomer, const EntryOptions& options) noexcept {
    return core_.evict_for(key_draft(newcomer, options));
  }
  // For budgets and governors; a cache with a `budget` is registered there already.
  Reclaimer& reclaimer() noexcept { return core_; }
  // Aborts unless every structure is consistent. For tests: takes each lock for long.
  void validate() const { core_.validate(); }

 private:
  using Entry = detail::CacheEntry<Key, Value>;
  struct Parts {
    Key key;
    Given value;
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

  // A serializer, for the core. Lives for one call.
  template <typename Serializer>
  struct Form {
    Cache* cache;
    const Serializer& serializer;

    detail::EntryForm erased() const { return {serializer.type(), this, write, put}; }
    static void write(const void* form, const void* block, std::string& key, std::string& value) {
      const auto& to = static_cast<const Form*>(form)->serializer;
      const auto& entry = *static_cast<const Entry*>(block);
      to.write_key(entry.key, key);
      to.write_value(entry.value, value);
    }
    static Status put(const void* form, std::string_view key, std::string_view value,
                      const EntryOptions& options, std::optional<PutOutcome>& outcome) {
      const auto& from = *static_cast<const Form*>(form);
      auto read_key = from.serializer.read_key(key);
      if (!read_key) return read_key.status().with_context("key");
      auto read_value = from.serializer.read_value(value);
      if (!read_value) return read_value.status().with_context("value");
      Parts parts{std::move(*read_key), Given(std::move(*read_value))};
      detail::EntryDraft made = from.cache->draft(parts, options);
      made.only_if_absent = true;
      made.asked_for = false;
      if (auto put = from.cache->core_.put(made, nullptr)) outcome = *put;
      return {};
    }
  };

  static constexpr bool kHashIsKey = std::integral<Key> && std::same_as<Hash, CacheHash<Key>> &&
                                     std::same_as<Equal, std::equal_to<>>;
  // Whether the cache can move entries: their values have no life of their own.
  static constexpr bool kCopied =
      std::is_trivially_copyable_v<Entry> ||
      (std::same_as<Value, CacheBytes> && std::is_copy_constructible_v<Key>);
  static bool copy_entry(void* to, const void* from) noexcept try {
    const auto& entry = *static_cast<const Entry*>(from);
    if constexpr (std::same_as<Value, CacheBytes>) {
      new (to) Entry{entry.key, CacheBytes(entry.value.bytes())};
    } else {
      new (to) Entry(entry);
    }
    return true;
  } catch (...) {
    return false;
  }

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
    detail::EntryType made{.size = sizeof(Entry), .alignment = alignof(Entry)};
    if constexpr (!std::is_trivially_destructible_v<Entry>) {
      made.destroy = [](void* block) noexcept { static_cast<Entry*>(block)->~Entry(); };
    }
    if constexpr (std::same_as<Value, CacheBytes>) {
      made.tail = [](const void* block) noexcept -> std::uint64_t {
        return static_cast<const Entry*>(block)->value.size();
      };
    }
    if constexpr (kCopied) made.copy = copy_entry;
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
    made.tail = detail::CacheValue<Value>::tail(parts.value);
    made.parts = &parts;
    made.construct = [](void* block, void* given) -> const void* {
      auto& from = *static_cast<Parts*>(given);
      from.used = true;
      // Made in its place: no temporary.
      return &(new (block) Entry{std::move(from.key), Value(std::move(from.value))})->key;
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
    Result<typename detail::CacheValue<Value>::Made> made = loader(key);
    landing.took = core_.clock().now() - begin;
    if (!made) {
      landing.failure = made.status();
      return made.status();
    }
    Parts parts{key, Given(std::move(*made))};
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
