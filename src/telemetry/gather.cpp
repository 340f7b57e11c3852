#include "telemetry/gather.hpp"

#include <algorithm>
#include <cmath>
#include <string_view>

#include "telemetry/segment.hpp"

namespace forebay::detail {
namespace {

double statistic(const StatisticsGroup& group, std::string_view name, double otherwise) {
  const auto found = std::ranges::find(group.statistics, name, &Statistic::name);
  return found == group.statistics.end() ? otherwise : found->value;
}

// Counters are doubles on their way here: exact up to 2^53, and "unlimited" is beyond.
std::uint64_t whole(const StatisticsGroup& group, std::string_view name, double otherwise = 0) {
  constexpr double kTooLarge = 0x1p64;
  const double value = statistic(group, name, otherwise);
  if (!(value > 0)) return 0;
  return value >= kTooLarge ? Bytes::unlimited().count() : static_cast<std::uint64_t>(value);
}
Bytes bytes(const StatisticsGroup& group, std::string_view name, double otherwise = 0) {
  return Bytes{whole(group, name, otherwise)};
}

BudgetStats budget_of(const StatisticsGroup& group) {
  constexpr std::uint64_t kHighest = static_cast<std::uint64_t>(Pressure::critical);
  BudgetStats budget;
  budget.path = group.name;
  budget.limit = bytes(group, "limit_bytes", HUGE_VAL);
  budget.guarantee = bytes(group, "guarantee_bytes");
  budget.used = bytes(group, "used_bytes");
  budget.charged = bytes(group, "charged_bytes");
  budget.peak = bytes(group, "peak_bytes");
  budget.available = bytes(group, "available_bytes");
  budget.denials = whole(group, "denials_total");
  budget.warnings = whole(group, "warnings_total");
  budget.pressure = static_cast<Pressure>(std::min(whole(group, "pressure"), kHighest));
  budget.shrinking = whole(group, "shrinking") != 0;
  return budget;
}

PublishedPool pool_of(const StatisticsGroup& group) {
  return {.name = group.name,
          .live = bytes(group, "live_bytes"),
          .idle = bytes(group, "idle_bytes"),
          .reserved = bytes(group, "reserved_bytes"),
          .largest_free = bytes(group, "largest_free_bytes"),
          .live_blocks = whole(group, "live_blocks"),
          .refused = whole(group, "refused_total"),
          .fragmentation = statistic(group, "fragmentation_ratio", 0),
          .hit_rate = statistic(group, "hit_rate_ratio", 1)};
}

bool is_root(const BudgetStats& budget) { return budget.path.find('/') == std::string::npos; }

// Leaves out the least by `of`; the others keep their order. Returns how many went.
template <typename Value, typename Of>
std::uint64_t keep_largest(std::vector<Value>& values, std::size_t most, Of of) {
  if (values.size() <= most) return 0;
  std::vector<std::uint64_t> sizes;
  sizes.reserve(values.size());
  for (const Value& value : values) sizes.push_back(of(value));
  std::ranges::nth_element(sizes, sizes.begin() + static_cast<std::ptrdiff_t>(most - 1),
                           std::greater{});
  const std::uint64_t least = sizes[most - 1];
  // Of those as large as the least, only as many as there is room for.
  auto room = most - static_cast<std::size_t>(std::ranges::count_if(
                         sizes, [least](std::uint64_t size) { return size > least; }));
  const std::size_t before = values.size();
  std::erase_if(values, [&](const Value& value) {
    const std::uint64_t size = of(value);
    if (size != least) return size < least;
    return room == 0 || room-- == 0;
  });
  return before - values.size();
}

// The line is the limit of the root that is fullest; where none has one, of the largest.
void choose_line(PublishedView& view) {
  const BudgetStats* chosen = nullptr;
  const auto share = [](const BudgetStats& budget) {
    return budget.limit.is_unlimited() || budget.limit.is_zero()
               ? -1.0
               : static_cast<double>(budget.charged.count()) /
                     static_cast<double>(budget.limit.count());
  };
  for (const BudgetStats& budget : view.budgets) {
    view.pressure = std::max(view.pressure, budget.pressure);
    if (!is_root(budget)) continue;
    if (chosen == nullptr || share(budget) > share(*chosen)) chosen = &budget;
  }
  if (chosen == nullptr) return;
  view.line = chosen->limit;
  view.used = chosen->charged;
}

void sort_groups(PublishedView& view, std::vector<StatisticsGroup> groups) {
  for (StatisticsGroup& group : groups) {
    if (group.kind == "budget") {
      view.budgets.push_back(budget_of(group));
    } else if (group.kind == "pool") {
      view.pools.push_back(pool_of(group));
    } else {
      view.groups.push_back(std::move(group));
    }
  }
}

void cut_to_size(PublishedView& view) {
  // Roots stay, whatever they hold.
  view.left_out.budgets = keep_largest(view.budgets, kMostBudgets, [](const BudgetStats& budget) {
    return is_root(budget) ? ~0ULL : budget.charged.count();
  });
  const auto reserved = [](const PublishedPool& pool) { return pool.reserved.count(); };
  view.left_out.pools = keep_largest(view.pools, kMostPools, reserved);
  const auto live = [](const TagStats& tag) { return tag.live.count(); };
  view.left_out.tags = keep_largest(view.tags, kMostTags, live);
  std::ranges::stable_sort(view.tags, std::greater{}, live);
  std::ranges::stable_sort(view.pools, std::greater{}, reserved);
  if (view.groups.size() > kMostGroups) {
    view.left_out.groups = view.groups.size() - kMostGroups;
    view.groups.resize(kMostGroups);
  }
}

PublishedEvent event_of(const TimelineEvent& event, Duration now) {
  PublishedEvent published{.kind = event.kind,
                           .thread = event.thread,
                           .age = std::max(now - event.at, Duration{0}),
                           .bytes = event.bytes,
                           .subject = std::string{event.subject},
                           .tag = {}};
  if (event.tag != 0) published.tag = Timeline::tag_of(event).tag;
  return published;
}

}  // namespace

PublishedView gather(const PublishSources& sources) {
  PublishedView view;
  if (sources.statistics) sort_groups(view, sources.statistics());
  choose_line(view);
  if (sources.tags) view.tags = sources.tags();
  std::erase_if(view.tags, [](const TagStats& tag) { return tag.allocations == 0; });
  cut_to_size(view);
  if (sources.resident) view.resident = sources.resident();
  if (sources.events) {
    const Duration now = Clock::steady().now().time_since_epoch();
    for (const TimelineEvent& event : sources.events(kMostEvents)) {
      view.events.push_back(event_of(event, now));
    }
  }
  return view;
}

}  // namespace forebay::detail
