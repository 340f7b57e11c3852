#include "trace/cache_replay.hpp"

#include <fmt/format.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <variant>

#include "cache/auto_policy.hpp"

namespace forebay::trace {
namespace {

using detail::CacheCounts;
using detail::Objective;
using detail::PolicyKind;
using detail::SimulatedCache;

constexpr std::size_t kBatch = 8192;
// Objects that are counted exactly where nothing depends on it: their table stays in a core's
// cache, beside what is measured.
constexpr std::size_t kOnTheWay = 1 << 17;
// From a thousandth of the footprint to all of it, four to each tenfold.
constexpr int kCurvePoints = 13;
constexpr double kPointsToTenfold = 4;

Status bad(std::string why) { return {Code::invalid_argument, std::move(why)}; }

double cpu_seconds() {
  timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

double ratio(double part, double whole) { return whole > 0 ? std::min(1.0, part / whole) : 0; }

// A part of the trace: requests, and the number of each.
struct Batch {
  std::vector<CacheRequest> requests;
  std::vector<std::uint64_t> numbers;
};

// One cache on its way through the trace.
class Racer {
 public:
  Racer(const Contender& contender, const CacheReplayOptions& options, const CacheDemand* demand,
        std::uint64_t capacity)
      : cache_(make(contender, options, demand, capacity)) {}

  void feed(const Batch& batch, const NextUses* next_uses) {
    const double start = cpu_seconds();
    if (auto* const cache = std::get_if<SimulatedCache>(&cache_)) {
      feed(*cache, batch.requests);
    } else {
      auto& belady = std::get<BeladyCache>(cache_);
      for (std::size_t i = 0; i < batch.requests.size(); ++i) {
        belady.request(batch.requests[i], batch.numbers[i], next_uses->of(batch.numbers[i]));
      }
    }
    seconds_ += cpu_seconds() - start;
  }

  const CacheCounts& counts() const {
    return std::visit([](const auto& cache) -> const CacheCounts& { return cache.counts(); },
                      cache_);
  }
  std::size_t entries() const {
    return std::visit([](const auto& cache) { return cache.entries(); }, cache_);
  }
  std::size_t metadata_bytes() const {
    const auto* const cache = std::get_if<SimulatedCache>(&cache_);
    return cache != nullptr ? cache->metadata_bytes() : 0;
  }
  double seconds() const { return seconds_; }

 private:
  using Cache = std::variant<SimulatedCache, BeladyCache>;

  static void feed(SimulatedCache& cache, std::span<const CacheRequest> requests) {
    constexpr std::size_t kAhead = 8;
    for (std::size_t i = 0; i < requests.size(); ++i) {
      if (i + kAhead < requests.size()) cache.prefetch(requests[i + kAhead].key);
      cache.request(requests[i]);
    }
  }
  static Cache make(const Contender& contender, const CacheReplayOptions& options,
                    const CacheDemand* demand, std::uint64_t capacity) {
    if (contender.kind) {
      detail::AutoOptions policy;
      policy.capacity = capacity;
      policy.objective = options.objective;
      if (*contender.kind != PolicyKind::automatic) return SimulatedCache{*contender.kind, policy};
      return SimulatedCache{detail::make_auto(policy), capacity};
    }
    const bool counts_cost = options.objective == Objective::cost && demand->has_cost;
    const bool counts_objects = options.objective != Objective::bytes && demand->sizes_differ;
    return BeladyCache{counts_cost      ? BeladyCache::Rule::by_cost
                       : counts_objects ? BeladyCache::Rule::largest_and_farthest
                                        : BeladyCache::Rule::farthest,
                       capacity};
  }

  Cache cache_;
  double seconds_ = 0;
};

// `share` of all requests were given to the cache, on average: of more than that, and of fewer,
// all the misses are taken to be among those that were expected, since what is often asked for
// is hit (the correction of SHARDS: Waldspurger, Park, Garthwaite, Ahmad, FAST 2015).
MissRatios misses_of(const CacheCounts& counts, const CacheDemand& demand, double share) {
  return {
      ratio(static_cast<double>(counts.requests - counts.hits),
            share * static_cast<double>(demand.requests)),
      ratio(static_cast<double>(counts.bytes_missed), share * static_cast<double>(demand.bytes)),
      ratio(counts.cost_missed, share * demand.cost)};
}

std::uint64_t scaled(double whole, double share) {
  return std::max<std::uint64_t>(1, static_cast<std::uint64_t>(whole * share));
}

std::uint64_t capacity_of(const LineSetting& setting, const CacheDemand* demand) {
  if (!setting.fraction) return setting.bytes.count();
  return scaled(static_cast<double>(demand->footprint_bytes), *setting.fraction);
}

// The caches of one replay: those that were asked for, and those of the curves.
class Race {
 public:
  Race(const CacheSurvey* survey, const CacheReplayOptions& options)
      : survey_(survey), options_(options), demand_(survey != nullptr ? &survey->demand : nullptr) {
    for (const LineSetting& setting : options.capacities) {
      for (const Contender& contender : options.policies) {
        runs_.emplace_back(contender, options, demand_, capacity_of(setting, demand_));
      }
    }
    if (options.curve) add_curves();
  }

  void feed(Batch& batch) {
    number(batch);
    const NextUses* const next_uses = survey_ != nullptr ? &survey_->next_uses : nullptr;
    for (Racer& racer : runs_) racer.feed(batch, next_uses);
    if (points_.empty()) return;
    const Batch& part = threshold_ == ~0ULL ? batch : sampled(batch);
    for (Racer& racer : points_) racer.feed(part, next_uses);
  }

  void finish(CacheReplay& replay) const {
    auto racer = runs_.begin();
    for (const LineSetting& setting : options_.capacities) {
      for (const Contender& contender : options_.policies) {
        replay.runs.push_back(run_of(*racer++, contender, setting, replay.demand));
      }
    }
    if (points_.empty()) return;
    replay.curve_sampling = sampling_;
    auto point = points_.begin();
    for (const Contender& contender : options_.policies) {
      CacheCurve curve{contender.name, !contender.kind, {}};
      for (int i = 0; i < kCurvePoints; ++i) {
        curve.points.push_back({scaled(footprint(), share_of(i)), share_of(i),
                                misses_of((point++)->counts(), replay.demand, sampling_)});
      }
      replay.curves.push_back(std::move(curve));
    }
  }

 private:
  static double share_of(int point) {
    return std::pow(10, (point - kCurvePoints + 1) / kPointsToTenfold);
  }
  double footprint() const { return static_cast<double>(demand_->footprint_bytes); }

  void add_curves() {
    const auto objects = static_cast<double>(demand_->objects);
    if (demand_->objects > kCurveObjects) {
      sampling_ = static_cast<double>(kCurveObjects) / objects;
      threshold_ = static_cast<std::uint64_t>(std::ldexp(sampling_, 64));
    }
    for (const Contender& contender : options_.policies) {
      for (int i = 0; i < kCurvePoints; ++i) {
        points_.emplace_back(contender, options_, demand_,
                             scaled(footprint(), share_of(i) * sampling_));
      }
    }
  }

  // Numbers are for the optimum alone.
  void number(Batch& batch) {
    batch.numbers.resize(batch.requests.size());
    for (std::uint64_t& number : batch.numbers) number = next_number_++;
  }

  const Batch& sampled(const Batch& batch) {
    // Another hash than the tables of the caches have: a part by the same would crowd them.
    constexpr std::uint64_t kOther = 0x9E3779B97F4A7C15;
    sample_.requests.clear();
    sample_.numbers.clear();
    for (std::size_t i = 0; i < batch.requests.size(); ++i) {
      if (mixed(batch.requests[i].key + kOther) >= threshold_) continue;
      sample_.requests.push_back(batch.requests[i]);
      sample_.numbers.push_back(batch.numbers[i]);
    }
    return sample_;
  }

  static CacheRun run_of(const Racer& racer, const Contender& contender, const LineSetting& setting,
                         const CacheDemand& demand) {
    CacheRun run;
    run.policy = contender.name;
    run.offline = !contender.kind;
    run.capacity = capacity_of(setting, &demand);
    run.share = setting.fraction;
    run.counts = racer.counts();
    run.misses = {ratio(static_cast<double>(run.counts.requests - run.counts.hits),
                        static_cast<double>(run.counts.requests)),
                  ratio(static_cast<double>(run.counts.bytes_missed),
                        static_cast<double>(run.counts.bytes_requested)),
                  ratio(run.counts.cost_missed, run.counts.cost_requested)};
    run.entries = racer.entries();
    run.metadata_bytes = racer.metadata_bytes();
    run.seconds = racer.seconds();
    return run;
  }

  const CacheSurvey* survey_;
  const CacheReplayOptions& options_;
  const CacheDemand* demand_;
  std::vector<Racer> runs_;    // by capacity, then policy
  std::vector<Racer> points_;  // by policy, then capacity
  double sampling_ = 1;
  std::uint64_t threshold_ = ~0ULL;
  std::uint64_t next_number_ = 0;
  Batch sample_;
};

bool has_belady(const CacheReplayOptions& options) {
  return std::ranges::any_of(options.policies, [](const Contender& c) { return !c.kind; });
}

// Gives each batch of the trace to `use`, which may refuse it.
template <typename Use>
Status for_each_batch(CacheReader& reader, const CacheReplayOptions& options, Use use) {
  Batch batch;
  for (;;) {
    const auto count = reader.fill(batch.requests, kBatch);
    if (!count.ok()) return count.status();
    if (*count == 0) return {};
    if (Status status = use(batch); !status.ok()) return status;
    if (options.progress && !options.progress(reader.share())) {
      return {Code::interrupted, "interrupted while reading the trace"};
    }
  }
}

Status no_requests(const CacheReader& reader) {
  return bad(fmt::format("{}: no requests; allowed: at least one of some bytes", reader.name()));
}

// Over several capacities, each counts the same: its misses over the least there.
double mean_excess(const CacheReplay& replay, std::size_t policy, std::size_t policies) {
  double sum = 0;
  for (std::size_t first = 0; first < replay.runs.size(); first += policies) {
    const auto best = best_at(replay, first, policies);
    const double least = replay.runs[*best].misses.of(replay.objective);
    const double mine = replay.runs[first + policy].misses.of(replay.objective);
    sum += least > 0 ? mine / least : mine > 0 ? 2 : 1;
  }
  return sum;
}

std::string reason_of(const CacheReplay& replay, std::size_t best, std::size_t policies) {
  const std::size_t capacities = replay.runs.size() / policies;
  std::string text =
      fmt::format("misses least {}", replay.objective == Objective::objects ? "objects"
                                     : replay.objective == Objective::bytes ? "bytes"
                                                                            : "cost");
  if (capacities > 1) text += fmt::format(" over {} capacities", capacities);
  if (replay.runs[best].policy == "lru") return text;
  double sum = 0;
  for (std::size_t first = 0; first < replay.runs.size(); first += policies) {
    const auto begin = replay.runs.begin() + static_cast<std::ptrdiff_t>(first);
    const auto lru = std::find_if(begin, begin + static_cast<std::ptrdiff_t>(policies),
                                  [](const CacheRun& run) { return run.policy == "lru"; });
    if (lru == begin + static_cast<std::ptrdiff_t>(policies)) return text;
    const double theirs = lru->misses.of(replay.objective);
    const double mine = replay.runs[first + best].misses.of(replay.objective);
    sum += theirs > 0 ? (theirs - mine) / theirs : 0;
  }
  return text +
         fmt::format(", {:.1f} % fewer than lru", 100 * sum / static_cast<double>(capacities));
}

void choose(CacheReplay& replay, std::size_t policies) {
  double least = 0;
  for (std::size_t policy = 0; policy < policies; ++policy) {
    if (replay.runs[policy].offline) continue;
    const double excess = mean_excess(replay, policy, policies);
    if (replay.best && excess >= least) continue;
    replay.best = policy;
    least = excess;
  }
  replay.reason = replay.best ? reason_of(replay, *replay.best, policies)
                              : "the offline optimum cannot be configured";
}

}  // namespace

double MissRatios::of(Objective objective) const noexcept {
  return objective == Objective::objects ? objects : objective == Objective::bytes ? bytes : cost;
}

Result<Objective> parse_objective(std::string_view text) {
  if (text == "objects") return Objective::objects;
  if (text == "bytes") return Objective::bytes;
  if (text == "cost") return Objective::cost;
  return not_allowed("objective", text, "objects, bytes, cost");
}

bool needs_survey(const CacheReplayOptions& options) {
  return options.curve || has_belady(options) ||
         std::ranges::any_of(options.capacities,
                             [](const LineSetting& s) { return s.fraction.has_value(); });
}

Result<CacheSurvey> survey_requests(CacheReader reader, const CacheReplayOptions& options) {
  CacheSurvey survey;
  Footprint footprint;
  const bool belady = has_belady(options);
  Status status = for_each_batch(reader, options, [&](const Batch& batch) -> Status {
    footprint.add(batch.requests);
    if (!belady) return {};
    if (batch.requests.size() > NextUses::kMostRequests - survey.next_uses.requests()) {
      return bad(
          fmt::format("{}: a trace of more than {} requests; allowed: a shorter one, or "
                      "without it",
                      kBelady, NextUses::kMostRequests));
    }
    survey.next_uses.add(batch.requests);
    return {};
  });
  if (!status.ok()) return status;
  survey.demand = footprint.demand();
  if (survey.demand.requests == 0) return no_requests(reader);
  survey.demand.left_out = reader.left_out();
  survey.next_uses.forget_keys();
  return survey;
}

Result<CacheReplay> replay_requests(CacheReader reader, const CacheSurvey* survey,
                                    const CacheReplayOptions& options) {
  Race race{survey, options};
  Footprint footprint{kOnTheWay};
  Status status = for_each_batch(reader, options, [&](Batch& batch) -> Status {
    if (survey == nullptr) footprint.add(batch.requests);
    race.feed(batch);
    return {};
  });
  if (!status.ok()) return status;
  CacheReplay replay;
  replay.format = reader.format();
  replay.objective = options.objective;
  replay.demand = survey != nullptr ? survey->demand : footprint.demand();
  replay.demand.left_out = reader.left_out();
  if (replay.demand.requests == 0) return no_requests(reader);
  race.finish(replay);
  choose(replay, options.policies.size());
  return replay;
}

std::optional<std::size_t> best_at(const CacheReplay& replay, std::size_t first,
                                   std::size_t count) {
  std::optional<std::size_t> best;
  for (std::size_t i = first; i < first + count; ++i) {
    if (replay.runs[i].offline) continue;
    const double mine = replay.runs[i].misses.of(replay.objective);
    if (!best || mine < replay.runs[*best].misses.of(replay.objective)) best = i;
  }
  return best;
}

}  // namespace forebay::trace
