// What the tracker shows to a handler of signals.
#include <algorithm>
#include <array>
#include <cmath>

#include "telemetry/crash.hpp"
#include "track/context.hpp"
#include "track/records.hpp"
#include "track/source.hpp"
#include "track/stack.hpp"
#include "track/timeline.hpp"

namespace forebay::detail {
namespace {

// Sums over the pools that are not locked just now. In memory that is there: a handler takes none.
std::array<TagSum, kMaxContexts> g_sums{};

void visit_tags(CrashVisitor<CrashTag> visit) {
  g_sums.fill({});
  show_counters({nullptr,
                 [](void*, std::string_view, std::string_view, std::string_view, double) {},
                 [](void*, ContextId id, const TagSum& sum) { g_sums[id] += sum; },
                 [](void*, const TableRecord&) {}});
  const ContextId used = contexts_used();
  // The last one is for what has no number of its own.
  for (std::uint32_t i = 0; i <= used; ++i) {
    const auto id = static_cast<ContextId>(i < used ? i : kMaxContexts - 1);
    const ContextName name = name_of(id);
    const TagSum& sum = g_sums[id];
    CrashTag tag;
    tag.id = id;
    tag.tag = name.tag;
    tag.owner = name.owner;
    tag.live = Bytes{sum.bytes_taken - std::min(sum.bytes_taken, sum.bytes_given)};
    tag.live_blocks = sum.taken - std::min(sum.taken, sum.given);
    tag.allocated = Bytes{sum.bytes_taken};
    tag.allocations = sum.taken;
    if (!visit(tag)) return;
  }
}

void visit_counters(CrashVisitor<CrashCounter> visit) {
  struct Walk {
    CrashVisitor<CrashCounter> visit;
    bool full = false;
  } walk{visit};
  show_counters({&walk,
                 [](void* context, std::string_view kind, std::string_view group,
                    std::string_view name, double value) {
                   auto& to = *static_cast<Walk*>(context);
                   if (!to.full) to.full = !to.visit({kind, group, name, value});
                 },
                 [](void*, ContextId, const TagSum&) {}, [](void*, const TableRecord&) {}});
}

// As Tracker::live(): sampled with probability 1 - exp(-bytes / interval).
void weigh_sample(LiveBlock& block, double interval) noexcept {
  block.weight_blocks = 1.0 / -std::expm1(-block.weight_bytes / interval);
  block.weight_bytes *= block.weight_blocks;
}

constexpr std::uint32_t kSubjects = 1U << 10;

// A block's source is told by its subject, whose name is kept for good.
void visit_sources(CrashVisitor<std::string_view> visit) {
  for (std::uint32_t id = 0; id < kSubjects; ++id) {
    if (!visit(subject_name(static_cast<SubjectId>(id)))) return;
  }
}

constexpr Duration kBornUnit = std::chrono::milliseconds{10};  // of BlockRecord::born

struct BlockWalk {
  CrashVisitor<LiveBlock> visit;
  bool full = false;
};

void show_record(const TableRecord& record, void* context) noexcept {
  auto& walk = *static_cast<BlockWalk*>(context);
  if (walk.full || (record.tag & kSampled) == 0) return;
  LiveBlock block;
  block.address = record.facts.address;
  block.bytes = Bytes{record.facts.bytes};
  block.source = record.facts.subject;
  block.tag = record.facts.context;
  block.stack = record.record.stack;
  block.born = record.record.born * kBornUnit;
  block.weight_bytes = static_cast<double>(record.facts.bytes);
  block.weight_blocks = 1;
  if (!record.full) weigh_sample(block, record.record.bytes);
  walk.full = !walk.visit(block);
}

void visit_blocks(CrashVisitor<LiveBlock> visit) {
  BlockWalk walk{visit};
  visit_records_unlocked(show_record, &walk);
  // Large blocks have their records beside them.
  show_counters({&walk, [](void*, std::string_view, std::string_view, std::string_view, double) {},
                 [](void*, ContextId, const TagSum&) {},
                 [](void* context, const TableRecord& record) { show_record(record, context); }});
}

void visit_events(CrashVisitor<TimelineEvent> visit) {
  const auto show = [](const TimelineEvent& event, void* context) {
    static_cast<void>((*static_cast<CrashVisitor<TimelineEvent>*>(context))(event));
  };
  visit_events_unlocked(show, &visit);
}

}  // namespace

CrashSources crash_sources() noexcept {
  CrashSources sources;
  sources.options = []() noexcept { return Tracker::options(); };
  sources.tags = visit_tags;
  sources.counters = visit_counters;
  sources.sources = visit_sources;
  sources.blocks = visit_blocks;
  sources.frames = [](StackId id) noexcept { return frames_of(id); };
  sources.events = visit_events;
  return sources;
}

}  // namespace forebay::detail
