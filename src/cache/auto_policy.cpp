#include "cache/auto_policy.hpp"

#include <algorithm>
#include <limits>
#include <new>
#include <utility>

#include "forebay/cache.hpp"

namespace forebay::detail {
namespace {

// Entries taken over with a miss: some microseconds.
constexpr std::size_t kCarriedPerMiss = 16;
constexpr std::size_t kCarriedPerHit = 2;
// A shard tells of its requests when there are so many, if no sampled ones make it do so before.
constexpr std::uint64_t kTallied = 1024;
constexpr std::uint32_t kPatience = 256;

// Of an entry that is put in and taken out again, to make a policy take its arrays.
class Placeholder final : public EntryFactsSource {
 public:
  EntryFacts facts_of(EntryId) const noexcept override { return {}; }
};

}  // namespace

AutoPolicy::AutoPolicy(std::shared_ptr<SharedTournament> tournament, const PolicyOptions& options)
    : options_(options),
      tournament_(std::move(tournament)),
      figures_(tournament_->next_shard()),
      live_(make_policy(PolicyKind::lru, options)) {}

void AutoPolicy::use_facts(const EntryFactsSource& source) noexcept {
  facts_ = &source;
  live_->use_facts(source);
  if (before_ != nullptr) before_->use_facts(source);
}

void AutoPolicy::note(const EntryFacts& facts, SampledRequest::Kind kind) noexcept {
  tally_.add(facts, kind);
  if (tally_.full()) tournament_->hand_over(tally_);
}

void AutoPolicy::note_resident(EntryId id, SampledRequest::Kind kind) noexcept {
  if (tournament_->samples(marks_[id].level)) note(facts_->facts_of(id), kind);
}

// While entries pass, each is in one policy or the other.
void AutoPolicy::fetch(std::span<const EntryId> entries) const noexcept {
  if (leaving_ == 0) live_->fetch(entries);
}

void AutoPolicy::hit(EntryId id) noexcept {
  ++tally_.requests;
  note_resident(id, SampledRequest::Kind::hit);
  if (leaving_ != 0) {
    if (leaving(id)) {
      before_->erased(id);
      take_over(id);
    }
    carry(kCarriedPerHit);
  }
  live_->hit(id);
}

void AutoPolicy::missed(const EntryFacts& incoming) {
  ++tally_.requests;
  ++tally_.misses;
  missed_hash_ = incoming.hash;
  missed_level_ = tournament_->level_of(incoming.hash);
  if (tournament_->samples(missed_level_)) note(incoming, SampledRequest::Kind::miss);
  // Hits wait for a miss: where there are none, nothing is to be decided.
  if (tally_.requests >= kTallied) tournament_->hand_over(tally_);
  if (!tournament_->has_filled() && held_bytes_ + incoming.bytes > options_.capacity)
    tournament_->filled(tally_);
  if (leaving_ == 0 && tournament_->choice() != followed_) follow_choice();
  carry(kCarriedPerMiss);
  live_->missed(incoming);
}

// One step towards the chosen policy. Failure leaves the policy that there is.
void AutoPolicy::follow_choice() noexcept try {
  if (patience_ != 0 && --patience_ != 0) return;
  const SharedTournament::Choice choice = tournament_->choice();
  if (choice.kind == live_->kind()) {
    followed_ = choice;
    return arrived();
  }
  const bool direct = may_meet(live_->kind(), choice.kind);
  switch_to(direct ? choice.kind : PolicyKind::lru, choice.version);
  if (direct) followed_ = choice;
  if (leaving_ == 0) {
    before_.reset();
    if (direct) arrived();
  }
} catch (const std::bad_alloc&) {
  patience_ = kPatience;
}

void AutoPolicy::arrived() noexcept { tournament_->passed_over(followed_.version); }

void AutoPolicy::switch_to(PolicyKind kind, std::uint32_t version) {
  std::unique_ptr<EvictionPolicy> next = make_policy(kind, options_);
  if (entries_ != 0) {
    // After the highest number no other can fail; see EvictionPolicy.
    const auto highest = static_cast<EntryId>(marks_.size() - 1);
    const Placeholder placeholder;
    next->use_facts(placeholder);
    next->inserted(highest, placeholder.facts_of(highest));
    next->erased(highest);
  }
  next->use_facts(*facts_);
  const std::vector<std::uint64_t> ranking = tournament_->ranking(version);
  before_ = std::exchange(live_, std::move(next));
  leaving_ = left_at_first_ = entries_;
  side_ ^= 1U;
  try {
    if (!ranking.empty()) take_over_ranked(ranking);
  } catch (const std::bad_alloc&) {  // then in the order of the old one, as they pass
  }
}

void AutoPolicy::take_over(EntryId id) noexcept {
  marks_[id].side = side_ & 1U;
  live_->inserted(id, facts_->facts_of(id));
  // The better half has earned more than a newcomer has.
  if (2 * leaving_ <= left_at_first_) live_->hit(id);
  one_less_leaving();
}

void AutoPolicy::one_less_leaving() noexcept {
  if (--leaving_ != 0) return;
  before_.reset();
  if (followed_.kind == live_->kind()) arrived();
}

// All at once, as the cache is small: first what the new policy would have let go by now, then the
// rest in its own order.
void AutoPolicy::take_over_ranked(const std::vector<std::uint64_t>& ranking) {
  constexpr std::uint32_t kNowhere = std::numeric_limits<std::uint32_t>::max();
  struct Ranked {
    std::uint64_t hash;
    std::uint32_t rank;
    EntryId id;
  };
  std::vector<Ranked> known;
  known.reserve(ranking.size());
  for (const std::uint64_t hash : ranking)
    known.push_back({hash, static_cast<std::uint32_t>(known.size()), kNoEntry});
  std::sort(known.begin(), known.end(),
            [](const Ranked& a, const Ranked& b) { return a.hash < b.hash; });
  std::vector<EntryId> order;
  order.reserve(entries_);
  before_->order(order);
  const auto rank_of = [&](EntryId id) {
    const std::uint64_t hash = facts_->facts_of(id).hash;
    const auto at = std::lower_bound(known.begin(), known.end(), hash,
                                     [](const Ranked& a, std::uint64_t b) { return a.hash < b; });
    return at != known.end() && at->hash == hash ? at->rank : kNowhere;
  };
  std::vector<EntryId> ranked(ranking.size(), kNoEntry);
  std::vector<EntryId> result;
  result.reserve(order.size());
  for (const EntryId id : order) {
    const std::uint32_t rank = rank_of(id);
    rank == kNowhere ? result.push_back(id) : static_cast<void>(ranked[rank] = id);
  }
  for (const EntryId id : ranked)
    if (id != kNoEntry) result.push_back(id);
  for (const EntryId id : result) take_over(id);
}

void AutoPolicy::carry(std::size_t entries) noexcept {
  for (; entries > 0 && leaving_ > 0; --entries) {
    const EntryId id = before_->victim({.bytes = 0});
    before_->erased(id);
    take_over(id);
  }
}

// Those that were taken over first were the first to go.
EntryId AutoPolicy::victim(const EntryFacts& incoming) noexcept {
  return (leaving_ == entries_ && leaving_ != 0 ? before_ : live_)->victim(incoming);
}

void AutoPolicy::entered(EntryId id, const EntryFacts& facts) noexcept {
  ShardFigures::add(figures_.bytes[marks_[id].level], facts.bytes);
  held_bytes_ += facts.bytes;
}

void AutoPolicy::left(EntryId id) noexcept {
  const std::uint64_t bytes = facts_->facts_of(id).bytes;
  ShardFigures::add(figures_.bytes[marks_[id].level], std::uint64_t{0} - bytes);
  held_bytes_ -= bytes;
}

void AutoPolicy::removed(EntryId id) noexcept {
  left(id);
  ShardFigures::add(figures_.entries, ~std::uint64_t{0});
  --entries_;
  if (leaving(id)) one_less_leaving();
}

void AutoPolicy::evicted(EntryId id) noexcept {
  (leaving(id) ? before_ : live_)->evicted(id);
  ShardFigures::add(figures_.evictions, 1);
  removed(id);
}

std::size_t AutoPolicy::next_victims(std::span<EntryId> entries) const noexcept {
  return leaving_ == 0 ? live_->next_victims(entries) : 0;
}

void AutoPolicy::inserted(EntryId id, const EntryFacts& facts) {
  marks_.make_room(id);
  live_->inserted(id, facts);
  const unsigned level =
      facts.hash == missed_hash_ ? missed_level_ : tournament_->level_of(facts.hash);
  marks_[id] = {static_cast<std::uint8_t>(level & 0x7fU), static_cast<std::uint8_t>(side_ & 1U)};
  entered(id, facts);
  ShardFigures::add(figures_.entries, 1);
  ++entries_;
}

void AutoPolicy::erased(EntryId id) noexcept {
  (leaving(id) ? before_ : live_)->erased(id);
  note_resident(id, SampledRequest::Kind::erased);
  removed(id);
}

void AutoPolicy::updated(EntryId id, const EntryFacts& facts) noexcept {
  ++tally_.requests;
  if (tournament_->samples(marks_[id].level)) note(facts, SampledRequest::Kind::hit);
  left(id);
  entered(id, facts);
  (leaving(id) ? before_ : live_)->updated(id, facts);
}

void AutoPolicy::resized(std::uint64_t capacity) {
  live_->resized(capacity);
  options_.capacity = capacity;
  tournament_->resized(capacity);
}

void AutoPolicy::order(std::vector<EntryId>& entries) const {
  live_->order(entries);
  if (before_ != nullptr) before_->order(entries);
}

std::size_t AutoPolicy::metadata_bytes() const noexcept {
  return live_->metadata_bytes() + (before_ == nullptr ? 0 : before_->metadata_bytes()) +
         marks_.metadata_bytes();
}

bool may_meet(PolicyKind one, PolicyKind other) noexcept {
  const auto charged = [](PolicyKind kind) {
    return cache_entry_overhead(to_string(kind)).count();
  };
  // What is charged beside the policy is in there twice, but for one byte of the mark.
  const std::uint64_t without = charged(PolicyKind::lru) - 8;
  return charged(one) + charged(other) + sizeof(std::uint16_t) <=
         charged(PolicyKind::automatic) + without;
}

std::unique_ptr<AutoPolicy> make_auto(const AutoOptions& options) {
  return std::make_unique<AutoPolicy>(std::make_shared<SharedTournament>(options, 1), options);
}

}  // namespace forebay::detail
