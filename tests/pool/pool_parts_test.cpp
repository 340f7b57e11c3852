// The small parts of a pool: records, regions and their directory, retention.
#include <gtest/gtest.h>

#include <random>
#include <set>

#include "pool/record_table.hpp"
#include "pool/region.hpp"
#include "pool/retention.hpp"

namespace forebay::detail {
namespace {

using namespace std::chrono_literals;

struct Record {
  std::uint32_t next = 0;
  std::uint32_t value = 0;
};

TEST(RecordTable, GivesEveryNumberOnceAndZeroWhenThereAreNoMore) {
  RecordTable<Record> table{8};
  std::set<std::uint32_t> seen;
  for (int i = 0; i < 7; ++i) {
    EXPECT_TRUE(table.has_room(1));
    EXPECT_TRUE(seen.insert(table.make()).second);
  }
  EXPECT_EQ(seen.count(0), 0U);
  EXPECT_FALSE(table.has_room(1));
  EXPECT_EQ(table.make(), 0U);
  table.drop(3);
  EXPECT_TRUE(table.has_room(1));
  EXPECT_FALSE(table.has_room(2));
  EXPECT_EQ(table.make(), 3U);
}

TEST(RecordTable, ARecordIsFreshWhenMadeAndStaysWhereItIs) {
  RecordTable<Record> table{1000};
  const std::uint32_t first = table.make();
  table[first].value = 42;
  Record* const place = &table[first];
  for (int i = 0; i < 900; ++i) table.make();
  EXPECT_EQ(&table[first], place);
  EXPECT_EQ(table[first].value, 42U);
  EXPECT_EQ(table.id_of(*place), first);
  table.drop(first);
  EXPECT_EQ(table.make(), first);
  EXPECT_EQ(table[first].value, 0U);
}

TEST(RecordTable, TakesMemoryOnlyForRecordsThatWereMade) {
  RecordTable<Record> table{1U << 26};
  table.make();
  EXPECT_LE(table.used(), Bytes{3 * sizeof(Record)});
}

TEST(RegionDirectory, FindsARegionFromEveryAddressOfItAndNoOther) {
  ASSERT_TRUE(prepare_directory());
  constexpr std::uintptr_t kBase = 5 * kRegionGrain;  // nobody's: the first pages are never mapped
  {
    Region region{nullptr, nullptr, 3 * kRegionGrain};
    EXPECT_EQ(region_of(kBase), nullptr) << "not before it has a place";
    ASSERT_TRUE(region.place(kBase));
    EXPECT_EQ(region_of(kBase - 1), nullptr);
    EXPECT_EQ(region_of(kBase), &region);
    EXPECT_EQ(region_of(region.end() - 1), &region);
    EXPECT_EQ(region_of(region.end()), nullptr);
    EXPECT_EQ(region.page_of(kBase + 2 * kPage + 1), 2U);
    region.extent_at(region.end() - 1) = 7;
    EXPECT_EQ(region.extent_at(region.end() - kPage), 7U);
  }
  EXPECT_EQ(region_of(kBase), nullptr);
}

TEST(RegionDirectory, CoversTheAddressesOfAProcessAndNoMore) {
  ASSERT_TRUE(prepare_directory());
  constexpr std::uintptr_t kEnd = 1ULL << 48;
  EXPECT_EQ(region_of(kEnd), nullptr);
  EXPECT_EQ(region_of(~std::uintptr_t{0}), nullptr);
  Region region{nullptr, nullptr, kRegionGrain};
  EXPECT_FALSE(region.place(kEnd));
  EXPECT_FALSE(region.place(kEnd - kPage)) << "its end would be beyond";
}

class RetentionTest : public ::testing::Test {
 protected:
  // Pages worth holding, `after` later, with `now` in use.
  std::uint64_t held_after(Duration after, std::uint64_t now) {
    time_ += after;
    return retention_.most_used(Clock::TimePoint{time_}, now);
  }
  Duration time_{1h};
  Retention retention_{80s};
};

TEST_F(RetentionTest, HoldsWhatWasUsedForTheTtlAndAtMostAnEighthLonger) {
  EXPECT_EQ(held_after(0s, 100), 100U);
  Duration passed{};
  for (; held_after(1s, 10) == 100; passed += 1s) ASSERT_LT(passed, 200s);
  EXPECT_GE(passed, 79s);
  EXPECT_LE(passed, 91s);
}

TEST_F(RetentionTest, HoldsABurstBetweenTwoRoundsFromTheLaterOne) {
  held_after(0s, 10);
  retention_.note(500);
  EXPECT_EQ(held_after(5s, 20), 500U);
  EXPECT_EQ(held_after(79s, 20), 500U);
  EXPECT_EQ(held_after(12s, 20), 20U);
}

TEST_F(RetentionTest, ForgetsAllAfterALongSilence) {
  held_after(0s, 1000);
  EXPECT_EQ(held_after(24h, 7), 1000U) << "what was in use until this round counts as used now";
  EXPECT_EQ(held_after(24h, 7), 7U);
}

TEST_F(RetentionTest, NeverHoldsLessThanWhatIsInUse) {
  std::mt19937 random{3};
  for (int i = 0; i < 1000; ++i) {
    const std::uint64_t now = random() % 1000;
    ASSERT_GE(held_after(Duration{random() % 40'000'000'000}, now), now);
  }
}

TEST(Retention, OfNoTimeHoldsOnlyWhatIsInUse) {
  Retention retention{Duration{0}};
  retention.note(100);
  EXPECT_EQ(retention.most_used(Clock::TimePoint{}, 5), 5U);
}

TEST(Retention, WorksWithTheShortestTimeThereIs) {
  Retention retention{Duration{1}};
  EXPECT_EQ(retention.most_used(Clock::TimePoint{Duration{100}}, 50), 50U);
  EXPECT_EQ(retention.most_used(Clock::TimePoint{Duration{101}}, 5), 50U);
  EXPECT_EQ(retention.most_used(Clock::TimePoint{Duration{1000}}, 5), 5U);
}

}  // namespace
}  // namespace forebay::detail
