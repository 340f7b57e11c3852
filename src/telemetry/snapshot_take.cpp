// Taking a snapshot: the one place that asks the tracker, pools, budgets and the rest.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <new>
#include <unordered_map>
#include <utility>

#include "telemetry/crash.hpp"
#include "telemetry/modules.hpp"
#include "telemetry/process.hpp"

namespace forebay {
namespace {

double seconds_of(Duration duration) { return std::chrono::duration<double>(duration).count(); }

void add_heading(Snapshot& snapshot, const Snapshot::Options& options) {
  const TrackerOptions tracking = Tracker::options();
  snapshot.program = detail::program_path();
  snapshot.pid = ::getpid();
  snapshot.taken_at = detail::UtcText::now().view();
  snapshot.clock_seconds = seconds_of(Clock::steady().now().time_since_epoch());
  snapshot.reason = options.reason;
  snapshot.resident_bytes = detail::resident_bytes();
  snapshot.sample_interval_bytes = tracking.sample_interval.count();
  snapshot.grade = to_string(tracking.grade);
}

void add_pools(Snapshot& snapshot) {
  for (PoolView& pool : Pool::all()) {
    const auto index = static_cast<std::uint32_t>(snapshot.pools.size());
    for (const PoolView::Segment& segment : pool.segments) {
      snapshot.segments.push_back({index, segment.address, segment.bytes.count()});
    }
    snapshot.pools.push_back({std::move(pool.name), std::move(pool.upstream), pool.stats});
  }
}

SnapshotDevice device_of(const StatisticsGroup& group) {
  SnapshotDevice device;
  device.name = group.name;
  device.kind = group.kind;
  for (const Statistic& statistic : group.statistics) {
    const auto bytes = static_cast<std::uint64_t>(std::max(statistic.value, 0.0));
    if (statistic.name == "capacity_bytes") device.capacity_bytes = bytes;
    if (statistic.name == "free_bytes") device.free_bytes = bytes;
  }
  return device;
}

// Budgets and pools have sections of their own, and so have devices.
void add_statistics(Snapshot& snapshot) {
  const Device& host = *Device::host();
  snapshot.devices.push_back({std::string{host.name()}, std::string{to_string(host.kind())},
                              host.capacity().count(), host.free().count()});
  for (StatisticsGroup& group : collect_statistics()) {
    if (group.kind == "device") {
      SnapshotDevice device = device_of(group);
      if (device.name != snapshot.devices[0].name) snapshot.devices.push_back(std::move(device));
    } else if (group.kind != "pool" && group.kind != "budget") {
      snapshot.statistics.push_back(std::move(group));
    }
  }
}

// ---- Stacks

class StackNames {
 public:
  StackNames(Snapshot& snapshot, bool symbols)
      : snapshot_(snapshot), symbols_(symbols), loaded_(detail::LoadedModules::now()) {
    snapshot_.modules = loaded_.modules;
  }

  // Index in Snapshot::stacks, plus one; 0: of no stack.
  std::uint32_t index_of(StackId id) {
    if (id == 0) return 0;
    const auto [entry, added] = indices_.try_emplace(id, snapshot_.stacks.size() + 1);
    if (added) add(id);
    return entry->second;
  }

 private:
  void add(StackId id) {
    const std::vector<std::uintptr_t> addresses = Tracker::addresses_of(id);
    if (symbols_) name(id, addresses);
    std::vector<SnapshotFrame>& stack = snapshot_.stacks.emplace_back();
    stack.reserve(addresses.size());
    for (const std::uintptr_t address : addresses) {
      // A return address may be the first of the next function: the call is before it.
      SnapshotFrame& frame = stack.emplace_back(loaded_.place_of(address - 1));
      if (symbols_) frame.function = functions_[address];
    }
  }

  // Finding names opens files: each address once.
  void name(StackId id, const std::vector<std::uintptr_t>& addresses) {
    const auto known = [this](std::uintptr_t address) { return functions_.contains(address); };
    if (std::ranges::all_of(addresses, known)) return;
    std::vector<Frame> frames = Tracker::frames_of(id);
    for (std::size_t i = 0; i < std::min(frames.size(), addresses.size()); ++i) {
      functions_.try_emplace(addresses[i], std::move(frames[i].function));
    }
  }

