// SharedTournament: the tournament of a cache, for all of its shards.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "cache/policy.hpp"
#include "cache/policy_tournament.hpp"

#pragma GCC visibility push(default)  // the command replays with it
namespace forebay::detail {

// What a shard has to tell and has not yet. Guarded by the shard's lock.
struct RequestTally {
  std::uint64_t requests = 0;
  std::uint64_t misses = 0;
  std::uint32_t sampled = 0;
  std::array<SampledRequest, kSampledAtOnce> samples{};

  bool full() const noexcept { return sampled == kSampledAtOnce; }
  void add(const EntryFacts& facts, SampledRequest::Kind kind) noexcept {
    samples[sampled++] = {facts, kind};
  }
};

// Its lock is the innermost of a cache: a shard's may be held, no other is taken under it, and
// nothing of the user's runs there. Shards take it once for many sampled requests, and do not wait:
// what finds it taken is not simulated. So a single thread always gets the same answers.
//
// Thread safety: thread-safe, but for figures and tallies, which are a shard's.
class SharedTournament {
 public:
  // What the shards are to use: a policy, and the number of choices before it.
  struct Choice {
    PolicyKind kind = PolicyKind::lru;
    std::uint32_t version = 0;
    bool operator==(const Choice&) const = default;
  };

  // REQUIRES: shards > 0. Exceptions: std::bad_alloc.
  SharedTournament(const AutoOptions& options, std::uint32_t shards);

  // A place for the figures of one more shard. REQUIRES: not called more often than there are
  // shards; by the thread that makes the cache.
  ShardFigures& next_shard() noexcept { return figures_[given_++]; }

  unsigned level_of(std::uint64_t hash) const noexcept {
    return PolicyTournament::level_of(hash, seed_);
  }
  // Keys are sampled whose level is at least this; none are while the simulations rest.
  unsigned sampled_from() const noexcept { return sampled_from_.load(std::memory_order_relaxed); }
  bool samples(unsigned level) const noexcept { return level >= sampled_from(); }
  Choice choice() const noexcept {
    const std::uint64_t word = choice_.load(std::memory_order_relaxed);
    return {static_cast<PolicyKind>(word & 0xff), static_cast<std::uint32_t>(word >> 8)};
  }
  // Whether the first shard has become full.
  bool has_filled() const noexcept { return filled_.load(std::memory_order_relaxed); }

  // When a tally is full, or has many requests.
  void hand_over(RequestTally& tally) noexcept;
  // A shard is about to evict for the first time.
  void filled(RequestTally& tally) noexcept;
  // A shard has taken all entries over to the policy of that choice.
  void passed_over(std::uint32_t version) noexcept;
  // Hashes of what the chosen policy would hold, the first to go first, if every key is sampled;
  // else nothing. Exceptions: std::bad_alloc.
  std::vector<std::uint64_t> ranking(std::uint32_t version) const;

  // The part of one shard has changed, as that of all has.
  void resized(std::uint64_t shard_capacity) noexcept;
  // Another bound of memory. A tournament that has become too large for it begins anew; for zero,
  // or if there is no memory, there is none any more and lru is chosen. When this returns the
  // bound holds.
  void set_memory(std::uint64_t bytes) noexcept;

  AutoReport report() const;  // Exceptions: std::bad_alloc.
  std::size_t metadata_bytes() const noexcept;
  // As of a moment ago. Lock-free.
  std::size_t latest_metadata_bytes() const noexcept {
    return metadata_.load(std::memory_order_relaxed);
  }

 private:
  static constexpr unsigned kNone = ~0U;

  void take(const RequestTally& tally) noexcept;
  void choose(PolicyKind kind) noexcept;
  void publish() noexcept;
  void measure() noexcept;
  std::size_t measured() const noexcept;

  const std::uint64_t seed_;
  const std::uint32_t shards_;
  std::unique_ptr<ShardFigures[]> figures_;
  std::uint32_t given_ = 0;

  // What every request reads, apart from what is written under the lock.
  alignas(64) std::atomic<unsigned> sampled_from_{kNone};
  std::atomic<std::uint64_t> choice_{0};
  std::atomic<bool> filled_{false};

  alignas(64) std::atomic<std::size_t> metadata_{0};
  mutable std::mutex mutex_;
  // Guarded by it:
  AutoOptions options_;
  std::optional<PolicyTournament> tournament_;
  std::uint32_t unmeasured_ = 0;
  std::uint32_t behind_ = 0;  // shards that have not passed over to the choice
};

}  // namespace forebay::detail
#pragma GCC visibility pop
