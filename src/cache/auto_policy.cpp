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

// Of each entry, beside the policy that orders it.
constexpr std::uint32_t kMarkBytes = 2;
// Of the list of lru, which is part of cache_entry_overhead("lru").
constexpr std::uint32_t kListBytes = 8;
// What a policy takes for an entry beyond what lru does.
std::uint32_t beyond_lru(PolicyKind kind) noexcept {
  const auto overhead = [](PolicyKind of) { return cache_entry_overhead(to_string(of)).count(); };
  return static_cast<std::uint32_t>(overhead(kind) - overhead(PolicyKind::lru));
}

// Of an entry that is put in and taken out again, to make a policy take its arrays.
class Placeholder final : public EntryFactsSource {
 public:
  EntryFacts facts_of(EntryId) const noexcept override { return {}; }
};

}  // namespace

std::uint32_t AutoOptions::entry_bytes(PolicyKind kind) const noexcept {
  return charges_policies ? beyond_lru(kind) + kMarkBytes : 0;
}

AutoPolicy::AutoPolicy(std::shared_ptr<SharedTournament> tournament, const AutoOptions& options)
    : options_(options),
      tournament_(std::move(tournament)),
      figures_(tournament_->next_shard()),
      live_(make_policy(PolicyKind::lru, options)) {
  live_side().own = options.entry_bytes(PolicyKind::lru);
}

void AutoPolicy::use_facts(const EntryFactsSource& source) noexcept {
  facts_ = &source;
  for (Side& side : sides_) side.entries = &source;
  live_->use_facts(live_side());
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
  const EntryFacts facts = live_side().with(incoming);
  if (!tournament_->has_filled() && held_bytes_ + facts.bytes > options_.capacity)
    tournament_->filled(tally_);
  if (leaving_ == 0 && tournament_->choice() != followed_) follow_choice();
  carry(kCarriedPerMiss);
  live_->missed(live_side().with(incoming));
}

// One step towards the chosen policy. Failure leaves the policy that there is.
void AutoPolicy::follow_choice() noexcept try {
  if (patience_ != 0 && --patience_ != 0) return;
  const SharedTournament::Choice choice = tournament_->choice();
  if (choice.kind == live_->kind()) {
    followed_ = choice;
    waiting_for_.reset();
    return arrived();
  }
  // Two that take much never take it together.
  const bool direct = choice.kind == PolicyKind::lru || live_->kind() == PolicyKind::lru;
  waiting_for_ = direct ? choice.kind : PolicyKind::lru;
  if (charged_ < charge_to_begin(*waiting_for_, outside_)) return;
  switch_to(*waiting_for_, choice.version);
  waiting_for_.reset();
  if (direct) followed_ = choice;
  if (leaving_ == 0) {
    before_.reset();
    if (direct) arrived();
  }
} catch (const std::bad_alloc&) {
  patience_ = kPatience;
}

void AutoPolicy::arrived() noexcept { tournament_->passed_over(followed_.version); }

// What the live policy goes on to take for an entry while another takes memory for it as well.
std::uint64_t AutoPolicy::beside_another() const noexcept {
  return options_.charges_policies ? live_side().own + kListBytes - kMarkBytes : 0;
}

std::uint64_t AutoPolicy::charge_to_begin(PolicyKind kind, std::uint64_t outside) const noexcept {
  return options_.entry_bytes(kind) * (entries_ + outside) + beside_another() * entries_;
}

PolicyCharge AutoPolicy::charge(std::uint64_t outside) const noexcept {
  PolicyCharge charge;
  charge.entry = live_side().own;
  charge.total = charge.entry * (entries_ + outside) + (leaving_ != 0 ? before_charge_ : 0);
  charge.goal = charge.total;
  if (waiting_for_) {
    charge.goal = std::max(charge.goal, charge_to_begin(*waiting_for_, outside));
    charge.instalment = kCarriedPerMiss * (options_.entry_bytes(*waiting_for_) + kListBytes);
  }
  return charge;
}

void AutoPolicy::charged(std::uint64_t bytes, std::uint64_t outside) noexcept {
  charged_ = bytes;
  outside_ = outside;
}

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
  Side& next_side = sides_[side_ ^ 1U];
  next_side = live_side();
  next_side.own = options_.entry_bytes(kind);
  next->use_facts(next_side);
  const std::vector<std::uint64_t> ranking = tournament_->ranking(version);
  before_charge_ = beside_another() * entries_;
  before_ = std::exchange(live_, std::move(next));
  leaving_ = left_at_first_ = entries_;
  side_ ^= 1U;
  try {
    if (!ranking.empty()) take_over_ranked(ranking);
  } catch (const std::bad_alloc&) {  // then in the order of the old one, as they pass
  }
}

void AutoPolicy::take_over(EntryId id) noexcept {
  left(id);
  marks_[id].side = side_ & 1U;
  const EntryFacts facts = facts_of(id);
  entered(id, facts.bytes);
  live_->inserted(id, facts);
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

std::uint32_t AutoPolicy::likely_victims(std::span<EntryId> entries) const noexcept {
  const std::uint32_t count =
      (leaving_ == entries_ && leaving_ != 0 ? before_ : live_)->likely_victims(entries);
  for (const EntryId id : entries.first(count)) __builtin_prefetch(&marks_[id]);
  return count;
}

// Those that were taken over first were the first to go.
EntryId AutoPolicy::victim(const EntryFacts& incoming) noexcept {
  EntryFacts facts = incoming;
  if (incoming.bytes != 0) facts.bytes += live_side().own;
  return (leaving_ == entries_ && leaving_ != 0 ? before_ : live_)->victim(facts);
}

void AutoPolicy::entered(EntryId id, std::uint64_t bytes) noexcept {
  ShardFigures::add(figures_.bytes[marks_[id].level], bytes);
  held_bytes_ += bytes;
}

void AutoPolicy::left(EntryId id) noexcept {
  const std::uint64_t bytes = facts_of(id).bytes;
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

void AutoPolicy::inserted(EntryId id, const EntryFacts& facts) {
  marks_.make_room(id);
  const EntryFacts own = live_side().with(facts);
  live_->inserted(id, own);
  const unsigned level =
      facts.hash == missed_hash_ ? missed_level_ : tournament_->level_of(facts.hash);
  marks_[id] = {static_cast<std::uint8_t>(level & 0x7fU), static_cast<std::uint8_t>(side_ & 1U)};
  entered(id, own.bytes);
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
  const EntryFacts own = sides_[marks_[id].side].with(facts);
  left(id);
  entered(id, own.bytes);
  (leaving(id) ? before_ : live_)->updated(id, own);
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

std::unique_ptr<AutoPolicy> make_auto(const AutoOptions& options) {
  return std::make_unique<AutoPolicy>(std::make_shared<SharedTournament>(options, 1), options);
}

}  // namespace forebay::detail
