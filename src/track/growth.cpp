// Growth detector.
//
// A series is judged by twelve floors: the least of each twelfth of the window. What comes and goes
// within a twelfth is not seen. It grows if
//   1. the floors are in rising order beyond chance (Kendall's test, exact);
//   2. they rose in both halves of the window, the second no less than the first;
//   3. they keep to a line: what wanders up or down by itself strays from it;
//   4. the window's growth is `least` or more, and does not fade from window to window;
//   5. it is above all floors of the past day: a wave comes no higher than yesterday;
//   6. blocks grow old in step: growth in blocks that soon end is load, and no leak.
// Where ages are known, the same is tried with the bytes of old blocks alone: a slow leak beneath
// load that swings.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <tuple>
#include <vector>

#include "forebay/check.hpp"
#include "forebay/tracker.hpp"
#include "track/trend.hpp"

namespace forebay {
namespace {

using detail::Floors;
using detail::kFloors;

constexpr std::size_t kMostSeries = 1U << 14;  // beyond, new ones are not looked at
constexpr std::size_t kPastHalves = 26;        // half windows, of an hour at least: a day
constexpr Duration kShortestHalf = std::chrono::hours{1};
constexpr double kWalk = 1e-5;                 // chance of a walk that comes as far
constexpr StackId kBeyondPools = ~StackId{0};  // of a budget: what no pool has reserved
constexpr double kFading = 0.8;                // of the growth before: less is a fill-up that ends

struct Point {
  float bytes = 0;
  float old_bytes = 0;  // negative: not known
};

struct Key {
  std::string kind;
  std::string name;
  StackId stack = 0;
  auto operator<=>(const Key&) const = default;
};

using Past = std::array<float, kPastHalves>;

// Rings: places are those of the detector's steps.
struct Series {
  std::vector<Point> points;
  Past past{};  // floors of half windows
  Past past_old{};
  std::uint64_t first_step = 0;  // that it was not zero in
  std::uint64_t last_step = 0;   // likewise, the latest
  bool is_fragmentation = false;
};

struct Trend {
  Floors floors{};
  double growth = 0;  // in a window, by its slope
  double p_value = 1;
};

double first_half(const Floors& floors) { return floors[kFloors / 2] - floors.front(); }
double second_half(const Floors& floors) { return floors.back() - floors[kFloors / 2]; }

// Standard deviation of a growth that comes in moves of this size at random times.
double noise(double growth, double move) { return std::sqrt(std::max(growth, 0.0) * move); }

// Of the sum of moves that go either way.
double walk_noise(std::span<const double> values) {
  double squares = 0;
  for (std::size_t i = 1; i < values.size(); ++i) {
    squares += (values[i] - values[i - 1]) * (values[i] - values[i - 1]);
  }
  return std::sqrt(squares);
}

// Goes down by an eighth of its way up at most.
bool goes_one_way(std::span<const double> values) {
  double up = 0;
  double down = 0;
  for (std::size_t i = 1; i < values.size(); ++i) {
    const double move = values[i] - values[i - 1];
    (move > 0 ? up : down) += std::abs(move);
  }
  return down <= up / 8;
}

// The second half rises clearly less than the first.
bool slows(const Floors& floors, double noise) {
  const double late = second_half(floors) * 6 / 5;  // 5 steps against 6
  return late < kFading * first_half(floors) - noise;
}

}  // namespace

struct GrowthDetector::Impl {
  explicit Impl(const GrowthOptions& wanted) : options(wanted) {
    if (options.window <= Duration::zero() || options.step <= Duration::zero() ||
        !(options.significance > 0)) {
      throw Failure{{Code::invalid_argument,
                     "growth detector: window, step and significance must be above zero"}};
    }
    options.step = std::min(options.step, options.window / static_cast<int>(kFloors));
    steps = static_cast<std::size_t>(options.window / options.step);
    lag = steps / kFloors;
    kept = steps + lag;
    steps_a_half = std::max<std::uint64_t>(
        steps / 2, static_cast<std::uint64_t>(kShortestHalf / options.step));
  }

  GrowthOptions options;
  std::size_t steps = 0;  // in a window
  std::size_t lag = 0;    // between two looks that must agree
  std::size_t kept = 0;
  std::uint64_t steps_a_half = 0;  // of the past
  std::optional<std::uint64_t> step;
  std::map<Key, Series> series;

  // ---- Observing

  std::size_t place(std::uint64_t at) const { return at % kept; }
  std::size_t past_place(std::uint64_t at) const { return (at / steps_a_half) % kPastHalves; }

