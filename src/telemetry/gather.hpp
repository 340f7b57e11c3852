// Gathering: what a process is published as.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "forebay/tracker.hpp"
#include "telemetry/published_view.hpp"

namespace forebay::detail {

// Where a publisher takes what it publishes from. Called on its thread; one that is not set gives
// nothing.
struct PublishSources {
  std::function<std::vector<StatisticsGroup>()> statistics;
  std::function<std::vector<TagStats>()> tags;
  std::function<std::vector<TimelineEvent>(std::size_t most)> events;
  std::function<Bytes()> resident;
  // A snapshot as JSON, for whoever asks for it.
  std::function<Result<std::string>()> snapshot;
};

// Budgets, pools, tags, other groups and events as of now, each as many as a segment has room for.
// Groups of kind "budget" and "pool" are known by the names of their statistics: used_bytes,
// charged_bytes, limit_bytes, guarantee_bytes, peak_bytes, available_bytes, denials_total,
// warnings_total, pressure, shrinking; live_bytes, idle_bytes, reserved_bytes, largest_free_bytes,
// live_blocks, refused_total, fragmentation_ratio, hit_rate_ratio.
PublishedView gather(const PublishSources& sources);

}  // namespace forebay::detail
