// PolicyTournament: miniature caches, one a candidate, on a sample of a cache's keys, and the
// account of what each would have lost.
//
// Waldspurger et al., "Cache Modeling and Optimization using Miniature Simulations", ATC 2017; the
// sample is that of SHARDS (FAST 2015), its rate falls as the cache fills.
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "cache/hash.hpp"
#include "cache/policy.hpp"
#include "cache/simulated_cache.hpp"

namespace forebay::detail {

struct AutoOptions : PolicyOptions {
  static constexpr std::uint64_t kByCapacity = ~std::uint64_t{0};
  // For the miniature caches together. By capacity: tournament_bytes() of it; for a cache that
  // counts entries, which has no bytes to compare with, 512 KiB or a fiftieth of as many pages of
  // 4 KiB. Zero: no tournament, and lru orders the cache.
  std::uint64_t memory_bytes = kByCapacity;
  // Whether what policies take of memory is in the line as well. Then the bytes of an entry are
  // told with what lru takes for it, and entry_bytes() of the policy come on top. Else bytes are
  // all.
  bool charges_policies = false;
  std::uint32_t entry_bytes(PolicyKind kind) const noexcept;
};

// A fiftieth of the bytes of a cache; 64 KiB where that is less, and nothing below 2 MiB, where
// that would be more than a thirty-second part: a sample of fewer than seventy entries says little,
// and what it took would cost more hits than it could find. More than 4 MiB is never used.
std::uint64_t tournament_bytes(std::uint64_t capacity) noexcept;

// What `auto` did and why.
struct AutoReport {
  struct Candidate {
    PolicyKind kind = PolicyKind::lru;
    double miss_ratio = 0;  // of the sample, of late, in the unit of the objective
    double regret = 0;      // what the cache lost on the sample beyond this one, over all time, in
                            // that unit; negative where the cache did better
  };
  std::vector<Candidate> candidates;
  PolicyKind current = PolicyKind::lru;
  bool watching = true;        // false while the simulations rest for the sake of time
  std::uint64_t switches = 0;  // choices of another policy
  std::uint64_t requests = 0;
  std::uint64_t sampled = 0;       // of them, simulated
  double sample_rate = 1;          // of keys
  std::uint64_t memory_bytes = 0;  // that the simulations take now
};

// How often the sample can be halved with a key still in it, at most.
inline constexpr std::size_t kSampleLevels = 33;

// What a shard of the cache tells of what it holds. Written under the shard's lock.
struct alignas(64) ShardFigures {
  std::array<std::atomic<std::uint64_t>, kSampleLevels> bytes{};  // by level of the keys
  std::atomic<std::uint64_t> entries{0};
  std::atomic<std::uint64_t> evictions{0};

  static void add(std::atomic<std::uint64_t>& figure, std::uint64_t by) noexcept {
    figure.store(figure.load(std::memory_order_relaxed) + by, std::memory_order_relaxed);
  }
};

// What happened to a key of the sample.
struct SampledRequest {
  enum class Kind : std::uint8_t { hit, miss, erased };
  EntryFacts facts;
  Kind kind = Kind::hit;
};
inline constexpr std::size_t kSampledAtOnce = 16;

// What all shards hold.
struct LiveFigures {
  std::uint64_t bytes = 0;
  std::uint64_t sampled = 0;  // of the bytes
  std::uint64_t entries = 0;
  std::uint64_t evictions = 0;
};

// Works on requests to a cache whose policy is current(); says when another would do better.
// Nothing here fails: a miniature cache without memory misses.
//
// Invariant: a miniature cache holds keys of its own level and above only.
// Thread safety: none.
class PolicyTournament {
 public:
  static constexpr std::size_t kCandidates = 7;
  static constexpr std::array<PolicyKind, kCandidates> kKinds{
      PolicyKind::lru,  PolicyKind::s3fifo, PolicyKind::arc,     PolicyKind::lirs,
      PolicyKind::twoq, PolicyKind::gdsf,   PolicyKind::wtinylfu};

  // The figures outlive it. Exceptions: std::bad_alloc.
  PolicyTournament(const AutoOptions& options, std::span<const ShardFigures> shards);
  // For a cache that has run for some time, ordered by `current`.
  void join(PolicyKind current) noexcept;

  // Requests passed, sampled or not, and so many of them missed.
  void passed(std::uint64_t requests, std::uint64_t misses) noexcept;
  // Those of them that are sampled, in order; keys that are not any more are passed by. At most
  // kSampledAtOnce: one candidate after the other works on all of them, which finds its code and
  // its data in the CPU's caches.
  void requests(std::span<const SampledRequest> batch) noexcept;
  // The cache is about to evict for the first time.
  void filled() noexcept;
  void resized(std::uint64_t capacity) noexcept;
  void set_memory(std::uint64_t bytes) noexcept { options_.memory_bytes = bytes; }

