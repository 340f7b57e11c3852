// The keys of a snapshot's file, once: writer, reader and the crash handler's test go by these.
//
// Fields<T>::visit(visit, value) calls visit(key, member) for each member of an object;
// Columns<Row>::visit(visit) calls visit(key, pointer to member) for each column of a table. An
// object has all of its keys, a table all of its columns; keys are added, never renamed.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "forebay/telemetry.hpp"

namespace forebay::detail {

// The first two keys of a file, in this order.
inline constexpr std::string_view kFormatKey = "format";
inline constexpr std::string_view kSnapshotFormat = "forebay snapshot";
inline constexpr std::string_view kVersionKey = "version";

// ---- What a file has in another form than Snapshot: each text and each frame once.

struct FrameRow {
  std::uint32_t module = 0;  // as SnapshotFrame
  std::uint64_t offset = 0;
  std::uint32_t function = 0;  // index in FrameTable::functions, plus one; 0: not named
};

struct FrameTable {
  std::vector<std::string> functions;
  std::vector<FrameRow> frames;
};

// Indices in FrameTable::frames, innermost first.
using StackIndices = std::vector<std::vector<std::uint32_t>>;

struct EventRow {
  std::uint32_t kind = 0;     // index in EventTable::kinds
  std::uint32_t subject = 0;  // index in EventTable::subjects
  std::uint32_t tag = 0;
  std::uint32_t thread = 0;
  double seconds = 0;
  std::uint64_t address = 0;
  std::uint64_t bytes = 0;
};

struct EventTable {
  std::vector<std::string> kinds;
  std::vector<std::string> subjects;
  std::vector<EventRow> rows;
};

// A whole file but for its first two keys. `Held` is Snapshot or const Snapshot.
template <typename Held>
struct SnapshotDocument {
  Held& snapshot;
  FrameTable frames;
  StackIndices stacks;
  EventTable events;
};

// Rows that stand in the file column by column.
template <typename Rows>
struct Table {
  Rows& rows;
};
template <typename Rows>
Table(Rows&) -> Table<Rows>;  // clang 14 wants it said

template <typename T>
struct Fields;
template <typename Row>
struct Columns;

template <>
struct Fields<SnapshotDevice> {
  static void visit(auto&& visit, auto& device) {
    visit("name", device.name);
    visit("kind", device.kind);
    visit("capacity_bytes", device.capacity_bytes);
    visit("free_bytes", device.free_bytes);
  }
};

template <>
struct Fields<BudgetStats> {
  static void visit(auto&& visit, auto& budget) {
    visit("path", budget.path);
    visit("limit_bytes", budget.limit);
    visit("guarantee_bytes", budget.guarantee);
    visit("used_bytes", budget.used);
    visit("charged_bytes", budget.charged);
    visit("peak_bytes", budget.peak);
    visit("available_bytes", budget.available);
    visit("denials_total", budget.denials);
    visit("warnings_total", budget.warnings);
    visit("pressure", budget.pressure);
    visit("shrinking", budget.shrinking);
  }
};

template <>
struct Fields<PoolStats> {
  static void visit(auto&& visit, auto& pool) {
    visit("reserved_bytes", pool.reserved);
    visit("live_bytes", pool.live);
    visit("idle_bytes", pool.idle);
    visit("largest_free_bytes", pool.largest_free);
    visit("metadata_bytes", pool.metadata);
    visit("peak_live_bytes", pool.peak_live);
    visit("peak_reserved_bytes", pool.peak_reserved);
    visit("live_blocks", pool.live_blocks);
    visit("acquires_total", pool.acquires);
    visit("hits_total", pool.hits);
    visit("misses_total", pool.misses);
    visit("refused_total", pool.refused);
    visit("requested_bytes_total", pool.requested_total);
    visit("handed_out_bytes_total", pool.handed_out_total);
  }
};

template <>
struct Fields<SnapshotPool> {
  static void visit(auto&& visit, auto& pool) {
    visit("name", pool.name);
    visit("upstream", pool.upstream);
    visit("stats", pool.stats);
  }
};

template <>
struct Fields<StatisticsGroup> {
  static void visit(auto&& visit, auto& group) {
    visit("kind", group.kind);
    visit("name", group.name);
    visit("values", group.statistics);
  }
};

template <>
struct Fields<TagStats> {
  static void visit(auto&& visit, auto& tag) {
    visit("tag", tag.tag);
    visit("owner", tag.owner);
    visit("live_bytes", tag.live);
    visit("live_blocks", tag.live_blocks);
    visit("allocated_bytes_total", tag.allocated);
    visit("allocations_total", tag.allocations);
  }
};

template <>
struct Fields<SnapshotModule> {
  static void visit(auto&& visit, auto& module) {
    visit("path", module.path);
    visit("build_id", module.build_id);
    visit("base", module.base);
  }
};

template <>
struct Fields<FrameTable> {
  static void visit(auto&& visit, auto& table) {
    visit("functions", table.functions);
    visit("rows", Table{table.frames});
  }
};

template <>
struct Fields<EventTable> {
  static void visit(auto&& visit, auto& table) {
    visit("kinds", table.kinds);
    visit("subjects", table.subjects);
    visit("rows", Table{table.rows});
  }
};

template <typename Held>
struct Fields<SnapshotDocument<Held>> {
  static void visit(auto&& visit, auto& document) {
    auto& snapshot = document.snapshot;
    visit("program", snapshot.program);
    visit("pid", snapshot.pid);
    visit("taken_at", snapshot.taken_at);
    visit("clock_seconds", snapshot.clock_seconds);
    visit("reason", snapshot.reason);
    visit("complete", snapshot.complete);
    visit("resident_bytes", snapshot.resident_bytes);
    visit("sample_interval_bytes", snapshot.sample_interval_bytes);
    visit("grade", snapshot.grade);
    visit("devices", snapshot.devices);
    visit("budgets", snapshot.budgets);
    visit("pools", snapshot.pools);
    visit("segments", Table{snapshot.segments});
    visit("statistics", snapshot.statistics);
    visit("tags", snapshot.tags);
    visit("sources", snapshot.sources);
    visit("modules", snapshot.modules);
    visit("frames", document.frames);
    visit("stacks", document.stacks);
    visit("blocks", Table{snapshot.blocks});
    visit("events", document.events);
  }
};

template <>
struct Columns<SnapshotSegment> {
  static void visit(auto&& visit) {
    visit("pool", &SnapshotSegment::pool);
    visit("address", &SnapshotSegment::address);
    visit("bytes", &SnapshotSegment::bytes);
  }
};

template <>
struct Columns<FrameRow> {
  static void visit(auto&& visit) {
    visit("module", &FrameRow::module);
    visit("offset", &FrameRow::offset);
    visit("function", &FrameRow::function);
  }
};

template <>
struct Columns<SnapshotBlock> {
  static void visit(auto&& visit) {
    visit("address", &SnapshotBlock::address);
    visit("bytes", &SnapshotBlock::bytes);
    visit("source", &SnapshotBlock::pool);
    visit("tag", &SnapshotBlock::tag);
    visit("stack", &SnapshotBlock::stack);
    visit("age_seconds", &SnapshotBlock::age_seconds);
    visit("weight_bytes", &SnapshotBlock::weight_bytes);
    visit("weight_blocks", &SnapshotBlock::weight_blocks);
  }
};

template <>
struct Columns<EventRow> {
  static void visit(auto&& visit) {
    visit("kind", &EventRow::kind);
    visit("subject", &EventRow::subject);
    visit("tag", &EventRow::tag);
    visit("thread", &EventRow::thread);
    visit("seconds", &EventRow::seconds);
    visit("address", &EventRow::address);
    visit("bytes", &EventRow::bytes);
  }
};

}  // namespace forebay::detail
