// Replays a trace of requests against caches of several policies and capacities.
//
// All caches run in one pass: the trace is decoded once, in batches, and each cache is given
// the batch. Capacities that are shares of the footprint, curves and the offline optimum need a
// pass before that one, a survey.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "forebay/config.hpp"
#include "trace/belady.hpp"
#include "trace/cache_reader.hpp"
#include "trace/footprint.hpp"

namespace forebay::trace {

inline constexpr std::string_view kBelady = "belady";

// A policy that this build has, or the offline optimum.
struct Contender {
  std::string name;
  std::optional<detail::PolicyKind> kind;  // none: belady
};
// Texts are names, several with commas; "all" is every policy, and without any text those that
// are worth comparing. Each once, in the order given. Errors: invalid_argument.
Result<std::vector<Contender>> parse_policies(std::span<const std::string> texts);

Result<detail::Objective> parse_objective(std::string_view text);

struct CacheReplayOptions {
  std::vector<Contender> policies;
  std::vector<LineSetting> capacities;  // bytes, or shares of the footprint
  detail::Objective objective = detail::Objective::objects;
  bool curve = false;
  // Told the share of the trace that is read; says whether to go on. May be empty.
  std::function<bool(double)> progress;
};
bool needs_survey(const CacheReplayOptions& options);

struct CacheSurvey {
  CacheDemand demand;
  NextUses next_uses;  // only with belady
};
// Errors: those of CacheReader; invalid_argument (more requests than belady can number);
// interrupted.
Result<CacheSurvey> survey_requests(CacheReader reader, const CacheReplayOptions& options);

// Shares of what was asked for that missed, 0..1.
struct MissRatios {
  double objects = 0;
  double bytes = 0;
  double cost = 0;
  double of(detail::Objective objective) const noexcept;
};

struct CacheRun {
  std::string policy;
  bool offline = false;  // knows the future: cannot be configured
  std::uint64_t capacity = 0;
  std::optional<double> share;  // of the footprint, where it was asked for as such
  MissRatios misses;
  detail::CacheCounts counts;
  std::uint64_t entries = 0;         // at the end
  std::uint64_t metadata_bytes = 0;  // at the end; of the caches, none of belady
  double seconds = 0;                // CPU time of this cache alone
};

struct CurvePoint {
  std::uint64_t capacity = 0;
  double share = 0;  // of the footprint
  MissRatios misses;
};
struct CacheCurve {
  std::string policy;
  bool offline = false;
  std::vector<CurvePoint> points;  // ascending
};

struct CacheReplay {
  CacheFormat format = CacheFormat::csv;
  CacheDemand demand;
  detail::Objective objective = detail::Objective::objects;
  std::vector<CacheRun> runs;  // by capacity as given, then by policy as given
  std::vector<CacheCurve> curves;
  double curve_sampling = 1;        // share of the objects that curves are made of
  std::optional<std::size_t> best;  // of `runs`: one of the best policy's; none if all are offline
  std::string reason;               // one line
};

// Curves are made of about so many objects, chosen by their hash, in caches as much smaller
// (miniature simulations: Waldspurger, Saemundsson, Ahmad, Park, USENIX ATC 2017).
inline constexpr std::uint64_t kCurveObjects = 1 << 16;

// REQUIRES: a policy and a capacity at least; a survey where needs_survey(). Errors: those of
// CacheReader; invalid_argument (no requests); interrupted. Exceptions: std::bad_alloc.
Result<CacheReplay> replay_requests(CacheReader reader, const CacheSurvey* survey,
                                    const CacheReplayOptions& options);

// The run at that capacity that misses least; the first of equals. Offline ones do not count.
std::optional<std::size_t> best_at(const CacheReplay& replay, std::size_t first, std::size_t count);

}  // namespace forebay::trace
