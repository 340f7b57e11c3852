#include "replay_cache_output.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "forebay/config.hpp"
#include "replay_output.hpp"

namespace forebay::app {
namespace {

using detail::Objective;
using trace::CacheCurve;
using trace::CacheReplay;
using trace::CacheRun;
using trace::MissRatios;
using enum Table::Align;

std::string percent(double share) { return fmt::format("{:.2f} %", 100 * share); }

std::string counted(std::uint64_t count, std::string_view noun) {
  return fmt::format("{} {}{}", count, noun, count == 1 ? "" : "s");
}

std::string_view name_of(Objective objective) {
  switch (objective) {
    case Objective::objects:
      return "objects";
    case Objective::bytes:
      return "bytes";
    case Objective::cost:
      break;
  }
  return "cost";
}

// How many policies there are: runs are by capacity, then by policy.
std::size_t policies_of(const CacheReplay& replay) {
  const auto other = std::ranges::find_if(replay.runs, [&](const CacheRun& run) {
    return &run != replay.runs.data() && run.policy == replay.runs[0].policy;
  });
  return static_cast<std::size_t>(other - replay.runs.begin());
}

// Whether each object is 1, so that bytes are objects.
bool counts_objects(const CacheReplay& replay) {
  return replay.demand.exact && replay.demand.footprint_bytes == replay.demand.objects &&
         !replay.demand.sizes_differ;
}

std::string demand_line(const CacheReplay& replay) {
  const trace::CacheDemand& demand = replay.demand;
  const std::string about = demand.exact ? "" : "about ";
  std::string text =
      fmt::format("{}, {} of {}{}", to_string(replay.format), counted(demand.requests, "request"),
                  about, counted(demand.objects, "object"));
  if (!counts_objects(replay)) {
    text += fmt::format(", {}{} of them, {} asked for", about,
                        to_string(Bytes{demand.footprint_bytes}), to_string(Bytes{demand.bytes}));
  }
  if (demand.left_out > 0) text += fmt::format(", {} of no bytes left out", demand.left_out);
  return text;
}

std::string capacity_line(const CacheRun& run, bool counts_objects) {
  std::string text = fmt::format("capacity {}", counts_objects ? counted(run.capacity, "object")
                                                               : to_string(Bytes{run.capacity}));
  if (run.share) text += fmt::format(", {:.4g} % of all objects", 100 * *run.share);
  return text;
}

std::string rate_of(const CacheRun& run) {
  if (run.seconds <= 0) return "-";
  return fmt::format("{:.3g} M", static_cast<double>(run.counts.requests) / run.seconds / 1e6);
}

// By how much less than lru at the same capacity, if lru is there.
std::string against(const CacheRun* lru, const CacheRun& run, Objective objective) {
  const double theirs = lru == nullptr ? 0 : lru->misses.of(objective);
  if (theirs <= 0) return "-";
  const double change = 100 * (run.misses.of(objective) - theirs) / theirs;
  return std::abs(change) < 0.05 ? "0.0 %" : fmt::format("{:+.1f} %", change);
}

class Tables {
 public:
  Tables(const CacheReplay& replay, const Painter& paint)
      : replay_(replay), paint_(paint), policies_(policies_of(replay)) {}

  std::string text() const {
    std::string text;
    for (std::size_t first = 0; first < replay_.runs.size(); first += policies_) {
      text += fmt::format("\n  {}\n{}", capacity_line(replay_.runs[first], counts_objects(replay_)),
                          table(first));
    }
    return text;
  }

 private:
  std::string table(std::size_t first) const {
    const bool sizes = replay_.demand.sizes_differ;
    const bool costs = replay_.demand.has_cost;
    std::vector<std::string> heads{"policy", "objects missed"};
    if (sizes) heads.emplace_back("bytes missed");
    if (costs) heads.emplace_back("cost missed");
    heads.insert(heads.end(), {"against lru", "requests/s", "metadata"});
    std::vector<Table::Align> columns(heads.size(), right);
    columns[0] = left;
    Table table{columns};
    for (std::string& head : heads) head = paint_(Style::dim, head);
    table.add(heads);
    const auto best = best_at(replay_, first, policies_);
    const CacheRun* lru = nullptr;
    for (std::size_t i = first; i < first + policies_; ++i) {
      if (replay_.runs[i].policy == "lru") lru = &replay_.runs[i];
    }
    for (std::size_t i = first; i < first + policies_; ++i) {
      const CacheRun& run = replay_.runs[i];
      std::vector<std::string> cells{best == i ? paint_(Style::good, run.policy) : run.policy,
                                     percent(run.misses.objects)};
      if (sizes) cells.push_back(percent(run.misses.bytes));
      if (costs) cells.push_back(percent(run.misses.cost));
      cells.insert(cells.end(), {against(lru, run, replay_.objective), rate_of(run),
                                 run.offline ? "-" : to_string(Bytes{run.metadata_bytes})});
      table.add(std::move(cells));
    }
    return table.text();
  }

