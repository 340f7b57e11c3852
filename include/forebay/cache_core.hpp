// What stands below Cache<Key, Value>: options, figures, how keys are hashed and how entries are
// written to files, and the compiled core that knows entries as blocks and keys as hashes. Include
// cache.hpp.
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
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

// Bookkeeping that each entry is charged for: its header, its places in the table and the wheel,
// and what the policy of that name keeps of it. 64 B for "lru", "fifo" and "random", up to 184 B
// for others.
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
  // "lru", "lfu", "random", "utility", "hybrid", "fifo", "clock", "sieve", "s3fifo", "arc",
  // "lirs", "twoq", "wtinylfu", "gdsf", "learned".
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

// Saving and loading.

// What save() wrote.
struct CacheSaved {
  std::uint64_t entries = 0;
  Bytes file;  // its size
};

// What became of the entries of a file; the sum of these is all of them.
struct CacheLoaded {
  std::uint64_t loaded = 0;
  std::uint64_t expired = 0;      // their time to live was over
  std::uint64_t did_not_fit = 0;  // the file's least valuable
  std::uint64_t present = 0;      // somebody put the key in meanwhile: that one stays
};

struct CacheLoadOptions {
  // What entries have aged since they were saved. None: as the machine's wall clock says, since a
  // deadline is about the world and not about the process; zero: they go on as if nothing had been.
  std::optional<Duration> down_for{};
};

namespace detail {

// Spelled as the compiler does.
template <typename T>
constexpr std::string_view spelled() noexcept {
  const std::string_view all = __PRETTY_FUNCTION__;
  const std::size_t begin = all.find("T = ") + 4;
  return all.substr(begin, all.find_first_of(";]", begin) - begin);
}

}  // namespace detail

// What memcpy copies whole: no pointers, nor views of what lies elsewhere. Members that point
// elsewhere are for whoever writes such a type to know of.
template <typename T>
concept PlainBytes = std::is_trivially_copyable_v<T> && !std::is_pointer_v<T> &&
                     !std::is_member_pointer_v<T> && !std::ranges::enable_borrowed_range<T>;

// How a T becomes bytes and comes back, for save() and load(). Ready for PlainBytes (padding is
// written as it is), std::string, vectors of PlainBytes, and EpochKey of these. For another type
// specialise it with these three functions.
template <typename T>
struct AsBytes;

template <PlainBytes T>
struct AsBytes<T> {
  // What the file says that it holds. A file of other types is refused.
  static std::string name() {
    constexpr bool kFloat = std::is_floating_point_v<T>;
    const std::string size = std::to_string(sizeof(T) * 8);
    if (kFloat) return "f" + size;
    if (std::is_integral_v<T>) return (std::is_signed_v<T> ? "i" : "u") + size;
    return std::string{detail::spelled<T>()} + " of " + std::to_string(sizeof(T)) + " B";
  }
  // Appends.
  static void write(const T& value, std::string& bytes) {
    bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  // Error: what these bytes should be.
  static Result<T> read(std::string_view bytes) {
    std::array<std::byte, sizeof(T)> raw;
    if (bytes.size() != raw.size()) {
      return Status{Code::corrupt_data, std::to_string(bytes.size()) + " bytes for a " + name()};
    }
    std::memcpy(raw.data(), bytes.data(), raw.size());
    return std::bit_cast<T>(raw);
  }
};

template <>
struct AsBytes<std::string> {
  static std::string name() { return "text"; }
  static void write(const std::string& value, std::string& bytes) { bytes += value; }
  static Result<std::string> read(std::string_view bytes) { return std::string{bytes}; }
};

template <PlainBytes T>
struct AsBytes<std::vector<T>> {
  static std::string name() { return "list of " + AsBytes<T>::name(); }
  static void write(const std::vector<T>& values, std::string& bytes) {
    bytes.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
  }
  static Result<std::vector<T>> read(std::string_view bytes) {
    if (bytes.size() % sizeof(T) != 0) {
      return Status{Code::corrupt_data, std::to_string(bytes.size()) + " bytes for a " + name()};
    }
    std::vector<T> values(bytes.size() / sizeof(T));
    if (!bytes.empty()) std::memcpy(values.data(), bytes.data(), bytes.size());
    return values;
  }
};

template <typename Id>
struct AsBytes<EpochKey<Id>> {
  static std::string name() { return "epoch and " + AsBytes<Id>::name(); }
  static void write(const EpochKey<Id>& key, std::string& bytes) {
    AsBytes<std::uint64_t>::write(key.epoch, bytes);
    AsBytes<Id>::write(key.id, bytes);
  }
  static Result<EpochKey<Id>> read(std::string_view bytes) {
    auto epoch = AsBytes<std::uint64_t>::read(bytes.substr(0, sizeof(std::uint64_t)));
    if (!epoch) return epoch.status();
    auto id = AsBytes<Id>::read(bytes.substr(sizeof(std::uint64_t)));
    if (!id) return id.status();
    return EpochKey<Id>{*epoch, std::move(*id)};
  }
};

// What save() and load() use if they are given nothing else. Any other class will do that has
// these five functions. They are called with no lock held, and may throw.
template <typename Key, typename Value>
struct CacheSerializer {
  // A file of which this says something else is refused. At most 4096 bytes.
  std::string type() const { return AsBytes<Key>::name() + " to " + AsBytes<Value>::name(); }
  void write_key(const Key& key, std::string& bytes) const { AsBytes<Key>::write(key, bytes); }
  void write_value(const Value& value, std::string& bytes) const {
    AsBytes<Value>::write(value, bytes);
  }
  Result<Key> read_key(std::string_view bytes) const { return AsBytes<Key>::read(bytes); }
  Result<Value> read_value(std::string_view bytes) const { return AsBytes<Value>::read(bytes); }
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

// Null where equal hashes are equal keys.
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
  bool asked_for = true;  // else it comes from a file: no miss for the policy to learn of
  // For flights.
  std::shared_ptr<const void> shared_key{};
  bool (*equal_keys)(const void* a, const void* b) noexcept = nullptr;
};

// A serializer without its types.
struct EntryForm {
  std::string type{};
  const void* context = nullptr;
  void (*write)(const void* context, const void* block, std::string& key,
                std::string& value) = nullptr;
  // An error: they cannot be read. No outcome: the cache has no room for it.
  Status (*put)(const void* context, std::string_view key, std::string_view value,
                const EntryOptions& options, std::optional<PutOutcome>& outcome) = nullptr;
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