  // `first`: the step's first.
  void put(Series& one, std::uint64_t at, Point seen, bool first) const {
    Point& point = one.points[place(at)];
    point =
        first ? seen
              : Point{std::min(point.bytes, seen.bytes), std::min(point.old_bytes, seen.old_bytes)};
    float& past = one.past[past_place(at)];
    float& past_old = one.past_old[past_place(at)];
    const bool begins = at == one.first_step || at % steps_a_half == 0;
    past = first && begins ? seen.bytes : std::min(past, seen.bytes);
    past_old = first && begins ? seen.old_bytes : std::min(past_old, seen.old_bytes);
    if (seen.bytes != 0) one.last_step = at;
  }

  // What was not observed was as before.
  void carry(Series& one, std::uint64_t from, std::uint64_t to) const {
    const Point before = one.points[place(from)];
    const std::uint64_t last_seen = one.last_step;
    for (std::uint64_t at = from + 1; at < to; ++at) put(one, at, before, true);
    one.last_step = last_seen;
  }

  Series* find(const Observation& seen, std::uint64_t at) {
    Key key{seen.kind, seen.name, seen.stack};
    if (const auto known = series.find(key); known != series.end()) return &known->second;
    if (series.size() >= kMostSeries || seen.bytes == 0) return nullptr;
    Series fresh;
    fresh.points.resize(kept);
    fresh.first_step = at;
    fresh.is_fragmentation = seen.kind == "fragmentation";
    return &series.emplace(std::move(key), std::move(fresh)).first->second;
  }

  // What pools have reserved comes and goes; a reservation that is lost beside it does not.
  static std::vector<Observation> with_budgets_beyond_pools(std::vector<Observation> seen) {
    double pools = 0;
    for (const Observation& one : seen) pools += one.kind == "pool" ? one.bytes : 0;
    for (std::size_t i = 0, count = seen.size(); i != count; ++i) {
      if (seen[i].kind != "budget") continue;
      seen.push_back({"budget", seen[i].name, kBeyondPools, seen[i].bytes - pools, -1});
    }
    return seen;
  }

  void observe(std::uint64_t at, const std::vector<Observation>& observations) {
    if (step && at < *step) return;  // of a past step: nothing to be merged with any more
    if (step && at - *step >= kept) {
      series.clear();  // nothing is known of the window
      step.reset();
    }
    const bool first = step != at;
    std::map<Series*, Point> seen;
    for (const Observation& one : observations) {
      if (Series* const known = find(one, at)) {
        Point& sum = seen[known];
        sum.bytes += static_cast<float>(one.bytes);
        sum.old_bytes = one.old_bytes < 0 || sum.old_bytes < 0
                            ? -1
                            : sum.old_bytes + static_cast<float>(one.old_bytes);
      }
    }
    for (auto& [key, one] : series) {
      if (step && first && one.first_step < at) carry(one, *step, at);
      const auto now = seen.find(&one);
      put(one, at, now == seen.end() ? Point{} : now->second, first);
    }
    step = at;
    std::erase_if(series, [&](const auto& entry) { return at - entry.second.last_step >= kept; });
  }

  // ---- Judging

  std::vector<double> values(const Series& one, float Point::*what, std::uint64_t last) const {
    std::vector<double> all;
    all.reserve(steps);
    for (std::uint64_t at = last + 1 - steps; at <= last; ++at) {
      all.push_back(one.points[place(at)].*what);
    }
    return all;
  }

  // What it grew by in the window before this one and the one before that; after less, in what
  // there was of them.
  std::vector<double> growth_before(const Series& one, const Past& past, std::uint64_t last) const {
    std::vector<double> growth;
    const std::uint64_t half = last / steps_a_half;
    const std::uint64_t known = half - one.first_step / steps_a_half;
    const auto floor = [&](std::uint64_t back) { return past[(half - back) % kPastHalves]; };
    if (known == 3) growth.push_back(2 * (floor(2) - floor(3)));
    if (known >= 4) growth.push_back(floor(2) - floor(4));
    if (known >= 6) growth.push_back(floor(4) - floor(6));
    return growth;
  }

  bool fades(const Series& one, const Past& past, std::uint64_t last, double growth,
             double slack) const {
    if (steps_a_half > (steps + 1) / 2) return false;  // halves of other windows than these
    const std::vector<double> before = growth_before(one, past, last);
    const double enough = growth + slack;
    if (!before.empty() && enough < kFading * before[0]) return true;
    return before.size() > 1 && enough < kFading * before[1] && enough < before[0] &&
           before[0] < before[1];
  }

  bool is_above_the_past(const Series& one, const Past& past, std::uint64_t last,
                         double now) const {
    const std::uint64_t half = last / steps_a_half;
    const std::uint64_t begin = one.first_step / steps_a_half;
    for (std::uint64_t back = 1; back < kPastHalves && half >= begin + back; ++back) {
      if (past[(half - back) % kPastHalves] >= now) return false;
    }
    return true;
  }

