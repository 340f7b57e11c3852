// What the tracker sees, as series that should be steady.

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "forebay/tracker.hpp"
#include "track/settings.hpp"

namespace forebay {
namespace {

struct Sampled {
  double bytes = 0;
  double old_bytes = 0;
};

// "tag" or "tag (owner)".
std::string name_of(const TagStats& tag) {
  return tag.owner.empty() ? tag.tag : tag.tag + " (" + tag.owner + ')';
}

void observe_tags(std::vector<Observation>& seen, Duration old_age) {
  const LiveTable live = Tracker::live();
  const Duration now = detail::tracker_now();
  std::vector<Sampled> old_of(live.tags.size());
  std::map<std::pair<std::uint32_t, StackId>, Sampled> places;
  bool knows_ages = false;
  for (const LiveBlock& block : live.blocks) {
    if (block.grade < TrackingGrade::sampled) continue;
    knows_ages = true;
    Sampled& place = places[{block.tag, block.stack}];
    place.bytes += block.weight_bytes;
    if (now - block.born < old_age) continue;
    place.old_bytes += block.weight_bytes;
    old_of[block.tag].old_bytes += block.weight_bytes;
  }
  knows_ages |= Tracker::options().grade >= TrackingGrade::sampled;
  for (std::size_t i = 0; i != live.tags.size(); ++i) {
    const auto bytes = static_cast<double>(live.tags[i].live.count());
    seen.push_back({"tag", name_of(live.tags[i]), 0, bytes, knows_ages ? old_of[i].old_bytes : -1});
  }
  for (const auto& [place, sum] : places) {
    const auto [tag, stack] = place;
    if (stack == 0) continue;
    seen.push_back({"site", name_of(live.tags[tag]), stack, sum.bytes, sum.old_bytes});
  }
}

// A budget's bytes are judged with the pools' in view: what they explain is theirs. What a pool
// has reserved beyond what is live is memory that cannot be used, if it stays.
void observe_statistics(std::vector<Observation>& seen) {
  static constexpr struct {
    std::string_view kind;
    std::string_view statistic;
    const char* series;
  } kSeries[] = {{"budget", "used_bytes", "budget"},
                 {"pool", "reserved_bytes", "pool"},
                 {"pool", "idle_bytes", "fragmentation"},
                 {"pool", "thread_cache_bytes", "thread cache"}};
  for (const StatisticsGroup& group : collect_statistics()) {
    for (const Statistic& statistic : group.statistics) {
      for (const auto& one : kSeries) {
        if (group.kind == one.kind && statistic.name == one.statistic) {
          seen.push_back({one.series, group.name, 0, statistic.value, -1});
        }
      }
    }
  }
}

}  // namespace

std::vector<Observation> observe_tracker(Duration old_age) {
  std::vector<Observation> seen;
  observe_tags(seen, old_age);
  observe_statistics(seen);
  return seen;
}

}  // namespace forebay
