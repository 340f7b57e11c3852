// AutoPolicy: the policy that chooses the policy.
//
// A tournament of miniature caches says which candidate would have lost least of late; that one
// orders the cache, and takes its entries over, in their order, when it is another. The shards of
// a cache share the tournament, and each has one of these.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "cache/entry_table.hpp"
#include "cache/policy.hpp"
#include "cache/shared_tournament.hpp"

#pragma GCC visibility push(default)  // the command replays with it
namespace forebay::detail {

// See EvictionPolicy for the order of calls, threads and exceptions. Asks for facts.
//
// Invariants: an entry whose mark says so is in before_, which then exists and holds leaving_
// entries; all others are in live_. Entries pass from before_ to live_ the first to go first, some
// with every request, so that no request waits for a switch.
//
// Memory: a switch begins when it is charged what both policies take, and waits until then (see
// PolicyCharge). So as not to need too much it leads by lru, unless it starts or ends there. Each
// policy is told of entries with the bytes that it takes for them on top.
class AutoPolicy final : public EvictionPolicy {
 public:
  // `options.capacity` is that of this shard. Exceptions: std::bad_alloc.
  AutoPolicy(std::shared_ptr<SharedTournament> tournament, const AutoOptions& options);

  PolicyKind kind() const noexcept override { return PolicyKind::automatic; }
  void use_facts(const EntryFactsSource& source) noexcept override;
  void hit(EntryId id) noexcept override;
  void fetch(std::span<const EntryId> entries) const noexcept override;
  std::uint32_t likely_victims(std::span<EntryId> entries) const noexcept override;
  void missed(const EntryFacts& incoming) override;
  EntryId victim(const EntryFacts& incoming) noexcept override;
  void evicted(EntryId id) noexcept override;
  void inserted(EntryId id, const EntryFacts& facts) override;
  void erased(EntryId id) noexcept override;
  void updated(EntryId id, const EntryFacts& facts) noexcept override;
  void resized(std::uint64_t capacity) override;
  PolicyCharge charge(std::uint64_t outside) const noexcept override;
  void charged(std::uint64_t bytes, std::uint64_t outside) noexcept override;
  void order(std::vector<EntryId>& entries) const override;
  // Without what the shards share.
  std::size_t metadata_bytes() const noexcept override;

  const SharedTournament& tournament() const noexcept { return *tournament_; }
  AutoReport report() const { return tournament_->report(); }  // Exceptions: std::bad_alloc.

 private:
  // Of an entry: the level of its key in the sample, and on which side of a switch it is. One byte.
  struct Mark {
    std::uint8_t level : 7 = 0;
    std::uint8_t side : 1 = 0;
  };
  static_assert(sizeof(Mark) == 1);
  // What a policy knows of its entries.
  class Side final : public EntryFactsSource {
   public:
    EntryFacts facts_of(EntryId id) const noexcept override { return with(entries->facts_of(id)); }
    EntryFacts with(EntryFacts facts) const noexcept {
      facts.bytes += own;
      return facts;
    }
    const EntryFactsSource* entries = nullptr;
    std::uint64_t own = 0;  // bytes that it takes for each
  };

  bool leaving(EntryId id) const noexcept { return marks_[id].side != side_; }
  void note_resident(EntryId id, SampledRequest::Kind kind) noexcept;
  void note(const EntryFacts& facts, SampledRequest::Kind kind) noexcept;
  Side& live_side() noexcept { return sides_[side_]; }
  const Side& live_side() const noexcept { return sides_[side_]; }
  EntryFacts facts_of(EntryId id) const noexcept { return sides_[marks_[id].side].facts_of(id); }
  std::uint64_t beside_another() const noexcept;
  std::uint64_t charge_to_begin(PolicyKind kind, std::uint64_t outside) const noexcept;
  void entered(EntryId id, std::uint64_t bytes) noexcept;
  void left(EntryId id) noexcept;
  void removed(EntryId id) noexcept;
  void follow_choice() noexcept;
  void arrived() noexcept;
  void switch_to(PolicyKind kind, std::uint32_t version);
  void take_over(EntryId id) noexcept;
  void take_over_ranked(const std::vector<std::uint64_t>& ranking);
  void carry(std::size_t entries) noexcept;
  void one_less_leaving() noexcept;

  AutoOptions options_;
  std::shared_ptr<SharedTournament> tournament_;
  ShardFigures& figures_;
  const EntryFactsSource* facts_ = nullptr;
  std::array<Side, 2> sides_;
  std::unique_ptr<EvictionPolicy> live_;
  std::unique_ptr<EvictionPolicy> before_;
  EntryTable<Mark> marks_;
  RequestTally tally_;
  std::uint64_t missed_hash_ = 0;  // of the latest miss, and its level: it is put in next
  unsigned missed_level_ = 0;
  std::uint64_t held_bytes_ = 0;
  std::size_t entries_ = 0;
  std::size_t leaving_ = 0;
  std::size_t left_at_first_ = 0;  // leaving_ when the switch began
  SharedTournament::Choice followed_{};
  std::uint64_t charged_ = 0;  // for the memory of policies
  std::uint64_t outside_ = 0;
  std::uint64_t before_charge_ = 0;        // for what before_ took when the switch began
  std::optional<PolicyKind> waiting_for_;  // until enough is charged
  std::uint32_t patience_ = 0;  // misses until a switch is tried again that found no memory
  std::uint8_t side_ = 0;
};

// For a cache of one shard. REQUIRES: capacity > 0. Exceptions: std::bad_alloc.
std::unique_ptr<AutoPolicy> make_auto(const AutoOptions& options);

}  // namespace forebay::detail
#pragma GCC visibility pop