  // Rules 1 to 5.
  std::optional<Trend> rises(const Series& one, std::uint64_t last, const std::vector<double>& seen,
                             const Past& past, bool steady) const {
    Trend trend;
    trend.floors = detail::floors_of(seen);
    const double slope = detail::sen_slope(trend.floors);
    const double rise = trend.floors.back() - trend.floors.front();
    trend.growth = slope * kFloors;
    if (slope < 0 || rise < static_cast<double>(options.least.count())) return std::nullopt;

    const double early = first_half(trend.floors);
    const double late = second_half(trend.floors);
    const double move = detail::typical_move(seen);
    if (early < rise / 8 || late < rise / 8) return std::nullopt;
    if (slows(trend.floors, noise(rise, move))) return std::nullopt;

    const bool only_rises = std::is_sorted(seen.begin(), seen.end());
    if (!only_rises && !steady && detail::walk_p_value(seen) > kWalk) return std::nullopt;
    const double most_stray = std::max(rise / 5, only_rises ? 1.7 * noise(rise, move) : 0);
    if (stray(trend.floors, rise) > most_stray) return std::nullopt;
    if (!is_above_the_past(one, past, last, trend.floors.back())) return std::nullopt;
    if (fades(one, past, last, trend.growth, 2 * noise(rise, move))) return std::nullopt;
    trend.p_value = detail::kendall_p_value(trend.floors);
    if (trend.p_value > options.significance) return std::nullopt;
    return trend;
  }

  // How far floors are off a line through first and last.
  static double stray(const Floors& floors, double rise) {
    double most = 0;
    double least = 0;
    for (std::size_t i = 0; i < kFloors; ++i) {
      const double off = floors[i] - floors[0] - rise * static_cast<double>(i) / (kFloors - 1);
      most = std::max(most, off);
      least = std::min(least, off);
    }
    return most - least;
  }

  // Rule 6.
  std::optional<Trend> judge(const Series& one, std::uint64_t last) const {
    if (last + 1 < one.first_step + steps) return std::nullopt;  // younger than a window
    const std::vector<double> all = values(one, &Point::bytes, last);
    const std::vector<double> old = values(one, &Point::old_bytes, last);
    if (std::any_of(old.begin(), old.end(), [](double bytes) { return bytes < 0; })) {
      return judge_ageless(one, all, last);
    }
    const Floors floors = detail::floors_of(all);
    const Floors old_floors = detail::floors_of(old);
    const double growth = detail::sen_slope(floors) * kFloors;
    const double doubt = 2 * noise(floors.back() - floors.front(), detail::typical_move(all));
    if (auto trend = rises(one, last, old, one.past_old, false);
        trend && trend->growth >= growth / 2 && growth + doubt >= kFading * trend->growth &&
        !slows(floors, doubt)) {
      return trend;
    }
    const auto late = std::span{old}.subspan(steps / 2);
    const bool ages_only = goes_one_way(late);
    // What came in the first half is old at the end of the second.
    const double come = first_half(floors);
    const double aged = second_half(old_floors);
    const double needed =
        come / 2 + (ages_only ? -1.5 * noise(come, detail::typical_move(old)) : walk_noise(late));
    if (aged <= 0 || aged < needed) return std::nullopt;
    return rises(one, last, all, one.past, ages_only);
  }

  // Without ages, load that rises with the day would pass: what only rises does not; nor, after
  // a day, what is above the day before.
  std::optional<Trend> judge_ageless(const Series& one, const std::vector<double>& all,
                                     std::uint64_t last) const {
    // (What is live says whether load rises: is_explained().)
    if (one.is_fragmentation) return rises(one, last, all, one.past, true);
    const bool knows_a_day = last - one.first_step >= steps_a_half * (kPastHalves - 2);
    const bool only_rises = std::is_sorted(all.begin(), all.end());
    if (!knows_a_day && !only_rises && detail::walk_p_value(all) > options.significance) {
      return std::nullopt;
    }
    return rises(one, last, all, one.past, false);
  }

  // Twice, so that what looks like growth for some minutes is none.
  std::optional<Trend> judge(const Series& one) const {
    if (*step < lag || !judge(one, *step - lag)) return std::nullopt;
    return judge(one, *step);
  }

  double rise_of(const Series& one) const {
    const Floors floors = detail::floors_of(values(one, &Point::bytes, *step));
    return floors.back() - floors.front();
  }

