#include "cache/policy_tournament.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <new>
#include <utility>

#include "cache/hash.hpp"

namespace forebay::detail {
namespace {

// The figures below were chosen on public and generated traces (docs/caches.md); results move
// little within a factor of two of each.

// What is remembered of an epoch halves while lru misses so many times what the cache holds: long
// against the noise of a turnover, short against a phase.
constexpr double kHalfLife = 15;
// A candidate replaces the current policy if it would have lost less by one standard deviation and
// by what a switch may cost, in parts of the cache's entries, and by a share of all that was lost.
constexpr double kDeviations = 1;
// Of which keys the sample has: what groups of keys say is no full account of it.
constexpr double kSampling = 2;
constexpr double kSwitchCost = 0.15;
constexpr double kLeastGain = 0.003;
// Back to lru it takes less evidence.
constexpr double kDeviationsBack = 0.75;
// In parts of all that lru would have lost: what an attempt to do better than lru may lose before
// lru is taken again whatever the rest says, and what may have been lost in all for another attempt
// to begin. So the sum is bounded, below one in a hundred.
constexpr double kRegretOfAttempt = 0.003;
constexpr double kRegretToLeave = 0.006;
// How much more evidence it takes to leave lru again after that was a loss. It is forgotten as the
// epochs are: or phases that came and went would keep lru for ever.
constexpr double kCautionStep = 1.4;
constexpr double kMaxCaution = 16;

constexpr std::uint64_t kMemoryPart = 50;
constexpr std::uint64_t kLeastMemory = 64ULL << 10U;
constexpr std::uint64_t kMostMemory = 4ULL << 20U;
constexpr std::uint64_t kLeastCapacity = 2ULL << 20U;
constexpr std::uint64_t kLeastMemoryOfCounts = 512ULL << 10U;
constexpr std::uint64_t kPageBytes = 4096;
// Beside what grows with entries.
constexpr double kFixedBytes = 8 * 1024;
// Of all candidates together, their ghosts included, for one sampled entry; measured.
constexpr double kBytesPerEntry = 850;
constexpr double kMostEntries = 4096;
// Fewer say nothing of a cache.
constexpr std::size_t kLeastEntries = 32;
constexpr std::size_t kLeastEpoch = 64;

// Simulated requests: so many at first, and then so many a request of the cache. Where only a
// sample is simulated one counts twice: between two of them the CPU's caches have other contents.
constexpr double kFirstWork = 4e6;
constexpr double kWorkPerRequest = 0.1;
constexpr double kColdWork = 2;
// Rather than with fewer entries than this, the simulations go on with pauses.
constexpr std::size_t kEntriesToRest = 512;
// They begin again when there is time for so many turnovers, or when the cache's own misses have
// changed by this share.
constexpr double kTurnoversAwake = 32;
constexpr double kShift = 0.15;
// The cache's own misses are a mean over so many requests, brought up to date every so often.
constexpr double kRecentRequests = 1024;
constexpr std::uint64_t kRecentStep = 64;

// Sizes vary if the mean of their squares is above this many squares of their mean.
constexpr double kVaried = 1.5;

}  // namespace

std::uint64_t tournament_bytes(std::uint64_t capacity) noexcept {
  if (capacity < kLeastCapacity) return 0;
  return std::clamp(capacity / kMemoryPart, kLeastMemory, kMostMemory);
}

PolicyTournament::PolicyTournament(const AutoOptions& options, std::span<const ShardFigures> shards)
    : options_(options), shards_(shards), limit_(options.capacity), work_(kFirstWork) {
  caches_.reserve(kCandidates);
  for (const PolicyKind kind : kKinds) caches_.emplace_back(kind, options);
}

void PolicyTournament::join(PolicyKind current) noexcept {
  while (kKinds[current_] != current) current_ = (current_ + 1) % kCandidates;
  wanted_ = current_;
  filled_ = true;
  const LiveFigures now = live();
  unit_sized_ = now.bytes == now.entries;
  const auto most = static_cast<double>(std::max(most_entries(), kLeastEntries));
  while (static_cast<double>(now.entries) * rate() > most && level_ + 2 < kSampleLevels) ++level_;
  levels_.fill(level_);
  share_ = rate();
  resized(options_.capacity);
  wake();
}

LiveFigures PolicyTournament::live() const noexcept {
  LiveFigures sum;
  for (const ShardFigures& shard : shards_) {
    for (std::size_t level = 0; level < kSampleLevels; ++level) {
      const std::uint64_t bytes = shard.bytes[level].load(std::memory_order_relaxed);
      sum.bytes += bytes;
      if (level >= level_) sum.sampled += bytes;
    }
    sum.entries += shard.entries.load(std::memory_order_relaxed);
    sum.evictions += shard.evictions.load(std::memory_order_relaxed);
  }
  return sum;
}

double PolicyTournament::rate() const noexcept {
  return std::ldexp(1.0, -static_cast<int>(level_));
}

double PolicyTournament::loss_of(const EntryFacts& facts) const noexcept {
  switch (options_.objective) {
    case Objective::bytes:
      return static_cast<double>(facts.bytes);
    case Objective::cost:
      return static_cast<double>(facts.cost);
    default:
      return 1;
  }
}

std::uint64_t PolicyTournament::miniature_capacity() const noexcept {
  if (level_ == 0) return limit_;
  return std::max<std::uint64_t>(1,
                                 static_cast<std::uint64_t>(static_cast<double>(limit_) * share_));
}

std::size_t PolicyTournament::largest() const noexcept {
  std::size_t entries = 0;
  for (const SimulatedCache& cache : caches_) entries = std::max(entries, cache.entries());
  return entries;
}

std::size_t PolicyTournament::most_entries() const noexcept {
  std::uint64_t memory = options_.memory_bytes;
  if (memory == AutoOptions::kByCapacity) {
    memory = unit_sized_ ? std::max(kLeastMemoryOfCounts, std::min(options_.capacity, kMostMemory) *
                                                              kPageBytes / kMemoryPart)
                         : std::max(kLeastMemory, tournament_bytes(options_.capacity));
  }
  const double room = std::max(0.0, static_cast<double>(memory) - kFixedBytes);
  return static_cast<std::size_t>(std::min(kMostEntries, room / kBytesPerEntry));
}

const SimulatedCache* PolicyTournament::whole() const noexcept {
  return level_ == 0 && !resting_ && warming_ == 0 ? &caches_[current_] : nullptr;
}

std::size_t PolicyTournament::metadata_bytes() const noexcept {
  std::size_t sum = sizeof(*this);
  for (const SimulatedCache& cache : caches_) sum += cache.metadata_bytes();
  return sum;
}

void PolicyTournament::passed(std::uint64_t requests, std::uint64_t misses) noexcept {
  requests_ += requests;
  work_ = std::min(kFirstWork, work_ + kWorkPerRequest * static_cast<double>(requests));
  pending_requests_ += requests;
  pending_misses_ += misses;
  if (pending_requests_ >= kRecentStep) {
    const auto count = static_cast<double>(pending_requests_);
    const double keep = std::exp(-count / kRecentRequests);
    recent_misses_ =
        keep * recent_misses_ + (1 - keep) * static_cast<double>(pending_misses_) / count;
    pending_requests_ = pending_misses_ = 0;
  }
  if (resting_) wake_if_due();
}

void PolicyTournament::requests(std::span<const SampledRequest> batch) noexcept {
  std::array<SampledRequest, kSampledAtOnce> taken;
  std::size_t count = 0;
  for (const SampledRequest& request : batch) {
    if (level_of(request.facts.hash) < level_) continue;
    unit_sized_ = unit_sized_ && request.facts.bytes == 1;
    if (!filled_ && request.kind != SampledRequest::Kind::erased) note_first(request.facts);
    taken[count++] = request;
  }
  if (resting_ || count == 0) return;
  simulate({taken.data(), count});
  for (std::size_t i = 0; i < count; ++i) shrink_one();
  spend(count);
}

void PolicyTournament::simulate(std::span<const SampledRequest> batch) noexcept {
  for (std::size_t i = 0; i < kCandidates; ++i) simulate(i, batch);
  for (const SampledRequest& request : batch) {
    if (request.kind == SampledRequest::Kind::erased) continue;
    const double loss = loss_of(request.facts);
    epoch_asked_ += loss;
    if (request.kind == SampledRequest::Kind::miss) epoch_live_ += loss;
    ++epoch_requests_;
    ++sampled_;
  }
  if (epoch_requests_ >= std::max(kLeastEpoch, caches_[kLru].entries() / 2)) end_epoch();
}

void PolicyTournament::simulate(std::size_t candidate,
                                std::span<const SampledRequest> batch) noexcept {
  SimulatedCache& cache = caches_[candidate];
  const std::uint64_t own = options_.entry_bytes(kKinds[candidate]);
  for (const SampledRequest& request : batch) cache.prefetch(request.facts.hash);
  for (const auto& [facts, kind] : batch) {
    if (kind == SampledRequest::Kind::erased) {
      cache.erase(facts.hash);
      continue;
    }
    bool simulated_hit = false;
    try {
      simulated_hit = cache.request({facts.hash, facts.bytes + own, facts.cost, facts.utility});
    } catch (const std::bad_alloc&) {  // a miss then
    }
    if (simulated_hit) continue;
    epoch_groups_[mix_key(facts.hash ^ options_.seed) % kGroups][candidate] += loss_of(facts);
    if (candidate == kLru) ++epoch_lru_misses_;
  }
}

// Keeps to the bounds of memory and time.
void PolicyTournament::spend(std::size_t requests) noexcept {
  work_ -= static_cast<double>(kCandidates * requests) * (level_ == 0 ? 1 : kColdWork);
  if (levels_.back() != level_) return;  // the last halving is not done yet
  const std::size_t entries = largest();
  const bool too_many = entries > most_entries() && entries > kLeastEntries;
  if (too_many || (work_ <= 0 && entries > kEntriesToRest)) {
    lower_rate();
    // The next halving has to wait until this one has had its effect.
    work_ = std::max(work_, kFirstWork / 64);
  } else if (work_ <= 0) {
    resting_ = true;
    misses_at_rest_ = recent_misses_;
  }
}

void PolicyTournament::lower_rate() noexcept {
  if (level_ + 2 >= kSampleLevels) return;
  ++level_;
  share_ = rate();
  lru_live_ = lru_simulated_ = 0;
}

// One miniature cache a request gives up the keys that are not sampled any more.
void PolicyTournament::shrink_one() noexcept {
  for (std::size_t i = 0; i < kCandidates; ++i) {
    if (levels_[i] == level_) continue;
    try {
      std::vector<EntryId> entries;
      caches_[i].policy().order(entries);
      for (const EntryId id : entries) {
        const std::uint64_t key = caches_[i].key_of(id);
        if (level_of(key) < level_) caches_[i].erase(key);
      }
      caches_[i].resize(miniature_capacity());
    } catch (const std::bad_alloc&) {
      return;  // with the next request
    }
    levels_[i] = level_;
    return;
  }
}

void PolicyTournament::wake_if_due() noexcept {
  const double turnover =
      static_cast<double>(std::max(caches_[kLru].entries(), kLeastEpoch) * kCandidates) *
      (level_ == 0 ? 1 : kColdWork);
  const bool shifted =
      std::abs(recent_misses_ - misses_at_rest_) > kShift * std::max(misses_at_rest_, 0.01);
  const double enough = shifted ? 4 * turnover : kTurnoversAwake * turnover;
  if (work_ >= std::min(enough, kFirstWork)) wake();
}

// What the miniature caches hold is old: nothing counts until lru has turned over.
void PolicyTournament::wake() noexcept {
  resting_ = false;
  warming_ = static_cast<double>(std::max(caches_[kLru].entries(), kLeastEpoch));
}

void PolicyTournament::resized(std::uint64_t capacity) noexcept {
  if (options_.capacity != capacity) limit_ = capacity;
  options_.capacity = capacity;
  for (std::size_t i = 0; i < kCandidates; ++i) {
    try {
      caches_[i].resize(miniature_capacity());
    } catch (const std::bad_alloc&) {
      levels_[i] = level_ + 1;  // shrink_one() tries again
    }
  }
}

void PolicyTournament::note_first(const EntryFacts& facts) noexcept {
  bytes_.add(static_cast<double>(facts.bytes));
  costs_.add(static_cast<double>(facts.cost));
  ++first_;
}

// Until now no order made a difference, so the first choice costs nothing: where sizes or costs
// vary, gdsf, which then hardly ever loses to lru; arc, which stays close to lru, for bytes, and
// where so many keys are sampled that its loss would be seen at once.
void PolicyTournament::filled() noexcept {
  filled_ = true;
  const auto count = static_cast<double>(first_);
  const auto varies = [count](const Spread& spread) {
    return spread.squares * count > kVaried * spread.sum * spread.sum;
  };
  constexpr unsigned kSeenAtOnce = 1;
  PolicyKind first = level_ <= kSeenAtOnce ? PolicyKind::arc : PolicyKind::lru;
  if (options_.objective == Objective::objects && varies(bytes_)) first = PolicyKind::gdsf;
  if (options_.objective == Objective::cost && (varies(bytes_) || varies(costs_)))
    first = PolicyKind::gdsf;
  if (options_.objective == Objective::bytes && varies(bytes_)) first = PolicyKind::arc;
  while (kKinds[wanted_] != first) wanted_ = (wanted_ + 1) % kCandidates;
}

// A sample has more or less than its share of the keys that are in use. What the cache itself holds
// tells: the miniature caches get the share of the capacity that the sample has of the cache. (On
// one trace a sample of half the keys had 6 % too many misses without this.)
void PolicyTournament::correct_share() noexcept {
  constexpr double kStep = 0.2;
  constexpr double kTooSmall = 0.005;
  const LiveFigures now = live();
  follow_limit(now);
  const auto held = static_cast<double>(now.bytes);
  if (level_ != 0 && held >= 0.9 * static_cast<double>(limit_)) {
    const double seen = static_cast<double>(now.sampled) / held;
    share_ += kStep * (std::clamp(seen, rate() / 2, rate() * 2) - share_);
  }
  const auto has = static_cast<double>(caches_[kLru].capacity());
  if (std::abs(static_cast<double>(miniature_capacity()) - has) > kTooSmall * has)
    resized(options_.capacity);
}

// A cache that evicts while a good part of its line is free is held down by something else.
void PolicyTournament::follow_limit(const LiveFigures& now) noexcept {
  constexpr std::uint64_t kFewEntries = 64;  // of a few large ones a part of the room is never used
  constexpr double kFull = 0.8;
  const bool evicts = now.evictions != std::exchange(evictions_, now.evictions);
  if (!evicts || now.entries < kFewEntries) return;
  const auto capacity = static_cast<double>(options_.capacity);
  limit_ = static_cast<double>(now.bytes) < kFull * capacity ? now.bytes : options_.capacity;
}

void PolicyTournament::end_epoch() noexcept {
  correct_share();
  for (const Losses& group : epoch_groups_)
    for (std::size_t i = 0; i < kCandidates; ++i) epoch_[i] += group[i];
  const auto turnovers = static_cast<double>(epoch_lru_misses_) /
                         static_cast<double>(std::max<std::size_t>(caches_[kLru].entries(), 16));
  const double keep = std::exp2(-turnovers / kHalfLife);
  if (warming_ > 0) {
    warming_ = std::max(0.0, warming_ - static_cast<double>(epoch_lru_misses_));
  } else {
    for (std::size_t i = 0; i < kCandidates; ++i) {
      recent_[i] = recent_[i] * keep + epoch_[i];
      total_[i] += epoch_[i];
      for (std::size_t j = 0; j < kCandidates; ++j) {
        const double difference = epoch_[i] - epoch_[j];
        squares_[i][j] = squares_[i][j] * keep + difference * difference;
      }
    }
    for (std::size_t g = 0; g < kGroups; ++g)
      for (std::size_t i = 0; i < kCandidates; ++i)
        groups_[g][i] = groups_[g][i] * keep + epoch_groups_[g][i];
    asked_ = asked_ * keep + epoch_asked_;
    asked_requests_ = asked_requests_ * keep + static_cast<double>(epoch_requests_);
    live_total_ += epoch_live_;
    caution_ = 1 + (caution_ - 1) * keep;
    add_regret(keep);
    if (!passing_) decide();
  }
  epoch_.fill(0);
  epoch_groups_.fill({});
  epoch_asked_ = epoch_live_ = 0;
  epoch_requests_ = 0;
  epoch_lru_misses_ = 0;
}

// The variance of the gain over the current policy that comes of which keys are in the sample: how
// much groups of its keys differ (a delete-a-group jackknife). None if all keys are in it.
double PolicyTournament::sampling_noise(std::size_t candidate) const noexcept {
  const double mean = (recent_[current_] - recent_[candidate]) / double{kGroups};
  double squares = 0;
  for (const Losses& group : groups_) {
    const double off = group[current_] - group[candidate] - mean;
    squares += off * off;
  }
  return (1 - rate()) * squares * double{kGroups} / double{kGroups - 1};
}

// Than the current policy.
bool PolicyTournament::beats(std::size_t candidate, double deviations,
                             double capacities) const noexcept {
  const double gain = recent_[current_] - recent_[candidate];
  const double noise =
      std::sqrt(squares_[candidate][current_] + kSampling * sampling_noise(candidate));
  const double request = asked_requests_ > 0 ? asked_ / asked_requests_ : 1;
  const double price = capacities * static_cast<double>(caches_[kLru].entries()) * request;
  return gain > deviations * noise + price && gain > kLeastGain * recent_[current_];
}

// A sample's miniature of lru loses a little more or less than lru does on the same keys. That
// shows while lru orders the cache, and would pass for regret when another does.
void PolicyTournament::add_regret(double keep) noexcept {
  constexpr double kMostBias = 0.1;
  if (level_ == 0) {
    regret_ += epoch_live_ - epoch_[kLru];
    return;
  }
  if (current_ == kLru) {
    lru_live_ = lru_live_ * keep + epoch_live_;
    lru_simulated_ = lru_simulated_ * keep + epoch_[kLru];
    return;
  }
  const double bias = lru_simulated_ > 0 ? lru_live_ / lru_simulated_ - 1 : 0;
  regret_ += epoch_live_ - epoch_[kLru] * (1 + std::clamp(bias, -kMostBias, kMostBias));
}

bool PolicyTournament::lost_too_much() const noexcept {
  if (current_ == kLru) return regret_ > kRegretToLeave * total_[kLru];
  return regret_ - std::max(regret_when_left_, 0.0) > kRegretOfAttempt * total_[kLru];
}

void PolicyTournament::decide() noexcept {
  const double care = current_ == kLru ? caution_ : 1;
  std::size_t best = current_;
  for (std::size_t i = 0; i < kCandidates; ++i) {
    if (i == current_) continue;
    const bool better =
        i == kLru ? beats(i, kDeviationsBack, 0) : beats(i, kDeviations * care, kSwitchCost * care);
    if (better && (best == current_ || recent_[i] < recent_[best])) best = i;
  }
  if ((best == current_ || current_ == kLru) && lost_too_much()) best = kLru;
  if (best == kLru && current_ != kLru) {
    const bool lost = regret_ > regret_when_left_;
    caution_ =
        std::clamp(lost ? caution_ * kCautionStep : caution_ / kCautionStep, 1.0, kMaxCaution);
  } else if (current_ == kLru && best != kLru) {
    regret_when_left_ = regret_;
  }
  wanted_ = best;
}

AutoReport PolicyTournament::report() const {
  AutoReport report;
  for (std::size_t i = 0; i < kCandidates; ++i) {
    report.candidates.push_back(
        {kKinds[i], asked_ > 0 ? recent_[i] / asked_ : 0, live_total_ - total_[i]});
  }
  report.current = current();
  report.watching = !resting_;
  report.requests = requests_;
  report.sampled = sampled_;
  report.sample_rate = rate();
  report.memory_bytes = metadata_bytes();
  return report;
}

}  // namespace forebay::detail
