// What the tracker sees, as series that should be steady.

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "forebay/tracker.hpp"
#include "track/settings.hpp"

namespace forebay {
namespace {

// Of one tag, whoever its owners are: one that ends with each request makes no series.
struct TagSeries {
  double bytes = 0;
  double old_bytes = 0;
  std::map<StackId, Observation> places{};
};

void add_sampled(TagSeries& series, const LiveBlock& block, bool is_old) {
  Observation& place = series.places[block.stack];
  place.bytes += block.weight_bytes;
  if (!is_old) return;
  place.old_bytes += block.weight_bytes;
  series.old_bytes += block.weight_bytes;
}

void observe_tags(std::vector<Observation>& seen, Duration old_age) {
  const LiveTable live = Tracker::live();
  const Duration now = detail::tracker_now();
  const bool knows_ages = Tracker::options().grade >= TrackingGrade::sampled;
  std::map<std::string_view, TagSeries> series;
  for (const TagStats& tag : live.tags) {
    series[tag.tag].bytes += static_cast<double>(tag.live.count());
  }
  for (const LiveBlock& block : live.blocks) {
    if (block.grade < TrackingGrade::sampled) continue;
    add_sampled(series[live.tags[block.tag].tag], block, now - block.born >= old_age);
  }
  for (auto& [tag, one] : series) {
    const std::string name{tag};
    seen.push_back({"tag", name, 0, one.bytes, knows_ages ? one.old_bytes : -1});
    one.places.erase(0);
    for (const auto& [stack, place] : one.places) {
      seen.push_back({"site", name, stack, place.bytes, place.old_bytes});
    }
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
