#include "device/address_space.hpp"

#include <gtest/gtest.h>

#include <random>
#include <set>

#include "support/failing_new.hpp"

namespace forebay::detail {
namespace {

using namespace literals;

TEST(AddressSpace, JoinsHolesSoThatARegionCanBeTakenWholeAgain) {
  AddressSpace space{64_KiB};
  const auto whole = space.take(64_KiB, 1_B);
  EXPECT_EQ(space.give(whole), 64_KiB);
  std::vector<std::uintptr_t> parts;
  for (int i = 0; i < 16; ++i) parts.push_back(space.take(4_KiB, 1_B));
  for (const int i : {1, 3, 2, 0, 5, 7, 9, 11, 13, 15, 4, 6, 8, 10, 12, 14}) {
    EXPECT_EQ(space.give(parts[static_cast<std::size_t>(i)]), 4_KiB);
  }
  EXPECT_EQ(space.take(64_KiB, 1_B), whole);
}

TEST(AddressSpace, AlignsAndKeepsWhatItSkipped) {
  AddressSpace space{4_MiB};
  const auto first = space.take(512_B, 512_B);
  const auto aligned = space.take(512_B, kMaxAlignment);
  EXPECT_EQ(aligned % kMaxAlignment.count(), 0U);
  EXPECT_EQ(space.take(512_B, 512_B), first + 512) << "the skipped addresses are a hole";
}

TEST(AddressSpace, ReservesMoreWhenNoHoleFits) {
  AddressSpace space{64_KiB};
  const auto first = space.take(40_KiB, 1_B);
  const auto second = space.take(40_KiB, 1_B);
  const auto large = space.take(1_MiB, kMaxAlignment);
  EXPECT_TRUE(first != 0 && second != 0 && large != 0);
  EXPECT_TRUE(second >= first + (40ULL << 10) || second + (40ULL << 10) <= first);
}

TEST(AddressSpace, HasNoAddressForWhatNoProcessHolds) {
  AddressSpace space{64_KiB};
  EXPECT_EQ(space.take(Bytes{1ULL << 60}, 1_B), 0U);
  EXPECT_EQ(space.take(Bytes::unlimited(), 1_B), 0U);
  EXPECT_NE(space.take(64_KiB, 1_B), 0U);
}

TEST(AddressSpace, ChangesNothingWhenItsBookkeepingCannotBeAllocated) {
  AddressSpace space{1_MiB};
  const auto first = space.take(512_B, 512_B);
  const auto failures = testing::walk_allocation_failures(
      [&] {
        try {
          space.give(space.take(512_B, 64_KiB));  // leaves holes on both sides
        } catch (const std::bad_alloc&) {
        }
      },
      [&] {
        EXPECT_EQ(space.take(512_B, 512_B), first + 512);
        EXPECT_EQ(space.give(first + 512), 512_B);
      });
  EXPECT_EQ(failures, 2U);
}

TEST(AddressSpace, CanBeUsedAfterItsFirstRegionCouldNotBeRecorded) {
  const auto failures = testing::walk_allocation_failures(
      [] {
        AddressSpace space{1_MiB};
        try {
          static_cast<void>(space.take(512_B, 512_B));
        } catch (const std::bad_alloc&) {
          EXPECT_NE(space.take(512_B, 512_B), 0U);
        }
      },
      [] {});
  EXPECT_EQ(failures, 3U);
}

TEST(AddressSpace, NeverOverlapsUnderRandomUse) {
  std::mt19937 random{7};
  AddressSpace space{1_MiB};
  std::map<std::uintptr_t, std::uint64_t> live;
  for (int step = 0; step < 4000; ++step) {
    if (live.size() > 60 || (!live.empty() && random() % 3 == 0)) {
      const auto victim = std::next(live.begin(), static_cast<long>(random() % live.size()));
      ASSERT_EQ(space.give(victim->first).count(), victim->second);
      live.erase(victim);
      continue;
    }
    const std::uint64_t size = 1 + random() % 30000;
    const Bytes alignment{1ULL << (random() % 16)};
    const auto start = space.take(Bytes{size}, alignment);
    ASSERT_EQ(start % alignment.count(), 0U);
    const auto next = live.lower_bound(start);
    ASSERT_TRUE(next == live.end() || start + size <= next->first);
    ASSERT_TRUE(next == live.begin() || std::prev(next)->first + std::prev(next)->second <= start);
    live.emplace(start, size);
  }
}

TEST(AddressSpaceDeathTest, AbortsOnAnAddressThatIsNotTaken) {
  AddressSpace space{64_KiB};
  const auto block = space.take(512_B, 512_B);
  EXPECT_DEATH(space.give(block + 1), "not that of a live block");
  space.give(block);
  EXPECT_DEATH(space.give(block), "not that of a live block");
}

}  // namespace
}  // namespace forebay::detail
