// Comparing snapshots, and what is live in one.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <tuple>

#include "telemetry/snapshot_site.hpp"

namespace forebay {

namespace detail {
namespace {

constexpr double kMostSeconds = 1e9;  // some 32 years: a Duration holds it

bool is_of_a_library_below(std::string_view function) {
  constexpr std::string_view kOurs[] = {"forebay::", "std::", "__gnu_cxx::", "operator new"};
  return std::ranges::any_of(kOurs, [&](auto start) { return function.starts_with(start); });
}

std::string_view base_name(std::string_view path) { return path.substr(path.rfind('/') + 1); }

}  // namespace

std::string text_of(const Snapshot& snapshot, const SnapshotFrame& frame) {
  const std::string_view module =
      frame.module == 0 ? "" : base_name(snapshot.modules[frame.module - 1].path);
  const std::string place =
      fmt::format("{}{}{:#x}", module, module.empty() ? "" : "+", frame.offset);
  return frame.function.empty() ? place : fmt::format("{} ({})", frame.function, place);
}

std::string site_of(const Snapshot& snapshot, std::uint32_t stack) {
  if (stack == 0 || snapshot.stacks[stack - 1].empty()) return "(not known)";
  const std::vector<SnapshotFrame>& frames = snapshot.stacks[stack - 1];
  for (const SnapshotFrame& frame : frames) {
    if (!frame.function.empty() && !is_of_a_library_below(frame.function)) return frame.function;
  }
  return frames[0].function.empty() ? text_of(snapshot, frames[0]) : frames[0].function;
}

std::string tag_text(std::string_view tag, std::string_view owner) {
  const std::string_view name = tag.empty() ? "(no tag)" : tag;
  return owner.empty() ? std::string{name} : fmt::format("{} of {}", name, owner);
}

std::vector<Frame> frames_of(const Snapshot& snapshot, std::uint32_t stack) {
  std::vector<Frame> frames;
  if (stack == 0) return frames;
  for (const SnapshotFrame& from : snapshot.stacks[stack - 1]) {
    Frame& frame = frames.emplace_back();
    frame.offset = from.offset;
    frame.function = from.function;
    if (from.module == 0) continue;
    frame.module = snapshot.modules[from.module - 1].path;
    frame.address = snapshot.modules[from.module - 1].base + from.offset;
  }
  return frames;
}

namespace {

// Both sides of what changed, by what it is and its name.
class Changes {
 public:
  using Side = double SnapshotChange::*;
  void add(std::string_view what, const std::string& name, double bytes, double blocks,
           bool is_after) {
    SnapshotChange& change = changes_[{std::string{what}, name}];
    (is_after ? change.after_bytes : change.before_bytes) += bytes;
    (is_after ? change.after_blocks : change.before_blocks) += blocks;
  }
  std::vector<SnapshotChange> sorted() {
    std::vector<SnapshotChange> list;
    for (auto& [key, change] : changes_) {
      const bool same =
          change.after_bytes == change.before_bytes && change.after_blocks == change.before_blocks;
      if (same) continue;
      std::tie(change.what, change.name) = key;
      list.push_back(std::move(change));
    }
    const auto growth = [](const SnapshotChange& change) {
      return change.after_bytes - change.before_bytes;
    };
    std::ranges::stable_sort(list, std::ranges::greater{}, growth);
    return list;
  }

 private:
  std::map<std::pair<std::string, std::string>, SnapshotChange> changes_;
};

double bytes_of(Bytes bytes) { return static_cast<double>(bytes.count()); }

void add_all(Changes& changes, const Snapshot& snapshot, bool is_after) {
  for (const TagStats& tag : snapshot.tags) {
    changes.add("tag", tag_text(tag.tag, tag.owner), bytes_of(tag.live),
                static_cast<double>(tag.live_blocks), is_after);
  }
  for (const SnapshotPool& pool : snapshot.pools) {
    changes.add("pool", pool.name, bytes_of(pool.stats.live),
                static_cast<double>(pool.stats.live_blocks), is_after);
  }
  for (const BudgetStats& budget : snapshot.budgets) {
    changes.add("budget", budget.path, bytes_of(budget.used), 0, is_after);
  }
  // A stack's site is looked for once.
  std::map<std::uint32_t, std::pair<double, double>> stacks;
  for (const SnapshotBlock& block : snapshot.blocks) {
    if (block.stack == 0) continue;
    stacks[block.stack].first += block.weight_bytes;
    stacks[block.stack].second += block.weight_blocks;
  }
  for (const auto& [stack, sum] : stacks) {
    changes.add("site", site_of(snapshot, stack), sum.first, sum.second, is_after);
  }
}

// Without any weight nothing was recorded: then each block stands for itself.
bool is_weighed(const Snapshot& snapshot) {
  return std::ranges::any_of(snapshot.blocks,
                             [](const SnapshotBlock& block) { return block.weight_bytes > 0; });
}

LeakGroup group_of(const Snapshot& snapshot, const SnapshotBlock& block) {
  LeakGroup group;
  group.tag = snapshot.tags[block.tag].tag;
  group.owner = snapshot.tags[block.tag].owner;
  group.source = snapshot.sources[block.pool];
  group.stack = block.stack;
  return group;
}

void add_to(LeakGroup& group, const SnapshotBlock& block, bool weighed) {
  group.bytes += weighed ? block.weight_bytes : static_cast<double>(block.bytes);
  group.blocks += weighed ? block.weight_blocks : 1;
  group.exact = group.exact && (!weighed || block.weight_blocks == 1);
  const std::chrono::duration<double> age{std::clamp(block.age_seconds, 0.0, kMostSeconds)};
  group.oldest = std::max(group.oldest, std::chrono::duration_cast<Duration>(age));
}

}  // namespace
}  // namespace detail

std::vector<SnapshotChange> diff(const Snapshot& before, const Snapshot& after) {
  detail::Changes changes;
  detail::add_all(changes, before, false);
  detail::add_all(changes, after, true);
  return changes.sorted();
}

LeakReport live_of(const Snapshot& snapshot, const Suppressions& suppressions) {
  using Key = std::tuple<std::uint32_t, std::uint32_t, std::uint32_t>;
  const bool weighed = detail::is_weighed(snapshot);
  std::map<Key, LeakGroup> groups;
  for (const SnapshotBlock& block : snapshot.blocks) {
    if (weighed && block.weight_bytes <= 0) continue;
    const auto [entry, added] = groups.try_emplace({block.tag, block.pool, block.stack});
    if (added) entry->second = detail::group_of(snapshot, block);
    detail::add_to(entry->second, block, weighed);
  }
  LeakReport report;
  report.exact = snapshot.complete;
  for (auto& [key, group] : groups) {
    group.exact = group.exact && snapshot.complete;
    report.exact = report.exact && group.exact;
    if (suppressions.covers(group, detail::frames_of(snapshot, group.stack))) {
      ++report.suppressed;
    } else {
      report.groups.push_back(std::move(group));
    }
  }
  std::ranges::stable_sort(report.groups, [](const LeakGroup& a, const LeakGroup& b) {
    return std::tie(a.bytes, a.oldest) > std::tie(b.bytes, b.oldest);
  });
  return report;
}

}  // namespace forebay
