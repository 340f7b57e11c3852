// AutoPolicy: the policy that chooses the policy.
//
// Small caches of names, one a candidate, run beside the cache on a sample of its keys; the one
// that would have lost least of late orders the cache, which keeps its entries when that changes.
// Waldspurger et al., "Cache Modeling and Optimization using Miniature Simulations", ATC 2017.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "cache/entry_table.hpp"
#include "cache/policy.hpp"
#include "cache/simulated_cache.hpp"

#pragma GCC visibility push(default)  // the command replays with it
namespace forebay::detail {

struct AutoOptions : PolicyOptions {
  // For the miniature caches together; 0: a fiftieth of the capacity (one that counts entries is
  // taken to hold pages of 4 KiB), but kLeastMemory at least.
  std::uint64_t memory_bytes = 0;
};

// What `auto` did and why.
struct AutoReport {
  struct Candidate {
    PolicyKind kind = PolicyKind::lru;
    double miss_ratio = 0;  // of the sample, of late, in the unit of the objective
    double regret = 0;      // what the cache lost beyond it on the sample, over all time; negative
                            // if the cache lost less
  };
  std::vector<Candidate> candidates;
  PolicyKind current = PolicyKind::lru;
  bool watching = true;  // false while the simulations rest for the sake of time
  std::uint64_t switches = 0;
  std::uint64_t requests = 0;
  std::uint64_t sampled = 0;  // requests that were simulated
  double sample_rate = 1;     // of keys
};

// See EvictionPolicy for the order of calls, threads and exceptions.
class AutoPolicy final : public EvictionPolicy {
 public:
  static constexpr std::uint64_t kLeastMemory = 256 * 1024;

  explicit AutoPolicy(const AutoOptions& options);
  ~AutoPolicy() override;

  PolicyKind kind() const noexcept override { return PolicyKind::automatic; }
  void hit(EntryId id) noexcept override;
  void missed(const EntryFacts& incoming) override;
  EntryId victim(const EntryFacts& incoming) noexcept override;
  void evicted(EntryId id) noexcept override;
  void inserted(EntryId id, const EntryFacts& facts) override;
  void erased(EntryId id) noexcept override;
  void updated(EntryId id, const EntryFacts& facts) noexcept override;
  void resized(std::uint64_t capacity) override;
  void order(std::vector<EntryId>& entries) const override;
  std::size_t metadata_bytes() const noexcept override;

  AutoReport report() const;

 private:
  class Tournament;
  struct Place {
    EntryFacts facts;
    bool leaving = false;  // still ordered by the policy before
    bool in = false;
  };

  void begin_switch();
  void take_over(EntryId id);
  void carry(std::size_t entries) noexcept;
  EvictionPolicy& policy_of(EntryId id) noexcept { return *(nodes_[id].leaving ? before_ : live_); }

  AutoOptions options_;
  std::unique_ptr<Tournament> tournament_;
  std::unique_ptr<EvictionPolicy> live_;
  std::unique_ptr<EvictionPolicy> before_;  // while its entries are carried over
  std::size_t leaving_ = 0;                 // entries of before_
  std::uint64_t switches_ = 0;
  EntryTable<Place> nodes_;
};

std::unique_ptr<AutoPolicy> make_auto(const AutoOptions& options);

}  // namespace forebay::detail
#pragma GCC visibility pop