  static unsigned level_of(std::uint64_t hash, std::uint64_t seed) noexcept {
    // The bits of the hash itself choose shards and places in tables.
    const auto bits = static_cast<std::uint32_t>(mix_key(hash ^ seed) >> 32U);
    return static_cast<unsigned>(std::countl_zero(bits));
  }
  unsigned level() const noexcept { return level_; }
  bool resting() const noexcept { return resting_; }
  PolicyKind current() const noexcept { return kKinds[current_]; }
  PolicyKind wanted() const noexcept { return kKinds[wanted_]; }
  // Entries still pass from one policy to the next: no other is wanted meanwhile.
  void set_passing(bool passing) noexcept { passing_ = passing; }
  bool wants_switch() const noexcept { return wanted_ != current_; }
  void switched() noexcept { current_ = wanted_; }
  // Of the current policy, if it simulates the whole cache and not a sample; else null.
  const SimulatedCache* whole() const noexcept;

  bool has_filled() const noexcept { return filled_; }
  std::size_t metadata_bytes() const noexcept;
  AutoReport report() const;

 private:
  static constexpr std::size_t kGroups = 16;
  using Losses = std::array<double, kCandidates>;

  static constexpr std::size_t kLru = 0;

  unsigned level_of(std::uint64_t hash) const noexcept { return level_of(hash, options_.seed); }
  LiveFigures live() const noexcept;
  double rate() const noexcept;
  double loss_of(const EntryFacts& facts) const noexcept;
  std::uint64_t miniature_capacity() const noexcept;
  std::size_t largest() const noexcept;
  std::size_t most_entries() const noexcept;

  void simulate(std::span<const SampledRequest> batch) noexcept;
  void simulate(std::size_t candidate, std::span<const SampledRequest> batch) noexcept;
  void spend(std::size_t requests) noexcept;
  void lower_rate() noexcept;
  void shrink_one() noexcept;
  void wake_if_due() noexcept;
  void wake() noexcept;
  void correct_share() noexcept;
  void follow_limit(const LiveFigures& now) noexcept;
  void end_epoch() noexcept;
  void add_regret(double keep) noexcept;
  bool lost_too_much() const noexcept;
  void decide() noexcept;
  double sampling_noise(std::size_t candidate) const noexcept;
  bool beats(std::size_t candidate, double deviations, double capacities) const noexcept;
  void note_first(const EntryFacts& facts) noexcept;

  AutoOptions options_;
  std::span<const ShardFigures> shards_;
  std::vector<SimulatedCache> caches_;
  std::array<unsigned, kCandidates> levels_{};  // of each miniature cache
  unsigned level_ = 0;                          // keys are sampled whose level is at least this
  double share_ = 1;                            // of the capacity, for a miniature cache

  // What the cache can hold: its capacity, or less where something else bounds it (a count of
  // entries, a budget that is full).
  std::uint64_t limit_;
  std::uint64_t evictions_ = 0;  // of the cache, as of the last epoch
  bool unit_sized_ = true;       // no request was for more than one unit
  std::size_t current_ = kLru;
  std::size_t wanted_ = kLru;
  bool filled_ = false;
  bool passing_ = false;

  std::uint64_t requests_ = 0;
  std::uint64_t sampled_ = 0;
  double work_ = 0;  // simulated requests that may still be made
  bool resting_ = false;
  double warming_ = 0;  // misses of lru to pass before anything counts again
  double recent_misses_ = 0;
  std::uint64_t pending_requests_ = 0;  // not in recent_misses_ yet
  std::uint64_t pending_misses_ = 0;
  double misses_at_rest_ = 0;

  // This epoch's, and what is kept of those before.
  std::size_t epoch_requests_ = 0;
  std::uint64_t epoch_lru_misses_ = 0;
  double epoch_asked_ = 0;
  double epoch_live_ = 0;
  Losses epoch_{};  // sums of epoch_groups_
  double asked_ = 0;
  double asked_requests_ = 0;
  Losses recent_{};
  std::array<Losses, kCandidates> squares_{};  // of the differences of two candidates' epochs
  std::array<Losses, kGroups> groups_{};       // recent_, by groups of keys
  std::array<Losses, kGroups> epoch_groups_{};
  Losses total_{};
  double live_total_ = 0;
  double regret_ = 0;  // against lru, corrected for the sample's bias
  // While lru ordered the cache: what it lost on the sample, and what its miniature did.
  double lru_live_ = 0;
  double lru_simulated_ = 0;
  double caution_ = 1;
  double regret_when_left_ = 0;

  // How much sizes and costs vary, until the cache is full.
  struct Spread {
    double sum = 0;
    double squares = 0;
    void add(double value) noexcept {
      sum += value;
      squares += value * value;
    }
  };
  Spread bytes_;
  Spread costs_;
  std::uint64_t first_ = 0;  // requests in these
};

}  // namespace forebay::detail
