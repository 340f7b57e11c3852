#include "cache/shared_tournament.hpp"

#include <new>
#include <utility>

namespace forebay::detail {

SharedTournament::SharedTournament(const AutoOptions& options, std::uint32_t shards)
    : seed_(options.seed),
      shards_(shards),
      figures_(std::make_unique<ShardFigures[]>(shards)),
      options_(options) {
  if (options.memory_bytes != 0)
    tournament_.emplace(options_, std::span<const ShardFigures>{figures_.get(), shards_});
  publish();
  measure();
}

std::size_t SharedTournament::measured() const noexcept {
  return sizeof(*this) + shards_ * sizeof(ShardFigures) +
         (tournament_ ? tournament_->metadata_bytes() - sizeof(PolicyTournament) : 0);
}

void SharedTournament::measure() noexcept {
  unmeasured_ = 0;
  metadata_.store(measured(), std::memory_order_relaxed);
}

void SharedTournament::take(const RequestTally& tally) noexcept {
  if (!tournament_) return;
  tournament_->passed(tally.requests, tally.misses);
  tournament_->requests({tally.samples.data(), tally.sampled});
}

// Shards that were still on their way to the choice before this one go to this one when they have
// arrived.
void SharedTournament::choose(PolicyKind kind) noexcept {
  const std::uint64_t version = (choice_.load(std::memory_order_relaxed) >> 8) + 1;
  behind_ = shards_;
  choice_.store((version << 8) | static_cast<std::uint64_t>(kind), std::memory_order_relaxed);
}

void SharedTournament::publish() noexcept {
  const bool sampling = tournament_ && !tournament_->resting();
  sampled_from_.store(sampling ? tournament_->level() : kNone, std::memory_order_relaxed);
  if (!tournament_ || !tournament_->wants_switch()) return;
  choose(tournament_->wanted());
  tournament_->switched();
  tournament_->set_passing(true);
}

void SharedTournament::hand_over(RequestTally& tally) noexcept {
  constexpr std::uint32_t kMeasuredEvery = 8;  // it takes as long as some requests
  {
    const std::unique_lock lock{mutex_, std::try_to_lock};
    if (lock.owns_lock()) {
      take(tally);
      publish();
      if (++unmeasured_ == kMeasuredEvery) measure();
      tally.requests = tally.misses = 0;
    }
  }
  tally.sampled = 0;
}

void SharedTournament::filled(RequestTally& tally) noexcept {
  const std::lock_guard lock{mutex_};
  if (filled_.exchange(true, std::memory_order_relaxed)) return;
  take(tally);
  tally.requests = tally.misses = tally.sampled = 0;
  if (tournament_) tournament_->filled();
  publish();
}

// A shard that nobody asks does not keep the others waiting.
void SharedTournament::passed_over(std::uint32_t version) noexcept {
  constexpr std::uint32_t kMayLag = 4;  // one in
  const std::lock_guard lock{mutex_};
  if (choice().version != version || behind_ == 0) return;
  --behind_;
  if (tournament_ && behind_ <= shards_ / kMayLag) tournament_->set_passing(false);
}

std::vector<std::uint64_t> SharedTournament::ranking(std::uint32_t version) const {
  std::vector<std::uint64_t> hashes;
  const std::lock_guard lock{mutex_};
  const SimulatedCache* const model =
      tournament_ && choice().version == version ? tournament_->whole() : nullptr;
  if (model == nullptr) return hashes;
  std::vector<EntryId> entries;
  model->policy().order(entries);
  hashes.reserve(entries.size());
  for (const EntryId id : entries) hashes.push_back(model->key_of(id));
  return hashes;
}

void SharedTournament::resized(std::uint64_t shard_capacity) noexcept {
  const std::lock_guard lock{mutex_};
  const std::uint64_t capacity = shard_capacity * shards_;
  if (options_.capacity == capacity) return;
  options_.capacity = capacity;
  if (tournament_) tournament_->resized(capacity);
}

void SharedTournament::set_memory(std::uint64_t bytes) noexcept {
  const std::lock_guard lock{mutex_};
  if (std::exchange(options_.memory_bytes, bytes) == bytes) return;
  if (tournament_ && tournament_->metadata_bytes() <= bytes) {
    tournament_->set_memory(bytes);
    return;
  }
  tournament_.reset();
  if (bytes != 0) try {
      tournament_.emplace(options_, std::span<const ShardFigures>{figures_.get(), shards_});
      tournament_->join(choice().kind);
      filled_.store(true, std::memory_order_relaxed);
    } catch (const std::bad_alloc&) {
    }
  if (!tournament_ && choice().kind != PolicyKind::lru) choose(PolicyKind::lru);
  publish();
  measure();
}

AutoReport SharedTournament::report() const {
  const std::lock_guard lock{mutex_};
  AutoReport report;
  if (tournament_) report = tournament_->report();
  report.current = choice().kind;
  report.switches = choice().version;
  report.watching = report.watching && tournament_.has_value();
  return report;
}

std::size_t SharedTournament::metadata_bytes() const noexcept {
  const std::lock_guard lock{mutex_};
  return measured();
}

}  // namespace forebay::detail
