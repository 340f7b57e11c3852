// SimulatedCache: a cache of names, without values: for replays and for miniature simulations.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "cache/key_index.hpp"
#include "cache/policy.hpp"

#pragma GCC visibility push(default)  // the command replays with it
namespace forebay::detail {

struct CacheRequest {
  std::uint64_t key = 0;
  std::uint64_t bytes = 1;  // zero is charged as one; below 2^48
  float cost = 1;           // microseconds to make it again
  float utility = 0;
};

struct CacheCounts {
  std::uint64_t requests = 0;
  std::uint64_t hits = 0;
  std::uint64_t bytes_requested = 0;
  std::uint64_t bytes_missed = 0;
  std::uint64_t evictions = 0;
  std::uint64_t refused = 0;  // larger than the cache, or not let in
  double cost_requested = 0;
  double cost_missed = 0;
};

// Never holds more than its capacity. An object whose size changes is a hit and is updated; it goes
// if it does not fit any more.
//
// Numbers are given out lowest first and again after an entry has gone, so that a policy's arrays
// are as long as the cache has been full.
//
// Invariants: used() is the sum of the entries' bytes and at most capacity(); the policy holds
// exactly the entries that the index finds.
// Thread safety: none.
class SimulatedCache final : private EntryFactsSource {
 public:
  // Not for `automatic`. REQUIRES: options.capacity > 0. Exceptions: std::bad_alloc.
  SimulatedCache(PolicyKind kind, const PolicyOptions& options);
  // REQUIRES: the policy has no entries and was made for this capacity, above zero.
  SimulatedCache(std::unique_ptr<EvictionPolicy> policy, std::uint64_t capacity) noexcept;
  SimulatedCache(SimulatedCache&& other) noexcept;
  SimulatedCache& operator=(SimulatedCache&&) = delete;
  ~SimulatedCache() = default;

  // Whether it was a hit. Exceptions: std::bad_alloc; then nothing is counted, and what is cached
  // stays as it was.
  bool request(const CacheRequest& request);
  // For a request that comes soon.
  void prefetch(std::uint64_t key) const noexcept;
  // Takes a key out; whether it was in.
  bool erase(std::uint64_t key) noexcept;
  // Exceptions: std::bad_alloc, then nothing has changed. REQUIRES: capacity > 0.
  void resize(std::uint64_t capacity);

  const CacheCounts& counts() const noexcept { return counts_; }
  std::uint64_t capacity() const noexcept { return capacity_; }
  std::uint64_t used() const noexcept { return used_; }  // in the unit of the capacity
  std::size_t entries() const noexcept { return entry_count_; }
  // The policy's, and the index and records of this class.
  std::size_t metadata_bytes() const noexcept;

  EvictionPolicy& policy() noexcept { return *policy_; }
  const EvictionPolicy& policy() const noexcept { return *policy_; }
  // REQUIRES: the entry is in.
  std::uint64_t key_of(EntryId id) const noexcept { return entries_[id].key; }
  bool contains(std::uint64_t key) const noexcept;

 private:
  struct Entry {
    std::uint64_t key = 0;
    std::uint64_t bytes : 48 = 0;  // of a free number: the next free one
    std::uint64_t cost : 16 = 0;   // shortened()
  };

  // Without the user's score, which no policy asks for: those that use it keep it.
  EntryFacts facts_of(EntryId id) const noexcept override;
  EntryId find(std::uint64_t key, std::uint64_t hash) const noexcept;
  void update(EntryId id, const EntryFacts& facts) noexcept;
  bool insert(std::uint64_t key, const EntryFacts& facts);
  EntryId next_number();
  bool make_place(std::uint64_t room, const EntryFacts& incoming) noexcept;
  void evict(EntryId id) noexcept;
  void release(EntryId id) noexcept;

  std::unique_ptr<EvictionPolicy> policy_;
  std::uint64_t capacity_ = 0;
  std::uint64_t used_ = 0;
  std::size_t entry_count_ = 0;
  EntryId free_ = kNoEntry;
  KeyIndex index_;
  std::vector<Entry> entries_;
  CacheCounts counts_;
};

}  // namespace forebay::detail
#pragma GCC visibility pop
