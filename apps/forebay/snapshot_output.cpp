#include "snapshot_output.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "telemetry/snapshot_site.hpp"

namespace forebay::app {
namespace {

using enum Table::Align;

constexpr std::size_t kRowsShown = 10;
constexpr std::size_t kCountersShown = 40;
constexpr std::size_t kGroupsShown = 20;
constexpr std::size_t kFramesShown = 8;

// Sums of samples are no whole numbers, and a file may say anything.
std::string amount(double bytes) {
  constexpr double kMost = 9e18;
  return to_string(Bytes{static_cast<std::uint64_t>(std::clamp(bytes, 0.0, kMost))});
}

std::string change(double bytes) {
  return fmt::format("{}{}", bytes < 0 ? "-" : "+", amount(std::abs(bytes)));
}

std::string count(double blocks) { return fmt::format("{:.0f}", blocks); }

std::string age(Duration duration) {
  const double seconds = std::chrono::duration<double>{duration}.count();
  if (seconds <= 0) return "-";
  if (seconds < 120) return fmt::format("{:.3g} s", seconds);
  if (seconds < 7200) return fmt::format("{:.3g} min", seconds / 60);
  return fmt::format("{:.3g} h", seconds / 3600);
}

double seconds_of(Duration duration) { return std::chrono::duration<double>{duration}.count(); }

std::string limit_of(Bytes limit) { return limit.is_unlimited() ? "-" : to_string(limit); }

Json json_bytes(Bytes bytes) { return bytes.is_unlimited() ? Json{} : Json(bytes.count()); }

std::string heading(const NamedSnapshot& named, const Painter& paint) {
  const Snapshot& snapshot = named.snapshot;
  std::string text =
      fmt::format("{}\n  {} (process {}), taken {}, because: {}\n  resident {}, tracking {}\n",
                  paint(Style::bold, printable(named.name)), printable(snapshot.program),
                  snapshot.pid, printable(snapshot.taken_at), printable(snapshot.reason),
                  to_string(Bytes{snapshot.resident_bytes}), printable(snapshot.grade));
  if (!snapshot.complete) {
    text += "  written by a crash handler: samples and counters, not every block\n";
  }
  return text;
}

Table table_of(const std::vector<std::string>& heads, const Painter& paint) {
  std::vector<Table::Align> columns(heads.size(), right);
  columns[0] = left;
  Table table{columns};
  std::vector<std::string> painted;
  painted.reserve(heads.size());
  for (const std::string& head : heads) painted.push_back(paint(Style::dim, head));
  table.add(std::move(painted));
  return table;
}

std::string more_line(std::size_t size, std::size_t shown) {
  return size > shown ? fmt::format("  ... {} more\n", size - shown) : std::string{};
}

// ---- Who holds what

std::string budget_table(const Snapshot& snapshot, const Painter& paint) {
  if (snapshot.budgets.empty()) return {};
  Table table = table_of({"budget", "used", "peak", "limit", "refused"}, paint);
  for (const BudgetStats& budget : snapshot.budgets) {
    const bool near = budget.pressure != Pressure::normal;
    const std::string used = to_string(budget.used);
    table.add({printable(budget.path), near ? paint(Style::bad, used) : used,
               to_string(budget.peak), limit_of(budget.limit), std::to_string(budget.denials)});
  }
  return "\n" + table.text();
}

std::string pool_table(const Snapshot& snapshot, const Painter& paint) {
  if (snapshot.pools.empty()) return {};
  Table table = table_of({"pool", "live", "idle", "reserved", "blocks", "hits"}, paint);
  for (const SnapshotPool& pool : snapshot.pools) {
    table.add({printable(pool.name), to_string(pool.stats.live), to_string(pool.stats.idle),
               to_string(pool.stats.reserved), std::to_string(pool.stats.live_blocks),
               fmt::format("{:.1f} %", 100 * pool.stats.hit_rate())});
  }
  return "\n" + table.text();
}

std::vector<TagStats> largest_tags(const Snapshot& snapshot) {
  std::vector<TagStats> tags = snapshot.tags;
  std::erase_if(tags, [](const TagStats& tag) { return tag.live.is_zero(); });
  std::ranges::stable_sort(tags, std::ranges::greater{}, &TagStats::live);
  return tags;
}

std::string tag_table(const Snapshot& snapshot, const Painter& paint) {
  const std::vector<TagStats> tags = largest_tags(snapshot);
  if (tags.empty()) return {};
  Table table = table_of({"tag", "live", "blocks", "taken in all"}, paint);
  for (std::size_t i = 0; i < std::min(tags.size(), kRowsShown); ++i) {
    table.add({printable(detail::tag_text(tags[i].tag, tags[i].owner)), to_string(tags[i].live),
               std::to_string(tags[i].live_blocks), to_string(tags[i].allocated)});
  }
  return "\n" + table.text() + more_line(tags.size(), kRowsShown);
}

std::string device_table(const Snapshot& snapshot, const Painter& paint) {
  if (snapshot.devices.empty()) return {};
  Table table = table_of({"device", "kind", "capacity", "free"}, paint);
  for (const SnapshotDevice& device : snapshot.devices) {
    table.add({printable(device.name), printable(device.kind),
               to_string(Bytes{device.capacity_bytes}), to_string(Bytes{device.free_bytes})});
  }
  return "\n" + table.text();
}

std::string figure(const Statistic& statistic) {
  if (!std::isfinite(statistic.value)) return "-";
  const bool is_bytes = statistic.name.find("bytes") != std::string::npos;
  return is_bytes ? amount(statistic.value) : fmt::format("{:.6g}", statistic.value);
}

// Caches, KV, tiers, the tracker: a line a counter.
std::string statistics_table(const Snapshot& snapshot, const Painter& paint) {
  std::size_t rows = 0;
  Table table = table_of({"other counters", "value"}, paint);
  for (const StatisticsGroup& group : snapshot.statistics) {
    for (const Statistic& statistic : group.statistics) {
      if (++rows > kCountersShown) continue;
      const std::string name = fmt::format("{} {}: {}", group.kind, group.name, statistic.name);
      table.add({printable(name), figure(statistic)});
    }
  }
  return rows == 0 ? std::string{} : "\n" + table.text() + more_line(rows, kCountersShown);
}

struct Site {
  std::string name;
  double bytes = 0;
  double blocks = 0;
  Duration oldest{0};
};

std::vector<Site> largest_sites(const Snapshot& snapshot) {
  std::map<std::string, Site> by_name;
  for (const LeakGroup& group : live_of(snapshot).groups) {
    if (group.stack == 0) continue;
    const std::string name = detail::site_of(snapshot, group.stack);
    Site& site = by_name[name];
    site.name = name;
    site.bytes += group.bytes;
    site.blocks += group.blocks;
    site.oldest = std::max(site.oldest, group.oldest);
  }
  std::vector<Site> sites;
  sites.reserve(by_name.size());
  for (auto& [name, site] : by_name) sites.push_back(std::move(site));
  std::ranges::stable_sort(sites, std::ranges::greater{}, &Site::bytes);
  return sites;
}

std::string site_table(const Snapshot& snapshot, const Painter& paint) {
  const std::vector<Site> sites = largest_sites(snapshot);
  if (sites.empty()) return {};
  Table table = table_of({"place in the code", "live", "blocks", "oldest"}, paint);
  for (std::size_t i = 0; i < std::min(sites.size(), kRowsShown); ++i) {
    table.add({printable(sites[i].name), amount(sites[i].bytes), count(sites[i].blocks),
               age(sites[i].oldest)});
  }
  return "\n" + table.text() + more_line(sites.size(), kRowsShown);
}

Json heading_of(const NamedSnapshot& named) {
  const Snapshot& snapshot = named.snapshot;
  return {{"source", named.name},       {"program", snapshot.program},
          {"pid", snapshot.pid},        {"taken_at", snapshot.taken_at},
          {"reason", snapshot.reason},  {"complete", snapshot.complete},
          {"tracking", snapshot.grade}, {"resident_bytes", snapshot.resident_bytes}};
}

Json frames_of(const Snapshot& snapshot, StackId stack) {
  Json list = Json::array();
  if (stack == 0) return list;
  for (const SnapshotFrame& frame : snapshot.stacks[stack - 1]) {
    list.push_back(detail::text_of(snapshot, frame));
  }
  return list;
}

std::string frame_lines(const Snapshot& snapshot, StackId stack) {
  if (stack == 0) return {};
  const std::vector<SnapshotFrame>& frames = snapshot.stacks[stack - 1];
  std::string text;
  for (std::size_t i = 0; i < std::min(frames.size(), kFramesShown); ++i) {
    text += fmt::format("      {}\n", printable(detail::text_of(snapshot, frames[i])));
  }
  if (frames.size() > kFramesShown) {
    text += fmt::format("      ... {} more\n", frames.size() - kFramesShown);
  }
  return text;
}

}  // namespace

std::string snapshot_report(const NamedSnapshot& named, const Painter& paint) {
  const Snapshot& snapshot = named.snapshot;
  return heading(named, paint) + device_table(snapshot, paint) + budget_table(snapshot, paint) +
         pool_table(snapshot, paint) + tag_table(snapshot, paint) + site_table(snapshot, paint) +
         statistics_table(snapshot, paint);
}

Json json_of(const NamedSnapshot& named) {
  const Snapshot& snapshot = named.snapshot;
  Json object = heading_of(named);
  Json budgets = Json::array();
  for (const BudgetStats& budget : snapshot.budgets) {
    budgets.push_back({{"path", budget.path},
                       {"used_bytes", budget.used.count()},
                       {"peak_bytes", budget.peak.count()},
                       {"limit_bytes", json_bytes(budget.limit)},
                       {"denials", budget.denials}});
  }
  Json pools = Json::array();
  for (const SnapshotPool& pool : snapshot.pools) {
    pools.push_back({{"name", pool.name},
                     {"live_bytes", pool.stats.live.count()},
                     {"idle_bytes", pool.stats.idle.count()},
                     {"reserved_bytes", pool.stats.reserved.count()},
                     {"live_blocks", pool.stats.live_blocks},
                     {"hit_rate", pool.stats.hit_rate()}});
  }
  Json tags = Json::array();
  for (const TagStats& tag : largest_tags(snapshot)) {
    tags.push_back({{"tag", tag.tag},
                    {"owner", tag.owner},
                    {"live_bytes", tag.live.count()},
                    {"live_blocks", tag.live_blocks}});
  }
  Json sites = Json::array();
  for (const Site& site : largest_sites(snapshot)) {
    sites.push_back({{"site", site.name},
                     {"live_bytes", site.bytes},
                     {"live_blocks", site.blocks},
                     {"oldest_seconds", seconds_of(site.oldest)}});
  }
  Json devices = Json::array();
  for (const SnapshotDevice& device : snapshot.devices) {
    devices.push_back({{"name", device.name},
                       {"kind", device.kind},
                       {"capacity_bytes", device.capacity_bytes},
                       {"free_bytes", device.free_bytes}});
  }
  Json groups = Json::array();
  for (const StatisticsGroup& group : snapshot.statistics) {
    Json values = Json::object();
    for (const Statistic& statistic : group.statistics) values[statistic.name] = statistic.value;
    groups.push_back({{"kind", group.kind}, {"name", group.name}, {"statistics", values}});
  }
  object["blocks"] = snapshot.blocks.size();
  object["devices"] = std::move(devices);
  object["groups"] = std::move(groups);
  object["events"] = snapshot.events.size();
  object["budgets"] = std::move(budgets);
  object["pools"] = std::move(pools);
  object["tags"] = std::move(tags);
  object["sites"] = std::move(sites);
  return object;
}

// ---- What is live

std::string leaks_report(const NamedSnapshot& named, const LeakReport& report,
                         const Painter& paint) {
  double bytes = 0;
  for (const LeakGroup& group : report.groups) bytes += group.bytes;
  std::string text = heading(named, paint);
  text += fmt::format(
      "\n{}{} live, from {} place{}{}\n", report.exact ? "" : "about ", amount(bytes),
      report.groups.size(), report.groups.size() == 1 ? "" : "s",
      report.suppressed == 0 ? std::string{} : fmt::format("; {} suppressed", report.suppressed));
  for (std::size_t i = 0; i < std::min(report.groups.size(), kGroupsShown); ++i) {
    const LeakGroup& group = report.groups[i];
    text += fmt::format("\n  {} in {} block{}, {}, pool {}, oldest {}\n",
                        paint(Style::bold, amount(group.bytes)), count(group.blocks),
                        group.blocks == 1 ? "" : "s",
                        printable(detail::tag_text(group.tag, group.owner)),
                        printable(group.source), age(group.oldest));
    text += frame_lines(named.snapshot, group.stack);
  }
  return text + more_line(report.groups.size(), kGroupsShown);
}

Json json_of(const NamedSnapshot& named, const LeakReport& report) {
  Json object = heading_of(named);
  Json groups = Json::array();
  for (const LeakGroup& group : report.groups) {
    groups.push_back({{"tag", group.tag},
                      {"owner", group.owner},
                      {"pool", group.source},
                      {"live_bytes", group.bytes},
                      {"live_blocks", group.blocks},
                      {"oldest_seconds", seconds_of(group.oldest)},
                      {"exact", group.exact},
                      {"site", detail::site_of(named.snapshot, group.stack)},
                      {"stack", frames_of(named.snapshot, group.stack)}});
  }
  object["exact"] = report.exact;
  object["suppressed"] = report.suppressed;
  object["groups"] = std::move(groups);
  return object;
}

// ---- What changed

std::string diff_report(const NamedSnapshot& before, const NamedSnapshot& after,
                        const Painter& paint) {
  const std::vector<SnapshotChange> changes = diff(before.snapshot, after.snapshot);
  std::string text = heading(before, paint) + heading(after, paint);
  if (changes.empty()) return text + "\nnothing changed\n";
  for (const std::string_view what : {"budget", "pool", "tag", "site"}) {
    Table table = table_of({std::string{what}, "change", "before", "after", "blocks"}, paint);
    std::size_t rows = 0;
    for (const SnapshotChange& one : changes) {
      if (one.what != what || ++rows > kRowsShown) continue;
      const double growth = one.after_bytes - one.before_bytes;
      table.add({printable(one.name), paint(growth > 0 ? Style::bad : Style::good, change(growth)),
                 amount(one.before_bytes), amount(one.after_bytes),
                 fmt::format("{:+.0f}", one.after_blocks - one.before_blocks)});
    }
    if (rows > 0) text += "\n" + table.text() + more_line(rows, kRowsShown);
  }
  return text;
}

Json json_of(const NamedSnapshot& before, const NamedSnapshot& after) {
  Json changes = Json::array();
  for (const SnapshotChange& one : diff(before.snapshot, after.snapshot)) {
    changes.push_back({{"what", one.what},
                       {"name", one.name},
                       {"before_bytes", one.before_bytes},
                       {"after_bytes", one.after_bytes},
                       {"before_blocks", one.before_blocks},
                       {"after_blocks", one.after_blocks}});
  }
  return {{"before", heading_of(before)}, {"after", heading_of(after)}, {"changes", changes}};
}

}  // namespace forebay::app
