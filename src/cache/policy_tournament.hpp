// PolicyTournament: miniature caches, one a candidate, on a sample of a cache's keys, and the
// account of what each would have lost.
//
// Waldspurger et al., "Cache Modeling and Optimization using Miniature Simulations", ATC 2017; the
// sample is that of SHARDS (FAST 2015), its rate falls as the cache fills.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "cache/policy.hpp"
#include "cache/simulated_cache.hpp"

namespace forebay::detail {

struct AutoOptions : PolicyOptions {
  // For the miniature caches together. 0: a fiftieth of the capacity (one that counts entries is
  // taken to hold pages of 4 KiB), but 512 KiB at least.
  std::uint64_t memory_bytes = 0;
};

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
  bool watching = true;  // false while the simulations rest for the sake of time
  std::uint64_t switches = 0;
  std::uint64_t requests = 0;
  std::uint64_t sampled = 0;  // of them, simulated
  double sample_rate = 1;     // of keys
};

// Works on requests to a cache whose policy is current(); says when another would do better.
// Nothing here fails: a miniature cache without memory misses.
//
// Invariants: live_[l] sums the cache's bytes whose hashes are of level l; a miniature cache holds
// keys of its own level and above only.
// Thread safety: none.
class PolicyTournament {
 public:
  // Exceptions: std::bad_alloc.
  explicit PolicyTournament(const AutoOptions& options);

  void request(const EntryFacts& facts, bool hit) noexcept;
  // An entry of the cache came, went for want of room, was taken out.
  void entered(const EntryFacts& facts) noexcept;
  void left(const EntryFacts& facts) noexcept;
  void erased(std::uint64_t hash) noexcept;
  // The cache is about to evict for the first time.
  void filled() noexcept;
  void resized(std::uint64_t capacity) noexcept;

  PolicyKind current() const noexcept { return kKinds[current_]; }
  PolicyKind wanted() const noexcept { return kKinds[wanted_]; }
  // Entries still pass from one policy to the next: no other is wanted meanwhile.
  void set_passing(bool passing) noexcept { passing_ = passing; }
  bool wants_switch() const noexcept { return wanted_ != current_; }
  void switched() noexcept { current_ = wanted_; }
  void not_switched() noexcept { wanted_ = current_; }
  // Of the wanted policy, if it simulates the whole cache and not a sample; else null.
  const SimulatedCache* whole() const noexcept;

  bool has_filled() const noexcept { return filled_; }
  std::uint64_t live_bytes() const noexcept { return live_bytes_; }
  std::size_t metadata_bytes() const noexcept;
  AutoReport report() const;

 private:
  static constexpr std::size_t kCandidates = 7;
  static constexpr std::size_t kLevels = 33;
  static constexpr std::size_t kGroups = 16;
  using Losses = std::array<double, kCandidates>;

  static constexpr std::array<PolicyKind, kCandidates> kKinds{
      PolicyKind::lru,  PolicyKind::s3fifo, PolicyKind::arc,     PolicyKind::lirs,
      PolicyKind::twoq, PolicyKind::gdsf,   PolicyKind::wtinylfu};
  static constexpr std::size_t kLru = 0;

  unsigned level_of(std::uint64_t hash) const noexcept;
  double rate() const noexcept;
  double loss_of(const EntryFacts& facts) const noexcept;
  std::uint64_t miniature_capacity() const noexcept;
  std::size_t largest() const noexcept;
  std::size_t most_entries() const noexcept;

  void simulate(const EntryFacts& facts, bool hit) noexcept;
  void spend() noexcept;
  void lower_rate() noexcept;
  void shrink_one() noexcept;
  void rest_or_wake(bool hit) noexcept;
  void wake() noexcept;
  void correct_share() noexcept;
  void end_epoch() noexcept;
  void add_regret() noexcept;
  void decide() noexcept;
  double sampling_noise(std::size_t candidate) const noexcept;
  bool beats(std::size_t candidate, double deviations, double capacities) const noexcept;
  void note_first(const EntryFacts& facts) noexcept;

  AutoOptions options_;
  std::vector<SimulatedCache> caches_;
  std::array<unsigned, kCandidates> levels_{};  // of each miniature cache
  unsigned level_ = 0;                          // keys are sampled whose level is at least this
  double share_ = 1;                            // of the capacity, for a miniature cache

  std::array<std::uint64_t, kLevels> live_{};
  std::uint64_t live_bytes_ = 0;
  std::uint64_t live_entries_ = 0;

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
  double allowance_ = 0;  // of regret since lru was left, in parts of what lru lost
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
};

}  // namespace forebay::detail
