// AutoPolicy: the policy that chooses the policy.
//
// A tournament of miniature caches says which candidate would have lost least of late; that one
// orders the cache, and takes its entries over, in their order, when it is another. The shards of
// a cache share the tournament, and each has one of these.
#pragma once

#include <cstdint>
#include <memory>
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
class AutoPolicy final : public EvictionPolicy {
 public:
  // `options.capacity` is that of this shard. Exceptions: std::bad_alloc.
  AutoPolicy(std::shared_ptr<SharedTournament> tournament, const PolicyOptions& options);

  PolicyKind kind() const noexcept override { return PolicyKind::automatic; }
  void use_facts(const EntryFactsSource& source) noexcept override;
  void hit(EntryId id) noexcept override;
  void fetch(std::span<const EntryId> entries) const noexcept override;
  void missed(const EntryFacts& incoming) override;
  EntryId victim(const EntryFacts& incoming) noexcept override;
  void evicted(EntryId id) noexcept override;
  std::size_t next_victims(std::span<EntryId> entries) const noexcept override;
  void inserted(EntryId id, const EntryFacts& facts) override;
  void erased(EntryId id) noexcept override;
  void updated(EntryId id, const EntryFacts& facts) noexcept override;
  void resized(std::uint64_t capacity) override;
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

  bool leaving(EntryId id) const noexcept { return marks_[id].side != side_; }
  void note_resident(EntryId id, SampledRequest::Kind kind) noexcept;
  void note(const EntryFacts& facts, SampledRequest::Kind kind) noexcept;
  void entered(EntryId id, const EntryFacts& facts) noexcept;
  void left(EntryId id) noexcept;
  void removed(EntryId id) noexcept;
  void follow_choice() noexcept;
  void arrived() noexcept;
  void switch_to(PolicyKind kind, std::uint32_t version);
  void take_over(EntryId id) noexcept;
  void take_over_ranked(const std::vector<std::uint64_t>& ranking);
  void carry(std::size_t entries) noexcept;
  void one_less_leaving() noexcept;

  PolicyOptions options_;
  std::shared_ptr<SharedTournament> tournament_;
  ShardFigures& figures_;
  const EntryFactsSource* facts_ = nullptr;
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
  std::uint32_t patience_ = 0;  // misses until a switch is tried again that found no memory
  std::uint8_t side_ = 0;
};

// For a cache of one shard. REQUIRES: capacity > 0. Exceptions: std::bad_alloc.
std::unique_ptr<AutoPolicy> make_auto(const AutoOptions& options);

// Whether a shard may hold entries of both at once while it switches, by what they take of memory;
// else it passes by lru. See cache_entry_overhead().
bool may_meet(PolicyKind one, PolicyKind other) noexcept;

}  // namespace forebay::detail
#pragma GCC visibility pop
