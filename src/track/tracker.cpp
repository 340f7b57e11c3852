#include "forebay/tracker.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <map>
#include <mutex>
#include <unordered_map>
#include <utility>

#include "track/leak_report.hpp"
#include "track/records.hpp"
#include "track/retired_tags.hpp"
#include "track/settings.hpp"
#include "track/source.hpp"
#include "track/stack.hpp"

namespace forebay {

using detail::ContextId;
using detail::TagSum;

// ---- Tags

namespace {

std::vector<TagSum> sums_of_all() {
  std::vector<TagSum> sums(detail::kMaxContexts);
  detail::visit_sources([&](const detail::BlockSource& source) { source.add_tags(sums); });
  detail::add_retired_tags(sums);
  return sums;
}

// While threads are at work, what one took may be missed and seen where another gave it back; what
// is of no tag is the rest, and may be short by their latest operations.
std::uint64_t at_least_none(std::uint64_t difference) noexcept {
  return static_cast<std::int64_t>(difference) < 0 ? 0 : difference;
}

TagStats stats_of(ContextId id, const TagSum& sum) {
  const detail::ContextName name = detail::name_of(id);
  return {.tag = std::string{name.tag},
          .owner = std::string{name.owner},
          .live = Bytes{at_least_none(sum.bytes_taken - sum.bytes_given)},
          .live_blocks = at_least_none(sum.taken - sum.given),
          .allocated = Bytes{at_least_none(sum.bytes_taken)},
          .allocations = at_least_none(sum.taken)};
}

// Those that ever held something, the nameless one always; `place` says where each context went.
std::vector<TagStats> named_sums(std::vector<std::uint32_t>& place) {
  const std::vector<TagSum> sums = sums_of_all();
  std::vector<TagStats> tags;
  place.assign(sums.size(), 0);
  for (std::size_t id = 0; id != sums.size(); ++id) {
    if (id != 0 && sums[id].taken == 0) continue;
    place[id] = static_cast<std::uint32_t>(tags.size());
    tags.push_back(stats_of(static_cast<ContextId>(id), sums[id]));
  }
  return tags;
}

}  // namespace

std::vector<TagStats> Tracker::tags() {
  std::vector<std::uint32_t> place;
  return named_sums(place);
}

// ---- Live blocks

namespace {

using Key = std::pair<std::uint32_t, std::uintptr_t>;
struct KeyHash {
  std::size_t operator()(const Key& key) const noexcept {
    return (key.second ^ std::uint64_t{key.first} << 48) * 0x9E3779B97F4A7C15ULL >> 16;
  }
};
using RecordsByBlock = std::unordered_map<Key, detail::TableRecord, KeyHash>;

struct RawBlocks {
  std::string source;
  std::uint32_t number = 0;
  bool in_table = false;
  std::vector<detail::SourceBlock> blocks;
};

// Births are kept as the low bits of a count: their age is right for 497 days.
void describe(LiveBlock& block, const detail::BlockRecord& record, TrackingGrade grade) noexcept {
  block.grade = grade;
  block.stack = record.stack;
  block.mark = record.mark;
  block.born = detail::time_of(record.born);
}

// A block is sampled with probability 1 - exp(-bytes / interval), and stands for its share.
void weigh(LiveBlock& block, double interval) noexcept {
  const auto bytes = static_cast<double>(block.bytes.count());
  block.weight_blocks = 1.0 / -std::expm1(-bytes / interval);
  block.weight_bytes = bytes * block.weight_blocks;
}

LiveBlock live_block(const detail::SourceBlock& raw, const detail::TableRecord* in_table) noexcept {
  LiveBlock block;
  block.address = raw.address;
  block.bytes = Bytes{raw.bytes};
  const detail::BlockRecord* record = raw.has_record ? &raw.record : nullptr;
  bool full = raw.has_record && (!raw.large || raw.record.bytes == 0);
  if (full && !raw.large) block.bytes = Bytes{raw.record.bytes};
  if (in_table != nullptr && (in_table->tag & detail::kSampled) != 0) {
    block.bytes = Bytes{in_table->facts.bytes};
    record = &in_table->record;
    full = in_table->full;
  }
  if (record != nullptr) {
    describe(block, *record, full ? TrackingGrade::full : TrackingGrade::sampled);
    if (!full) return weigh(block, record->bytes), block;
  }
  block.weight_bytes = static_cast<double>(block.bytes.count());
  block.weight_blocks = 1;
  return block;
}

}  // namespace

LiveTable Tracker::live() {
  std::vector<RawBlocks> raw;
  detail::visit_sources([&](const detail::BlockSource& source) {
    raw.push_back({std::string{source.source_name()},
                   source.source_number(),
                   source.blocks_are_in_table(),
                   {}});
    source.copy_live(raw.back().blocks);
  });
  RecordsByBlock records;
  detail::visit_records([&](const detail::TableRecord& record) {
    records.emplace(Key{record.facts.source, record.facts.address}, record);
    const auto source = std::find_if(raw.begin(), raw.end(), [&](const RawBlocks& blocks) {
      return blocks.in_table && blocks.number == record.facts.source;
    });
    if (source == raw.end()) return;
    source->blocks.push_back(
        {.address = record.facts.address,
         .bytes = record.facts.bytes,
         .tag = static_cast<detail::BlockTag>(record.facts.context | detail::kSampled)});
  });
  LiveTable table;
  std::vector<std::uint32_t> place;
  table.tags = named_sums(place);
  table.sample_interval = Bytes{detail::sample_interval()};
  std::size_t count = 0;
  for (const RawBlocks& source : raw) count += source.blocks.size();
  table.blocks.reserve(count);
  for (RawBlocks& source : raw) {
    const auto index = static_cast<std::uint32_t>(table.sources.size());
    table.sources.push_back(std::move(source.source));
    for (const detail::SourceBlock& block : source.blocks) {
      const bool look = (block.tag & detail::kSampled) != 0;
      const auto found = look ? records.find({source.number, block.address}) : records.end();
      table.blocks.push_back(live_block(block, found == records.end() ? nullptr : &found->second));
      table.blocks.back().source = index;
      table.blocks.back().tag = place[block.tag & detail::kContextOf];
    }
  }
  return table;
}

// ---- Stacks

std::vector<std::uintptr_t> Tracker::addresses_of(StackId stack) {
  const auto frames = detail::frames_of(stack);
  return {frames.begin(), frames.end()};
}

// A return address may be the first of the next function.
std::vector<Frame> Tracker::frames_of(StackId stack) {
  std::vector<Frame> frames;
  for (const std::uintptr_t address : detail::frames_of(stack)) {
    frames.push_back(detail::symbolize(address - 1));
  }
  return frames;
}

Bytes Tracker::metadata() noexcept { return Bytes{detail::stack_bytes() + detail::record_bytes()}; }

std::uint64_t Tracker::dropped() noexcept {
  return detail::records_refused() + detail::stacks_refused() + detail::contexts_refused() +
         detail::events_dropped();
}

// ---- The file of events

namespace {

constinit std::mutex g_recording;
bool g_is_recording = false;

}  // namespace

Status Tracker::record_to(const std::string& path) {
  const std::lock_guard lock{g_recording};
  if (Status opened = detail::open_event_file(path); !opened.ok()) return opened;
  g_is_recording = true;
  detail::want_records(true);
  return {};
}

Status Tracker::stop_recording() {
  const std::lock_guard lock{g_recording};
  if (!std::exchange(g_is_recording, false)) return {};
  detail::want_records(false);
  return detail::close_event_file();
}

// ---- Leaks

Mark Tracker::mark(std::string name) {
  Timeline::mark(name);
  const Duration now = detail::tracker_now();
  return {.name = std::move(name), .number = detail::set_mark(), .at = now};
}

LeakReport Tracker::since(const Mark& mark, const Suppressions& suppressions) {
  return detail::group_leaks(live(), mark.number, detail::tracker_now(), suppressions,
                             detail::full_since(mark.number));
}

namespace {

Suppressions& exit_suppressions() {
  static auto* const the = new Suppressions;
  return *the;
}

void report_now() {
  const LeakReport report = detail::group_leaks(Tracker::live(), 0, detail::tracker_now(),
                                                exit_suppressions(), detail::tracking_is_full());
  if (!report.empty()) fmt::print(stderr, "{}", report.to_text());
}

}  // namespace

Status Tracker::report_at_exit(const std::string& suppression_file) {
  if (!suppression_file.empty()) {
    Result<Suppressions> loaded = Suppressions::load(suppression_file);
    if (!loaded) return loaded.status();
    exit_suppressions() = std::move(*loaded);
  }
  static const int registered = std::atexit(report_now);
  return registered == 0 ? Status{} : Status{Code::memory_refused, "no room for another atexit"};
}

LeakScope::LeakScope(std::string name, Handler report) : report_(std::move(report)) {
  if (!report_) {
    report_ = [name](const LeakReport& found) {
      fmt::print(stderr, "{}: {}", name, found.to_text());
    };
  }
  detail::want_records(true);
  mark_ = Tracker::mark(std::move(name));
}

LeakScope::~LeakScope() {
  try {
    const LeakReport report = Tracker::since(mark_);
    if (!report.empty()) report_(report);
  } catch (const std::bad_alloc&) {
    fmt::print(stderr, "forebay: {}: no memory to look for leaks\n", mark_.name);
  }
  detail::want_records(false);
}

}  // namespace forebay
