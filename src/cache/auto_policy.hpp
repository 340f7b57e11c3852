// AutoPolicy: the policy that chooses the policy.
//
// A tournament of miniature caches says which candidate would have lost least of late; that one
// orders the cache, and takes its entries over, in their order, when it is another.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "cache/entry_table.hpp"
#include "cache/policy.hpp"
#include "cache/policy_tournament.hpp"

#pragma GCC visibility push(default)  // the command replays with it
namespace forebay::detail {

// See EvictionPolicy for the order of calls, threads and exceptions.
//
// Invariants: an entry is in live_ if its generation is generation_, else in before_, which then
// exists and holds leaving_ entries. Entries pass from before_ to live_ the first to go first, some
// with every request, so that no request waits for a switch.
class AutoPolicy final : public EvictionPolicy {
 public:
  // Exceptions: std::bad_alloc.
  explicit AutoPolicy(const AutoOptions& options);

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

  AutoReport report() const;  // Exceptions: std::bad_alloc.

 private:
  // The facts, packed: 24 bytes an entry.
  struct Place {
    std::uint64_t hash = 0;
    std::uint64_t bytes : 56 = 0;
    std::uint64_t generation : 8 = 0;
    float cost = 0;
    float utility = 0;
    EntryFacts facts() const noexcept { return {hash, bytes, cost, utility}; }
  };

  bool leaving(EntryId id) const noexcept { return places_[id].generation != generation_; }
  void note(EntryId id, const EntryFacts& facts) noexcept;
  void removed(EntryId id) noexcept;
  void begin_switch() noexcept;
  void take_over(EntryId id) noexcept;
  void take_over_ranked(const SimulatedCache& model);
  void carry(std::size_t entries) noexcept;
  void one_less_leaving() noexcept;

  PolicyOptions options_;
  PolicyTournament tournament_;
  std::unique_ptr<EvictionPolicy> live_;
  std::unique_ptr<EvictionPolicy> before_;
  EntryTable<Place> places_;
  std::size_t entries_ = 0;
  std::size_t leaving_ = 0;
  std::size_t left_at_first_ = 0;  // leaving_ when the switch began
  std::uint64_t switches_ = 0;
  std::uint8_t generation_ = 0;
};

// REQUIRES: capacity > 0. Exceptions: std::bad_alloc.
std::unique_ptr<AutoPolicy> make_auto(const AutoOptions& options);

}  // namespace forebay::detail
#pragma GCC visibility pop
