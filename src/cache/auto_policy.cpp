#include "cache/auto_policy.hpp"

#include <algorithm>
#include <new>
#include <utility>

namespace forebay::detail {
namespace {

// Entries taken over with a miss: some microseconds.
constexpr std::size_t kCarriedPerMiss = 16;
constexpr std::size_t kCarriedPerHit = 2;

// A place keeps 56 bits of the bytes: no cache holds more.
constexpr std::uint64_t kBytesMask = (std::uint64_t{1} << 56U) - 1;

}  // namespace

AutoPolicy::AutoPolicy(const AutoOptions& options)
    : options_(options), tournament_(options), live_(make_policy(PolicyKind::lru, options)) {}

void AutoPolicy::note(EntryId id, const EntryFacts& facts) noexcept {
  Place& place = places_[id];
  place.hash = facts.hash;
  place.bytes = facts.bytes & kBytesMask;
  place.cost = facts.cost;
  place.utility = facts.utility;
}

void AutoPolicy::hit(EntryId id) noexcept {
  tournament_.request(places_[id].facts(), true);
  if (leaving(id)) {
    before_->erased(id);
    take_over(id);
  }
  live_->hit(id);
  carry(kCarriedPerHit);
}

void AutoPolicy::missed(const EntryFacts& incoming) {
  tournament_.request(incoming, false);
  if (!tournament_.has_filled() && incoming.bytes > options_.capacity - tournament_.live_bytes())
    tournament_.filled();
  if (leaving_ == 0 && tournament_.wants_switch()) begin_switch();
  carry(kCarriedPerMiss);
  live_->missed(incoming);
}

// Failure leaves the policy that there is.
void AutoPolicy::begin_switch() noexcept try {
  PolicyOptions options = options_;
  std::unique_ptr<EvictionPolicy> next = make_policy(tournament_.wanted(), options);
  if (entries_ != 0) {
    // After the highest number no other can fail; see EvictionPolicy.
    const auto highest = static_cast<EntryId>(places_.size() - 1);
    next->inserted(highest, places_[highest].facts());
    next->erased(highest);
  }
  before_ = std::exchange(live_, std::move(next));
  leaving_ = left_at_first_ = entries_;
  tournament_.set_passing(leaving_ != 0);
  ++generation_;
  ++switches_;
  const SimulatedCache* model = tournament_.whole();
  tournament_.switched();
  if (model != nullptr) take_over_ranked(*model);
  if (leaving_ == 0) before_.reset();
} catch (const std::bad_alloc&) {
  tournament_.not_switched();
}

void AutoPolicy::take_over(EntryId id) noexcept {
  places_[id].generation = generation_;
  live_->inserted(id, places_[id].facts());
  // The better half has earned more than a newcomer has.
  if (2 * leaving_ <= left_at_first_) live_->hit(id);
  one_less_leaving();
}

void AutoPolicy::one_less_leaving() noexcept {
  if (--leaving_ != 0) return;
  before_.reset();
  tournament_.set_passing(false);
}

// All at once, as the cache is small: first what the new policy would have let go by now, then the
// rest in its own order.
void AutoPolicy::take_over_ranked(const SimulatedCache& model) {
  std::vector<EntryId> order;
  std::vector<EntryId> ranked;
  std::vector<std::pair<std::uint64_t, EntryId>> known;
  before_->order(order);
  known.reserve(order.size());
  model.policy().order(ranked);
  for (const EntryId id : order) {
    const std::uint64_t hash = places_[id].hash;
    if (model.contains(hash)) known.emplace_back(hash, id);
  }
  std::sort(known.begin(), known.end());
  std::vector<EntryId> result;
  result.reserve(order.size());
  for (const EntryId id : order)
    if (!model.contains(places_[id].hash)) result.push_back(id);
  for (const EntryId ranked_id : ranked) {
    const std::uint64_t hash = model.key_of(ranked_id);
    const auto at = std::lower_bound(known.begin(), known.end(), std::pair{hash, EntryId{0}});
    if (at != known.end() && at->first == hash) result.push_back(at->second);
  }
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

void AutoPolicy::removed(EntryId id) noexcept {
  tournament_.left(places_[id].facts());
  --entries_;
  if (leaving(id)) one_less_leaving();
}

void AutoPolicy::evicted(EntryId id) noexcept {
  (leaving(id) ? before_ : live_)->evicted(id);
  removed(id);
}

void AutoPolicy::inserted(EntryId id, const EntryFacts& facts) {
  places_.make_room(id);
  live_->inserted(id, facts);
  note(id, facts);
  places_[id].generation = generation_;
  tournament_.entered(facts);
  ++entries_;
}

void AutoPolicy::erased(EntryId id) noexcept {
  (leaving(id) ? before_ : live_)->erased(id);
  tournament_.erased(places_[id].hash);
  removed(id);
}

void AutoPolicy::updated(EntryId id, const EntryFacts& facts) noexcept {
  tournament_.request(facts, true);
  tournament_.left(places_[id].facts());
  tournament_.entered(facts);
  note(id, facts);
  (leaving(id) ? before_ : live_)->updated(id, facts);
}

void AutoPolicy::resized(std::uint64_t capacity) {
  live_->resized(capacity);
  options_.capacity = capacity;
  tournament_.resized(capacity);
}

void AutoPolicy::order(std::vector<EntryId>& entries) const {
  live_->order(entries);
  if (before_ != nullptr) before_->order(entries);
}

std::size_t AutoPolicy::metadata_bytes() const noexcept {
  return live_->metadata_bytes() + (before_ == nullptr ? 0 : before_->metadata_bytes()) +
         tournament_.metadata_bytes() + places_.metadata_bytes();
}

AutoReport AutoPolicy::report() const {
  AutoReport report = tournament_.report();
  report.switches = switches_;
  return report;
}

std::unique_ptr<AutoPolicy> make_auto(const AutoOptions& options) {
  return std::make_unique<AutoPolicy>(options);
}

}  // namespace forebay::detail