  Snapshot& snapshot_;
  bool symbols_;
  detail::LoadedModules loaded_;
  std::unordered_map<StackId, std::uint32_t> indices_;
  std::unordered_map<std::uintptr_t, std::string> functions_;
};

// ---- Blocks

// What a block stands for. A sample stands for its share of those that were not sampled: they
// must not count again.
void add_block(Snapshot& snapshot, const LiveBlock& live, bool has_samples, Duration now,
               StackNames& names) {
  const bool recorded = live.grade >= TrackingGrade::sampled;
  SnapshotBlock& block = snapshot.blocks.emplace_back();
  block.address = live.address;
  block.bytes = live.bytes.count();
  block.pool = live.source;
  block.tag = live.tag;
  if (recorded || !has_samples) {
    block.weight_bytes = live.weight_bytes;
    block.weight_blocks = live.weight_blocks;
  }
  if (!recorded) return;
  block.stack = names.index_of(live.stack);
  // To 10 ms, as it is known; so written, it is short.
  const double hundredths = 100 * seconds_of(now - live.born);
  block.age_seconds = std::max(0.0, std::round(hundredths)) / 100;
}

void add_blocks(Snapshot& snapshot, const Snapshot::Options& options) {
  LiveTable live = Tracker::live();
  const Duration now = Tracker::options().clock->now().time_since_epoch();
  snapshot.tags = std::move(live.tags);
  snapshot.sources = std::move(live.sources);
  snapshot.blocks.reserve(live.blocks.size());
  const bool has_samples = std::ranges::find(live.blocks, TrackingGrade::sampled,
                                             &LiveBlock::grade) != live.blocks.end();
  StackNames names{snapshot, options.symbols};
  for (const LiveBlock& block : live.blocks) add_block(snapshot, block, has_samples, now, names);
}

// ---- Timeline

// Index in Snapshot::tags, plus one, of events' numbers of tags.
class TagIndices {
 public:
  explicit TagIndices(Snapshot& snapshot) : snapshot_(snapshot) {
    for (std::size_t i = 0; i < snapshot.tags.size(); ++i) {
      by_name_.try_emplace({snapshot.tags[i].tag, snapshot.tags[i].owner}, i + 1);
    }
  }
  std::uint32_t operator()(const TimelineEvent& event) {
    if (event.tag == 0) return 0;
    const auto [entry, added] = by_number_.try_emplace(event.tag, 0);
    if (added) entry->second = find(Timeline::tag_of(event));
    return entry->second;
  }

 private:
  // One that holds nothing, and never did, is added.
  std::uint32_t find(TagStats tag) {
    const auto [entry, added] =
        by_name_.try_emplace({tag.tag, tag.owner}, snapshot_.tags.size() + 1);
    if (added) snapshot_.tags.push_back(std::move(tag));
    return static_cast<std::uint32_t>(entry->second);
  }

  Snapshot& snapshot_;
  std::map<std::pair<std::string, std::string>, std::size_t> by_name_;
  std::unordered_map<std::uint16_t, std::uint32_t> by_number_;
};

void add_events(Snapshot& snapshot) {
  const std::vector<TimelineEvent> events = Timeline::read();
  TagIndices tag_index{snapshot};
  snapshot.events.reserve(events.size());
  for (const TimelineEvent& event : events) {
    snapshot.events.push_back({std::string{to_string(event.kind)}, std::string{event.subject},
                               tag_index(event), event.thread, seconds_of(event.at), event.address,
                               event.bytes.count()});
  }
}

}  // namespace

Snapshot Snapshot::take(const Options& options) {
  Snapshot snapshot;
  add_heading(snapshot, options);
  add_statistics(snapshot);
  snapshot.budgets = Budget::all();
  add_pools(snapshot);
  if (options.blocks) {
    add_blocks(snapshot, options);
  } else {
    snapshot.tags = Tracker::tags();
  }
  if (options.timeline) add_events(snapshot);
  return snapshot;
}

namespace detail {

Status write_refusal_snapshot(const std::string& directory) {
  Snapshot::Options options;
  options.reason = "refusal";
  try {
    return write_snapshot(Snapshot::take(options),
                          fmt::format("{}/forebay-{}-refusal.json", directory, ::getpid()));
  } catch (const std::bad_alloc&) {
    return {Code::memory_refused, "the system has no memory left to take a snapshot"};
  }
}

}  // namespace detail

}  // namespace forebay
