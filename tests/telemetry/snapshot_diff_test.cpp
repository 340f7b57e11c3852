#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "telemetry/snapshot_samples.hpp"

namespace forebay {
namespace {

using namespace forebay::literals;
using testing::small_snapshot;

const SnapshotChange* find(const std::vector<SnapshotChange>& changes, std::string_view what,
                           std::string_view name) {
  for (const SnapshotChange& change : changes) {
    if (change.what == what && change.name == name) return &change;
  }
  return nullptr;
}

TEST(SnapshotDiff, OfTheSameSnapshotIsNothing) {
  EXPECT_TRUE(diff(small_snapshot(), small_snapshot()).empty());
  EXPECT_TRUE(diff({}, {}).empty());
}

TEST(SnapshotDiff, NamesWhatChangedMostGrownFirst) {
  const Snapshot before = small_snapshot();
  Snapshot after = before;
  after.tags[1].live = 900_MiB;
  after.tags[1].live_blocks = 5;
  after.tags[2].live = 1_MiB;
  after.budgets[1].used = 650_MiB;
  after.pools[0].stats.live = 800_MiB;
  after.blocks[1].weight_bytes += 10;
  const std::vector<SnapshotChange> changes = diff(before, after);
  ASSERT_EQ(changes.size(), 5U);
  EXPECT_EQ(changes[0].what, "tag");
  EXPECT_EQ(changes[0].name, "decoder/cache of tenant 1");
  EXPECT_EQ(changes[0].before_bytes, 600.0 * (1 << 20));
  EXPECT_EQ(changes[0].after_bytes, 900.0 * (1 << 20));
  EXPECT_EQ(changes[0].before_blocks, 3);
  EXPECT_EQ(changes[0].after_blocks, 5);
  EXPECT_EQ(changes[1].what, "pool");
  EXPECT_EQ(changes[2].name, "process/cache");
  EXPECT_EQ(changes[3].what, "site");
  EXPECT_EQ(changes[3].name, "grow_cache(int)");
  EXPECT_LT(changes[4].after_bytes, changes[4].before_bytes);
}

TEST(SnapshotDiff, WhatIsInOneAloneIsNothingInTheOther) {
  const std::vector<SnapshotChange> all = diff({}, small_snapshot());
  const SnapshotChange* const gained = find(all, "pool", "tensors");
  ASSERT_NE(gained, nullptr);
  EXPECT_EQ(gained->before_bytes, 0);
  const std::vector<SnapshotChange> gone = diff(small_snapshot(), {});
  const SnapshotChange* const lost = find(gone, "site", "main");
  ASSERT_NE(lost, nullptr) << "the inner frame has no name";
  EXPECT_EQ(lost->after_blocks, 0);
}

TEST(SnapshotDiff, SitesOfTwoRunsMeetByName) {
  Snapshot moved = small_snapshot();
  moved.modules[0].base += 4096;
  for (auto& stack : moved.stacks) {
    for (SnapshotFrame& frame : stack) frame.offset += 16;  // another build
  }
  EXPECT_TRUE(diff(small_snapshot(), moved).empty());
}

TEST(LiveOf, GroupsByTagOwnerSourceAndStackLargestFirst) {
  const LeakReport report = live_of(small_snapshot());
  ASSERT_EQ(report.groups.size(), 3U);
  const LeakGroup& largest = report.groups[0];
  EXPECT_EQ(largest.tag, "decoder/cache");
  EXPECT_EQ(largest.owner, "tenant 1");
  EXPECT_EQ(largest.source, "tensors");
  EXPECT_EQ(largest.stack, 1U);
  EXPECT_EQ(largest.bytes, 500.0 * (1 << 20));
  EXPECT_EQ(largest.blocks, 2);
  EXPECT_EQ(largest.oldest, std::chrono::milliseconds{3600250});
  EXPECT_TRUE(largest.exact);
  EXPECT_FALSE(report.groups[2].exact) << "a sample";
  EXPECT_FALSE(report.exact);
  EXPECT_EQ(report.suppressed, 0U);
}

TEST(LiveOf, BlocksThatASampleStandsForDoNotCountAgain) {
  Snapshot snapshot = small_snapshot();
  snapshot.blocks[0].weight_bytes = snapshot.blocks[0].weight_blocks = 0;
  EXPECT_EQ(live_of(snapshot).groups[0].blocks, 1);
  for (SnapshotBlock& block : snapshot.blocks) block.weight_bytes = block.weight_blocks = 0;
  const LeakReport all = live_of(snapshot);
  EXPECT_EQ(all.groups[0].blocks, 2) << "without records each stands for itself";
  EXPECT_TRUE(all.exact);
}

TEST(LiveOf, LeavesOutWhatIsSuppressedByTheSnapshotsOwnNames) {
  const auto groups_left = [](std::string_view rules) {
    const LeakReport report =
        live_of(small_snapshot(), Suppressions::parse(rules, "rules").value());
    EXPECT_EQ(report.groups.size() + report.suppressed, 3U);
    return report.groups.size();
  };
  EXPECT_EQ(groups_left("tag:decoder/cache\n"), 1U);
  EXPECT_EQ(groups_left("function:grow_*\n"), 2U);
  EXPECT_EQ(groups_left("module:*/model\n"), 1U);
  EXPECT_EQ(groups_left("source:scratch\n"), 2U);
  EXPECT_EQ(groups_left("owner:tenant ?\n"), 1U);
  EXPECT_EQ(groups_left("function:nothing\n"), 3U);
}

TEST(LiveOf, ImpossibleAgesAndWeightsAreSurvived) {
  Snapshot snapshot = small_snapshot();
  snapshot.blocks[0].age_seconds = 1e300;
  snapshot.blocks[0].weight_bytes = 1.7e308;
  snapshot.blocks[1].weight_bytes = 1.7e308;
  EXPECT_EQ(live_of(snapshot).groups.size(), 3U);
  EXPECT_FALSE(diff(snapshot, small_snapshot()).empty());
}

}  // namespace
}  // namespace forebay
