// What the tracker shows to a handler of signals.
#include <cmath>

#include "telemetry/crash.hpp"
#include "track/context.hpp"
#include "track/records.hpp"
#include "track/stack.hpp"
#include "track/timeline.hpp"

namespace forebay::detail {
namespace {

// Names alone: sums are spread over threads and pools, behind their locks.
void visit_tags(CrashVisitor<CrashTag> visit) {
  const ContextId used = contexts_used();
  for (ContextId id = 0; id < used; ++id) {
    const ContextName name = name_of(id);
    CrashTag tag;
    tag.id = id;
    tag.tag = name.tag;
    tag.owner = name.owner;
    if (!visit(tag)) return;
  }
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
  if (walk.full || (record.tag & kRecorded) == 0) return;
  LiveBlock block;
  block.address = record.facts.address;
  block.bytes = Bytes{record.facts.bytes};
  block.source = record.facts.subject;
  block.tag = record.facts.context;
  block.stack = record.record.stack;
  block.born = record.record.born * kBornUnit;
  block.weight_bytes = static_cast<double>(record.facts.bytes);
  block.weight_blocks = 1;
  if ((record.tag & kFull) == 0) weigh_sample(block, record.record.bytes);
  walk.full = !walk.visit(block);
}

void visit_blocks(CrashVisitor<LiveBlock> visit) {
  BlockWalk walk{visit};
  visit_records_unlocked(show_record, &walk);
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
  sources.sources = visit_sources;
  sources.blocks = visit_blocks;
  sources.frames = [](StackId id) noexcept { return frames_of(id); };
  sources.events = visit_events;
  return sources;
}

}  // namespace forebay::detail