  // What a budget has reserved may be load that its pools took, which has tags; what a pool keeps
  // idle counts while the pool grows with it and not with what is live.
  bool is_explained(const Key& key, const Trend& trend) const {
    if (key.kind == "pool") return true;
    if (key.kind == "site") return tag_slows(key);
    if (key.kind == "fragmentation") {
      const auto pool = series.find(Key{"pool", key.name, 0});
      if (pool == series.end()) return false;
      const double reserved = rise_of(pool->second);
      return reserved < trend.growth / 2 || reserved > trend.growth * 3 / 2;
    }
    return key.kind == "budget" && budget_is_explained(key, trend.growth);
  }

  bool budget_is_explained(const Key& key, double growth) const {
    if (key.stack == kBeyondPools) {
      const auto whole = series.find(Key{key.kind, key.name, 0});
      return whole == series.end() || rise_of(whole->second) < growth / 2;
    }
    double pools = 0;
    for (const auto& [other, one] : series) {
      if (other.kind == "pool") pools += std::max(rise_of(one), 0.0);
    }
    return pools > growth / 2;
  }

  // The place in the code that a tag's growth is from: what came lately and what grew old there,
  // whichever is less; then the slope.
  StackId main_site(const std::string& tag) const {
    StackId best = 0;
    std::pair<double, double> most{-1, 0};
    for (auto at = series.lower_bound(Key{"site", tag, 0});
         at != series.end() && at->first.kind == "site" && at->first.name == tag; ++at) {
      const Floors floors = detail::floors_of(values(at->second, &Point::bytes, *step));
      const Floors old = detail::floors_of(values(at->second, &Point::old_bytes, *step));
      const double came_and_aged = std::min(second_half(floors), second_half(old));
      const std::pair grown{std::max(came_and_aged, 0.0), detail::sen_slope(floors)};
      if (grown > most) {
        most = grown;
        best = at->first.stack;
      }
    }
    return best;
  }

  // What is known exactly of a place's tag says more than the place's samples.
  bool tag_slows(const Key& site) const {
    const auto tag = series.find(Key{"tag", site.name, 0});
    if (tag == series.end()) return false;
    const std::vector<double> all = values(tag->second, &Point::bytes, *step);
    const Floors floors = detail::floors_of(all);
    const double rise = floors.back() - floors.front();
    const double doubt = 2 * noise(rise, detail::typical_move(all));
    return slows(floors, doubt) || fades(tag->second, tag->second.past, *step, rise, doubt);
  }

  Duration until(Bytes room, double bytes_per_hour) const {
    if (room.is_unlimited() || bytes_per_hour <= 0) return Duration{-1};
    const double hours = static_cast<double>(room.count()) / bytes_per_hour;
    constexpr double kNever = 24 * 365 * 100;
    if (hours > kNever) return Duration{-1};
    return std::chrono::duration_cast<Duration>(
        std::chrono::duration<double, std::ratio<3600>>{hours});
  }
};

GrowthDetector::GrowthDetector(GrowthOptions options) : impl_(std::make_unique<Impl>(options)) {}
GrowthDetector::~GrowthDetector() = default;
GrowthDetector::GrowthDetector(GrowthDetector&&) noexcept = default;
GrowthDetector& GrowthDetector::operator=(GrowthDetector&&) noexcept = default;

void GrowthDetector::observe(Clock::TimePoint now, const std::vector<Observation>& observations) {
  const auto at = now.time_since_epoch() / impl_->options.step;
  impl_->observe(static_cast<std::uint64_t>(std::max<Duration::rep>(at, 0)),
                 Impl::with_budgets_beyond_pools(observations));
}

std::vector<Growth> GrowthDetector::growing(Bytes room) const {
  std::vector<Growth> all;
  if (!impl_->step) return all;
  const double hours =
      std::chrono::duration<double, std::ratio<3600>>{impl_->options.window}.count();
  for (const auto& [key, one] : impl_->series) {
    const std::optional<Trend> trend = impl_->judge(one);
    if (!trend || impl_->is_explained(key, *trend)) continue;
    Growth growth{key.kind,
                  key.name,
                  key.stack,
                  one.points[impl_->place(*impl_->step)].bytes,
                  trend->growth / hours,
                  trend->p_value,
                  Duration{-1}};
    if (key.kind == "tag") growth.stack = impl_->main_site(key.name);
    if (key.stack == kBeyondPools) {
      if (!all.empty() && all.back().kind == key.kind && all.back().name == key.name) continue;
      growth.stack = 0;
    }
    growth.until_line = impl_->until(room, growth.bytes_per_hour);
    all.push_back(std::move(growth));
  }
  std::stable_sort(all.begin(), all.end(), [](const Growth& a, const Growth& b) {
    return a.bytes_per_hour > b.bytes_per_hour;
  });
  return all;
}

}  // namespace forebay
