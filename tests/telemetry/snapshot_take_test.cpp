#include <gtest/gtest.h>
#include <unistd.h>

#include <ctime>
#include <string>

#include "forebay/pool.hpp"
#include "support/folder.hpp"
#include "telemetry/crash.hpp"
#include "telemetry/process.hpp"
#include "telemetry/snapshot_json.hpp"
#include "telemetry/snapshot_samples.hpp"
#include "track/context.hpp"
#include "track/timeline.hpp"

namespace forebay {
namespace {

using namespace forebay::literals;
using testing::TestFolder;

void set_grade(TrackingGrade grade) {
  TrackerOptions options;
  options.grade = grade;
  Tracker::set_options(options).throw_if_error();
}

const TagStats* find_tag(const Snapshot& snapshot, std::string_view tag) {
  for (const TagStats& stats : snapshot.tags) {
    if (stats.tag == tag) return &stats;
  }
  return nullptr;
}

TEST(SnapshotTake, SeesBlocksWithTagSourceStackAndAge) {
  set_grade(TrackingGrade::full);
  const auto pool = Pool::create(Device::host(), {.name = "take"});
  const TagScope scope{"take/blocks"};
  const Buffer buffer = pool->acquire(3_MiB).value();
  const Snapshot snapshot = Snapshot::take();
  const auto is_ours = [&](const SnapshotBlock& block) {
    return block.address == reinterpret_cast<std::uintptr_t>(buffer.data());
  };
  const auto block = std::ranges::find_if(snapshot.blocks, is_ours);
  ASSERT_NE(block, snapshot.blocks.end());
  EXPECT_EQ(block->bytes, (3_MiB).count());
  EXPECT_EQ(snapshot.sources[block->pool], "take");
  EXPECT_EQ(snapshot.tags[block->tag].tag, "take/blocks");
  EXPECT_GE(block->age_seconds, 0);
  EXPECT_EQ(block->weight_blocks, 1);
  ASSERT_NE(block->stack, 0U);
  const auto& stack = snapshot.stacks[block->stack - 1];
  ASSERT_FALSE(stack.empty());
  EXPECT_TRUE(std::ranges::any_of(stack, [](const SnapshotFrame& frame) {
    return frame.function.find("SeesBlocksWithTagSourceStackAndAge") != std::string::npos;
  }));
  ASSERT_NE(stack[0].module, 0U);
  EXPECT_FALSE(snapshot.modules[stack[0].module - 1].path.empty());
}

TEST(SnapshotTake, SaysWhatTheProcessHolds) {
  set_grade(TrackingGrade::counters);
  Budget budget{"taken", {.limit = 64_MiB}};
  const auto pool = Pool::create(budget.meter(Device::host()), {.name = "pooled"});
  const TagScope scope{"take/holds"};
  const Buffer buffer = pool->acquire(5_MiB).value();
  Snapshot::Options options;
  options.reason = "a test";
  const Snapshot snapshot = Snapshot::take(options);
  EXPECT_EQ(snapshot.pid, ::getpid());
  EXPECT_EQ(snapshot.reason, "a test");
  EXPECT_EQ(snapshot.grade, "counters");
  EXPECT_TRUE(snapshot.complete);
  EXPECT_GT(snapshot.resident_bytes, 100'000U);
  ASSERT_FALSE(snapshot.devices.empty());
  EXPECT_GT(snapshot.devices[0].capacity_bytes, snapshot.devices[0].free_bytes);
  const auto taken = std::ranges::find(snapshot.budgets, "taken", &BudgetStats::path);
  ASSERT_NE(taken, snapshot.budgets.end());
  EXPECT_GE(taken->used, 5_MiB);
  const auto pooled = std::ranges::find(snapshot.pools, "pooled", &SnapshotPool::name);
  ASSERT_NE(pooled, snapshot.pools.end());
  EXPECT_EQ(pooled->stats.live_blocks, 1U);
  const auto index = static_cast<std::uint32_t>(pooled - snapshot.pools.begin());
  EXPECT_TRUE(std::ranges::any_of(snapshot.segments, [&](const SnapshotSegment& segment) {
    return segment.pool == index && segment.bytes >= (5_MiB).count();
  }));
  const TagStats* const tag = find_tag(snapshot, "take/holds");
  ASSERT_NE(tag, nullptr);
  EXPECT_GE(tag->live, 5_MiB);
  for (const StatisticsGroup& group : snapshot.statistics) {
    EXPECT_TRUE(group.kind != "pool" && group.kind != "budget" && group.kind != "device");
  }
}

TEST(SnapshotTake, SamplesStandForTheRestAndNothingCountsTwice) {
  TrackerOptions options;
  options.sample_interval = 64_KiB;
  options.grade = TrackingGrade::sampled;
  ASSERT_TRUE(Tracker::set_options(options).ok());
  const auto pool = Pool::create(Device::host(), {.name = "sampled"});
  const TagScope scope{"take/sampled"};
  std::vector<Buffer> buffers;
  for (int i = 0; i < 20'000; ++i) buffers.push_back(pool->acquire(1_KiB).value());
  double weighed = 0;
  std::size_t samples = 0;
  const Snapshot snapshot = Snapshot::take();
  for (const SnapshotBlock& block : snapshot.blocks) {
    if (snapshot.sources[block.pool] != "sampled") continue;
    weighed += block.weight_bytes;
    samples += block.weight_bytes > 0 ? 1 : 0;
    EXPECT_EQ(block.weight_bytes > 0, block.stack != 0);
  }
  EXPECT_GT(samples, 100U);
  EXPECT_LT(samples, 1000U);
  EXPECT_NEAR(weighed, 20'000 * 1024.0, 0.5 * 20'000 * 1024);
}

TEST(SnapshotTake, HasTheTimelineWithItsTags) {
  ASSERT_TRUE(Timeline::start().ok());
  Timeline::mark("here");
  const detail::ContextId tag = detail::context_in(0, "take/timed");
  detail::record_event(EventKind::allocate, detail::subject("timed"), 1_MiB, 4096, tag);
  const Snapshot snapshot = Snapshot::take();
  Timeline::stop();
  EXPECT_TRUE(std::ranges::any_of(snapshot.events, [](const SnapshotEvent& event) {
    return event.kind == "mark" && event.subject == "here";
  }));
  EXPECT_TRUE(std::ranges::any_of(snapshot.events, [&](const SnapshotEvent& event) {
    return event.kind == "allocate" && event.tag != 0 &&
           snapshot.tags[event.tag - 1].tag == "take/timed";
  }));
}

TEST(SnapshotTake, LeavesOutWhatIsNotWanted) {
  Snapshot::Options options;
  options.blocks = options.timeline = options.symbols = false;
  const Snapshot snapshot = Snapshot::take(options);
  EXPECT_TRUE(snapshot.blocks.empty());
  EXPECT_TRUE(snapshot.events.empty());
  EXPECT_FALSE(snapshot.tags.empty());
}

TEST(SnapshotTake, WhatIsTakenIsWrittenAndReadAsItIs) {
  set_grade(TrackingGrade::full);
  const auto pool = Pool::create(Device::host(), {.name = "round"});
  const Buffer buffer = pool->acquire(1_MiB).value();
  const Snapshot taken = Snapshot::take();
  const Result<Snapshot> read = detail::parse_snapshot(detail::snapshot_json(taken), "x");
  ASSERT_TRUE(read.ok()) << read.status().message();
  EXPECT_TRUE(*read == taken);
}

TEST(SnapshotTake, ARefusalLeavesASnapshotInItsFolder) {
  const TestFolder folder;
  ASSERT_TRUE(detail::write_refusal_snapshot(folder.path()).ok());
  const std::string name = "forebay-" + std::to_string(::getpid()) + "-refusal.json";
  EXPECT_EQ(read_snapshot(folder / name).value().reason, "refusal");
}

TEST(UtcText, IsWhatTheSystemSays) {
  for (std::int64_t seconds = -30'000'000'000; seconds < 250'000'000'000; seconds += 123'456'789) {
    const auto time = static_cast<std::time_t>(seconds);
    std::tm parts{};
    ::gmtime_r(&time, &parts);
    char text[64];
    ASSERT_GT(std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts), 0U);
    ASSERT_EQ(detail::UtcText{seconds}.view(), text) << seconds;
  }
}

}  // namespace
}  // namespace forebay
