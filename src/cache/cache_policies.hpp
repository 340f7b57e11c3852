// CachePolicies: what orders the shards of one cache: a policy each, and what these share.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "cache/auto_policy.hpp"
#include "cache/policy.hpp"
#include "cache/shared_curve.hpp"
#include "cache/shared_tournament.hpp"
#include "forebay/cache.hpp"

namespace forebay::detail {

// The tournament of `auto` and the miss-ratio curve have a part of the cache's line, which is off
// it for as long as they have it: what is left is for entries.
//
// Thread safety: thread-safe, but for next_shard().
class CachePolicies {
 public:
  // Throws Failure for a policy, objective or curve that is not allowed; std::bad_alloc.
  // `budget`, if not null, meters options.budget and is charged as well; if it refuses there is no
  // tournament, and no curve.
  CachePolicies(const CacheOptions& options, std::uint32_t shards,
                std::shared_ptr<MemoryResource> budget);
  ~CachePolicies();
  CachePolicies(const CachePolicies&) = delete;
  CachePolicies& operator=(const CachePolicies&) = delete;

  // The policy of one more shard. Exceptions: std::bad_alloc.
  std::unique_ptr<EvictionPolicy> next_shard() const;

  // Bytes of the line that entries have not.
  std::uint64_t reserved() const noexcept { return reserved_.load(std::memory_order_relaxed); }
  std::uint64_t max_bytes() const noexcept { return max_bytes_.load(std::memory_order_relaxed); }
  // What there will be at that line, for a cache whose entries are charged `used`.
  struct Share {
    std::uint64_t max_bytes;
    std::uint64_t for_tournament;
    std::uint64_t shard_capacity;  // for each shard's policy to reckon with
  };
  Share share_at(std::uint64_t max_bytes, std::uint64_t used) const noexcept;
  // What the shared parts take now, or took a moment ago. Lock-free.
  std::uint64_t bookkeeping() const noexcept;

  // The line moves: what is shared gives up what is too much at the new one before `line` gets what
  // is left for entries, and takes more only after that.
  void set_max_bytes(const Share& share, std::atomic<std::uint64_t>& line) noexcept;

  CachePolicyReport report() const;                      // Exceptions: std::bad_alloc.
  std::vector<MissRatioPoint> miss_ratio_curve() const;  // Exceptions: std::bad_alloc.

 private:
  bool charge(std::uint64_t bytes) noexcept;
  void release(std::uint64_t bytes) noexcept;
  std::uint64_t tournament_part(std::uint64_t max_bytes, std::uint64_t charged) const noexcept;
  std::uint64_t shard_capacity(std::uint64_t bytes) const noexcept;

  const PolicyKind kind_;
  const std::uint32_t shards_;
  const Budget* const line_above_;  // null: none
  const std::shared_ptr<MemoryResource> budget_;
  AutoOptions how_;
  std::shared_ptr<SharedTournament> tournament_;  // null: the policy is not auto
  std::shared_ptr<SharedCurve> curve_;            // null: not wanted

  std::mutex resizing_;  // guards changes of these:
  std::atomic<std::uint64_t> for_tournament_{0};
  std::uint64_t for_curve_ = 0;
  std::atomic<std::uint64_t> reserved_{0};
  std::atomic<std::uint64_t> max_bytes_{0};
};

}  // namespace forebay::detail