  const CacheReplay& replay_;
  const Painter& paint_;
  std::size_t policies_;
};

// "12.4MiB": what a configuration reads.
std::string written(std::uint64_t bytes) {
  std::string text = to_string(Bytes{bytes});
  std::erase(text, ' ');
  return text;
}

// The lines of a configuration, one for each capacity.
std::string settings_of(const CacheReplay& replay) {
  if (!replay.best) return {};
  const std::string& policy = replay.runs[*replay.best].policy;
  std::string text = "caches:\n";
  std::vector<std::uint64_t> capacities;
  for (const CacheRun& run : replay.runs) {
    if (run.policy == policy) capacities.push_back(run.capacity);
  }
  for (std::size_t i = 0; i < capacities.size(); ++i) {
    const std::string bound = counts_objects(replay)
                                  ? fmt::format("max_entries: {}", capacities[i])
                                  : fmt::format("max_bytes: {}", written(capacities[i]));
    const std::string objective = replay.objective == Objective::objects
                                      ? ""
                                      : fmt::format(", objective: {}", name_of(replay.objective));
    const std::string name = capacities.size() == 1 ? "mine" : fmt::format("mine{}", i + 1);
    text += fmt::format("  {}: {{policy: {}, {}{}}}\n", name, policy, bound, objective);
  }
  return text;
}

std::string indented(std::string_view text, std::string_view blanks) {
  std::string result;
  while (!text.empty()) {
    const auto end = text.find('\n');
    result += fmt::format("{}{}\n", blanks, text.substr(0, end));
    text.remove_prefix(end + 1);
  }
  return result;
}

Json misses_of(const MissRatios& misses) {
  return {{"object_miss_ratio", misses.objects},
          {"byte_miss_ratio", misses.bytes},
          {"cost_miss_ratio", misses.cost}};
}

Json json_of(const CacheRun& run) {
  Json object{{"policy", run.policy},
              {"offline", run.offline},
              {"capacity_bytes", run.capacity},
              {"capacity_share", run.share ? Json(*run.share) : Json{}},
              {"requests", run.counts.requests},
              {"hits", run.counts.hits}};
  object.update(misses_of(run.misses));
  const double rate =
      run.seconds > 0 ? static_cast<double>(run.counts.requests) / run.seconds : 0.0;
  object.update({{"requests_per_second", rate},
                 {"evictions", run.counts.evictions},
                 {"refused", run.counts.refused},
                 {"entries", run.entries},
                 {"metadata_bytes", run.metadata_bytes}});
  return object;
}

Json json_of(const CacheCurve& curve) {
  Json points = Json::array();
  for (const trace::CurvePoint& point : curve.points) {
    Json object{{"capacity_bytes", point.capacity}, {"capacity_share", point.share}};
    object.update(misses_of(point.misses));
    points.push_back(std::move(object));
  }
  return {{"policy", curve.policy}, {"offline", curve.offline}, {"points", std::move(points)}};
}

Json best_of_each(const CacheReplay& replay) {
  Json list = Json::array();
  const std::size_t policies = policies_of(replay);
  for (std::size_t first = 0; first < replay.runs.size(); first += policies) {
    const auto best = best_at(replay, first, policies);
    list.push_back({{"capacity_bytes", replay.runs[first].capacity},
                    {"policy", best ? Json(replay.runs[*best].policy) : Json{}}});
  }
  return list;
}

}  // namespace

std::string cache_replay_report(const CacheReplay& replay, const CacheReplayContext& context,
                                const Painter& paint) {
  const std::string name = context.trace == "-" ? "standard input" : name_of_trace(context.trace);
  std::string text = fmt::format("{}\n  {}\n", paint(Style::bold, name), demand_line(replay));
  text += Tables{replay, paint}.text();
  if (!replay.best) return text + fmt::format("\nbest: none\n  {}\n", replay.reason);
  text += fmt::format("\nbest: {}\n  {}\n", paint(Style::good, replay.runs[*replay.best].policy),
                      replay.reason);
  return text + "  to configure it:\n" + indented(settings_of(replay), "    ");
}

Json json_of(const CacheReplay& replay, const CacheReplayContext& context) {
  const trace::CacheDemand& demand = replay.demand;
  Json runs = Json::array();
  for (const CacheRun& run : replay.runs) runs.push_back(json_of(run));
  Json curves = Json::array();
  for (const CacheCurve& curve : replay.curves) curves.push_back(json_of(curve));
  return {{"trace", context.trace},
          {"format", to_string(replay.format)},
          {"objective", name_of(replay.objective)},
          {"ignore_size", context.ignore_size},
          {"requests", demand.requests},
          {"left_out", demand.left_out},
          {"objects", demand.objects},
          {"footprint_bytes", demand.footprint_bytes},
          {"footprint_exact", demand.exact},
          {"requested_bytes", demand.bytes},
          {"has_cost", demand.has_cost},
          {"runs", std::move(runs)},
          {"best", replay.best ? Json(replay.runs[*replay.best].policy) : Json{}},
          {"best_by_capacity", best_of_each(replay)},
          {"reason", replay.reason},
          {"configuration", settings_of(replay)},
          {"curves", std::move(curves)},
          {"curve_sampling", replay.curves.empty() ? Json{} : Json(replay.curve_sampling)},
          {"chart", context.chart.empty() ? Json{} : Json(context.chart)}};
}

}  // namespace forebay::app
