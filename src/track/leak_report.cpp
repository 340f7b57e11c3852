#include "track/leak_report.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <tuple>
#include <utility>
#include <vector>

namespace forebay {
namespace {

constexpr std::size_t kFramesShown = 12;
constexpr std::size_t kGroupsShown = 100;
constexpr std::size_t kBlocksShown = 8;  // of a cycle

std::string_view base_name(std::string_view path) { return path.substr(path.rfind('/') + 1); }

std::string frame_to_text(const Frame& frame) {
  const std::string where = frame.module.empty()
                                ? fmt::format("{:#x}", frame.address)
                                : fmt::format("{}+{:#x}", base_name(frame.module), frame.offset);
  return frame.function.empty() ? where : fmt::format("{} ({})", frame.function, where);
}

// "12 s", "3.5 min", "2.1 h"
std::string age_of(Duration age) {
  const double seconds = std::chrono::duration<double>{age}.count();
  if (seconds < 120) return fmt::format("{:.3g} s", seconds);
  if (seconds < 7200) return fmt::format("{:.3g} min", seconds / 60);
  return fmt::format("{:.3g} h", seconds / 3600);
}

std::string group_to_text(const LeakGroup& group) {
  const auto blocks = static_cast<std::uint64_t>(std::llround(std::max(group.blocks, 1.0)));
  std::string text = fmt::format("{}{} in {}{} block{}", group.exact ? "" : "about ",
                                 detail::amount_of(group.bytes), group.exact ? "" : "about ",
                                 blocks, blocks == 1 ? "" : "s");
  text += group.tag.empty() ? ", no tag" : fmt::format(", tag {}", group.tag);
  if (!group.owner.empty()) text += fmt::format(", owner {}", group.owner);
  text += fmt::format(", of {}, oldest {}\n", group.source, age_of(group.oldest));
  return text + detail::frames_to_text(group.stack, kFramesShown);
}

std::string cycle_to_text(const SharedCycle& cycle) {
  std::string text = fmt::format("cycle of {} shared buffer{}, {}:", cycle.blocks.size(),
                                 cycle.blocks.size() == 1 ? "" : "s", to_string(cycle.bytes));
  for (std::size_t i = 0; i < std::min(cycle.blocks.size(), kBlocksShown); ++i) {
    text += fmt::format(" {}", cycle.blocks[i]);
  }
  return text + (cycle.blocks.size() > kBlocksShown ? " ...\n" : "\n");
}

// Ours, or what is called by way of the standard library; our tests are users.
bool is_of_a_library_below(const Frame& frame) {
  constexpr std::string_view kOurs[] = {"forebay::", "std::", "__gnu_cxx::", "operator new"};
  if (frame.function.starts_with("forebay::testing::")) return false;
  return std::any_of(std::begin(kOurs), std::end(kOurs),
                     [&](std::string_view start) { return frame.function.starts_with(start); });
}

}  // namespace

namespace detail {

std::string amount_of(double bytes) {
  constexpr double kMost = 9e18;
  return to_string(Bytes{static_cast<std::uint64_t>(std::llround(std::clamp(bytes, 0.0, kMost)))});
}

std::string frames_to_text(StackId stack, std::size_t most) {
  if (stack == 0) return {};
  std::vector<Frame> frames = Tracker::frames_of(stack);
  // Those of the library itself say nothing to whoever called it, unless there are no others.
  const auto first = std::find_if_not(frames.begin(), frames.end(), is_of_a_library_below);
  if (first != frames.end()) frames.erase(frames.begin(), first);
  std::string text;
  for (std::size_t i = 0; i < std::min(frames.size(), most); ++i) {
    text += "    " + frame_to_text(frames[i]) + '\n';
  }
  if (frames.size() > most) text += fmt::format("    ... {} more\n", frames.size() - most);
  return text;
}

std::string place_of(StackId stack) {
  if (stack == 0) return {};
  std::string ours;
  for (const Frame& frame : Tracker::frames_of(stack)) {
    if (frame.function.empty()) continue;
    if (!is_of_a_library_below(frame)) return frame.function;
    if (ours.empty()) ours = frame.function;
  }
  return ours;
}

LeakReport group_leaks(const LiveTable& live, std::uint64_t after_mark, Duration now,
                       const Suppressions& suppressions, bool exact) {
  std::map<std::tuple<std::uint32_t, std::uint32_t, StackId>, LeakGroup> groups;
  for (const LiveBlock& block : live.blocks) {
    if (block.grade < TrackingGrade::sampled || block.mark < after_mark) continue;
    LeakGroup& group = groups[{block.tag, block.source, block.stack}];
    group.bytes += block.weight_bytes;
    group.blocks += block.weight_blocks;
    group.oldest = std::max(group.oldest, now - block.born);
    group.exact = group.exact && exact && block.grade == TrackingGrade::full;
  }
  LeakReport report;
  report.exact = exact;
  for (auto& [key, group] : groups) {
    const auto [tag, source, stack] = key;
    if (tag < live.tags.size()) {
      group.tag = live.tags[tag].tag;
      group.owner = live.tags[tag].owner;
    }
    if (source < live.sources.size()) group.source = live.sources[source];
    group.stack = stack;
    if (suppressions.covers(group)) {
      ++report.suppressed;
    } else {
      report.groups.push_back(std::move(group));
    }
  }
  std::stable_sort(report.groups.begin(), report.groups.end(),
                   [](const LeakGroup& a, const LeakGroup& b) { return a.bytes > b.bytes; });
  return report;
}

}  // namespace detail

std::string LeakReport::to_text() const {
  double bytes = 0;
  for (const LeakGroup& group : groups) bytes += group.bytes;
  std::string text =
      fmt::format("{}{} not given back, from {} place{}", exact ? "" : "about ",
                  detail::amount_of(bytes), groups.size(), groups.size() == 1 ? "" : "s");
  if (!cycles.empty()) {
    text +=
        fmt::format("; {} cycle{} of shared buffers", cycles.size(), cycles.size() == 1 ? "" : "s");
  }
  if (suppressed > 0) text += fmt::format("; {} suppressed", suppressed);
  text += exact ? "\n" : " (estimated from samples)\n";
  for (std::size_t i = 0; i < std::min(groups.size(), kGroupsShown); ++i) {
    text += group_to_text(groups[i]);
  }
  if (groups.size() > kGroupsShown) {
    text += fmt::format("... {} more places\n", groups.size() - kGroupsShown);
  }
  for (const SharedCycle& cycle : cycles) text += cycle_to_text(cycle);
  return text;
}

std::string Growth::to_text() const {
  std::string text = kind == "tag" || kind == "site" ? name : kind + ' ' + name;
  if (text.empty()) text = "(no tag)";
  text += fmt::format(" grows by {}/h", detail::amount_of(bytes_per_hour));
  if (const std::string place = detail::place_of(stack); !place.empty()) text += " in " + place;
  if (until_line >= Duration::zero()) {
    text += fmt::format(", would reach the line in {}", age_of(until_line));
  }
  return text;
}

}  // namespace forebay
