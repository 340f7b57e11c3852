// What stands below Cache<Key, Value>: options, figures, how keys are hashed, and the compiled core
// that knows entries as blocks and keys as hashes. Include cache.hpp.
#pragma once

#include <atomic>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "forebay/budget.hpp"
#include "forebay/bytes.hpp"
#include "forebay/clock.hpp"
#include "forebay/device.hpp"
#include "forebay/status.hpp"

#pragma GCC visibility push(default)
namespace forebay {

// Bookkeeping that each entry is charged for: its header, its places in the table and the wheel,
// and what the policy of that name keeps of it. 64 B for "lru" and others that remember nothing, up
// to 96 B for "lirs". For "auto" 66 B, as long as "lru" orders the cache; when another does, what
// that takes is charged as well.
Bytes cache_entry_overhead(std::string_view policy) noexcept;

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
  // "auto", which simulates others and takes the one that misses least, or one of "lru", "lfu",
  // "random", "utility", "hybrid", "fifo", "clock", "sieve", "s3fifo", "arc", "lirs", "twoq",
  // "wtinylfu", "gdsf", "learned".
  std::string policy = "auto";
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
  // Whether Cache::miss_ratio_curve() has something to tell. Takes a sixty-fourth of max_bytes, 256
  // KiB to 1 MiB; for caches of 4 MiB and more.
  bool miss_ratio_curve = false;
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
  // Of max_bytes, for what the shards' policies share: used + reserved <= max_bytes.
  Bytes reserved;
  std::uint64_t entries = 0;    // that can be found
  std::uint64_t set_aside = 0;  // of these, met by an eviction while pinned
  Duration longest_aside{0};    // of these, the time since the first was met
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

// A value of bytes that lie in the entry's own block, right behind it: a hit reads one place of
// memory less, a put takes one block less, and the cache can move them to give memory back. What
// a put takes is a span, and copied; what a loader makes is a vector.
class CacheBytes {
 public:
  CacheBytes(const CacheBytes&) = delete;
  CacheBytes& operator=(const CacheBytes&) = delete;

  std::size_t size() const noexcept { return size_; }
  // Aligned to 8 bytes.
  std::span<const std::byte> bytes() const noexcept {
    return {reinterpret_cast<const std::byte*>(this) + sizeof *this, size_};
  }

 private:
  template <typename, typename, typename, typename>
  friend class Cache;
  // REQUIRES: as many bytes of memory behind it.
  explicit CacheBytes(std::span<const std::byte> from) noexcept : size_(from.size()) {
    if (!from.empty()) {
      std::memcpy(reinterpret_cast<std::byte*>(this) + sizeof *this, from.data(), from.size());
    }
  }

  std::uint64_t size_;
};

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

// Of files: see cache_file.hpp.
struct CacheSaved;
struct CacheLoaded;
struct CacheLoadOptions;

// What orders the cache, and why. Misses are those of the sample of keys that `auto` simulates, of
// late, in the unit of the objective.
struct CachePolicyReport {
  struct Candidate {
    std::string policy;
    double miss_ratio = 0;
    double regret = 0;  // what the cache lost beyond this one since the start, on the sample;
                        // negative where the cache did better
  };
  std::string policy;    // as given
  std::string in_force;  // the same, or what `auto` has chosen
  // The rest is of `auto` alone.
  std::vector<Candidate> candidates;
  bool watching = false;       // false while the simulations rest, or where there are none
  std::uint64_t switches = 0;  // choices of another policy
  std::uint64_t requests = 0;  // that it was told of
  std::uint64_t simulated = 0;
  double sample_rate = 0;  // of keys
  Bytes simulations;       // that they take now
  Bytes reserved;          // of max_bytes, for them and for the miss-ratio curve
};

// What an LRU cache of that size would miss.
struct MissRatioPoint {
  Bytes max_bytes;
  double objects = 1;  // misses over requests
  double bytes = 1;    // bytes missed over bytes asked for, as charged
};

namespace detail {

// How a value is given to a cache.
template <typename Value>
struct CacheValue {
  using Given = Value;  // to put()
  using Made = Value;   // by a loader
  static std::uint64_t tail(const Value&) noexcept { return 0; }
};
template <>
struct CacheValue<CacheBytes> {
  using Given = std::span<const std::byte>;
  using Made = std::vector<std::byte>;
  static std::uint64_t tail(Given bytes) noexcept { return bytes.size(); }
};

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

// Null where equal hashes are equal keys.
using SameKey = bool (*)(const void* block, const void* key) noexcept;

// What the core must know of the entries of one type.
struct EntryType {
  std::size_t size = 0;
  std::size_t alignment = 0;
  void (*destroy)(void* block) noexcept = nullptr;  // null: there is nothing to be destroyed
  // Bytes of a block behind the entry; null: none has any.
  std::uint64_t (*tail)(const void* block) noexcept = nullptr;
  // Makes a copy of an entry in another block; false if that fails. Null: it cannot be copied.
  bool (*copy)(void* to, const void* from) noexcept = nullptr;
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
  std::uint64_t tail = 0;    // bytes of the block behind the entry
  std::uint64_t weight = 0;  // bytes held elsewhere
  std::optional<std::uint64_t> epoch{};
  EntryOptions options{};
  bool only_if_absent = false;
  bool asked_for = true;  // else it comes from a file: no miss for the policy to learn of
  // For flights.
  std::shared_ptr<const void> shared_key{};
  bool (*equal_keys)(const void* a, const void* b) noexcept = nullptr;
};

struct EntryForm;
// What came of a search for somebody to evict.
enum class EvictionOutcome : std::uint8_t { done, declined, none };

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
  // Evicts one entry for that newcomer, as its put would.
  EvictionOutcome evict_for(const EntryDraft& newcomer) noexcept;
  bool erase(std::uint64_t hash, const void* key, SameKey same_key) noexcept;
  std::uint64_t erase_epochs_before(std::uint64_t epoch) noexcept;
  void clear() noexcept;
  void snapshot(std::vector<PinnedEntry>& entries);
  Result<CacheSaved> save(const std::string& path, const EntryForm& form);
  Result<CacheLoaded> load(const std::string& path, const EntryForm& form,
                           const CacheLoadOptions& options);
  // For the pin that brought an entry with kDoomed or kAside to zero.
  void last_unpinned(std::atomic<std::uint64_t>* state) noexcept;

  // An entry that no cache has: for values that were made and not taken in.
  PinnedEntry detached(const EntryDraft& draft);
  // One loader a key. Null: the caller is the loader and must end_flight(); otherwise wait for it.
  CacheFlight* join_flight(const EntryDraft& draft, Status* failure, PinnedEntry* result);
  // Neither a failure nor a result: the loader threw.
  void end_flight(CacheFlight* flight, Status failure, PinnedEntry result, Duration took,
                  Duration failure_ttl) noexcept;
  Clock& clock() const noexcept;

  void set_max_bytes(Bytes bytes);
  std::uint64_t cleanup_expired() noexcept;
  CacheStats stats() const noexcept;
  CachePolicyReport policy_report() const;
  std::vector<MissRatioPoint> miss_ratio_curve() const;
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

}  // namespace detail
}  // namespace forebay
#pragma GCC visibility pop
