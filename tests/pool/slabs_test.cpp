// Slabs: blocks of a class are given once, found again, and let their slab go.
#include "pool/slabs.hpp"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>

#include "pool/page_heap.hpp"

namespace forebay::detail {
namespace {

class SlabsTest : public ::testing::Test {
 protected:
  static constexpr std::uint32_t kPages = 8192;

  SlabsTest() {
    EXPECT_TRUE(prepare_directory());
    EXPECT_TRUE(region_.place(64 * kRegionGrain));
    EXPECT_TRUE(heap_.add_region(&region_, ExtentState::warm, 0, kPristine));
  }

  ExtentId add_slab(SizeClass size_class) {
    const ExtentId id = heap_.take_warm(kClasses[size_class].slab_pages, 1, 0);
    EXPECT_NE(id, 0U);
    EXPECT_TRUE(slabs_.add(id, size_class));
    return id;
  }
  ExtentId slab_of(const SmallBlock& block) const {
    return region_.extent_at(reinterpret_cast<std::uintptr_t>(block.address));
  }
  void give(const SmallBlock& block) {
    if (const ExtentId id = slabs_.give(slab_of(block), block.address); id != 0) {
      heap_.give_warm(id);
    }
  }

  ExtentTable extents_{1U << 16};
  std::uint64_t releases_ = 0;
  PageHeap heap_{extents_, releases_};
  Region region_{nullptr, nullptr, kPages* kPage};
  Slabs slabs_{extents_};
};

TEST_F(SlabsTest, GiveEveryBlockOfASlabOnceAndNoMore) {
  for (SizeClass c = 0; c < kSmallClasses; ++c) {
    const ExtentId id = add_slab(c);
    std::set<std::byte*> seen;
    std::vector<SmallBlock> blocks(kClasses[c].slab_blocks + 1);
    const std::uint32_t taken = slabs_.take(0, c, blocks.data(), kClasses[c].slab_blocks + 1);
    ASSERT_EQ(taken, kClasses[c].slab_blocks);
    for (std::uint32_t i = 0; i != taken; ++i) {
      const auto offset = reinterpret_cast<std::uintptr_t>(blocks[i].address) - extents_[id].start;
      ASSERT_EQ(offset % kClasses[c].bytes, 0U);
      ASSERT_LE(offset + kClasses[c].bytes, extents_[id].bytes());
      ASSERT_TRUE(seen.insert(blocks[i].address).second);
      ASSERT_EQ(blocks[i].state->load(), kPristine);
    }
    for (std::uint32_t i = 0; i != taken; ++i) give(blocks[i]);
    EXPECT_EQ(slabs_.take_empty(), id);
    EXPECT_EQ(extents_[id].is(), ExtentState::moving);
    heap_.give_warm(id);
  }
  EXPECT_EQ(heap_.warm_pages(), kPages);
}

TEST_F(SlabsTest, AnEmptySlabGoesUnlessItIsTheLastOfItsClassWithRoom) {
  constexpr SizeClass kClass = 40;
  const ExtentId first = add_slab(kClass);
  std::vector<SmallBlock> blocks(2 * kClasses[kClass].slab_blocks);
  const std::uint32_t each = kClasses[kClass].slab_blocks;
  slabs_.take(0, kClass, blocks.data(), each);
  const ExtentId second = add_slab(kClass);
  slabs_.take(0, kClass, blocks.data() + each, each);
  for (std::uint32_t i = 0; i != each; ++i) {
    EXPECT_EQ(slabs_.give(first, blocks[i].address), 0U) << "the only one with room stays";
  }
  for (std::uint32_t i = 0; i + 1 != each; ++i) {
    EXPECT_EQ(slabs_.give(second, blocks[each + i].address), 0U);
  }
  EXPECT_EQ(slabs_.give(second, blocks[2 * each - 1].address), second);
  heap_.give_warm(second);
  heap_.give_warm(slabs_.take_empty());
  EXPECT_EQ(slabs_.take_empty(), 0U);
}

TEST_F(SlabsTest, ASlabThatGoesShowsWhatItsBlocksShowed) {
  constexpr SizeClass kClass = 60;
  const auto soil_of_slab_with = [&](Soil a, Soil b) {
    add_slab(kClass);
    SmallBlock two[2];
    EXPECT_EQ(slabs_.take(0, kClass, two, 2), 2U);
    two[0].state->store(a);
    two[1].state->store(b);
    give(two[0]);
    give(two[1]);
    const ExtentId id = slabs_.take_empty();
    const Soil soil = extents_[id].soil;
    extents_[id].soil = kPristine;
    heap_.give_warm(id);
    return soil;
  };
  EXPECT_EQ(soil_of_slab_with(kPristine, kPristine), kPristine);
  EXPECT_EQ(soil_of_slab_with(kPristine, 3), 3);
  EXPECT_EQ(soil_of_slab_with(3, kPristine), 3);
  EXPECT_EQ(soil_of_slab_with(3, 3), 3);
  EXPECT_EQ(soil_of_slab_with(3, 4), kMixed);
  EXPECT_EQ(soil_of_slab_with(kMixed, 4), kMixed);
}

TEST_F(SlabsTest, BookkeepingOfASlabThatWentServesTheNext) {
  for (int i = 0; i < 100; ++i) {
    add_slab(0);
    heap_.give_warm(slabs_.take_empty());
  }
  const Bytes one = slabs_.used();
  add_slab(0);
  EXPECT_EQ(slabs_.used(), one);
}

TEST_F(SlabsTest, RandomUseKeepsCountsAndGivesEveryBlockOnce) {
  std::mt19937 random{11};
  std::map<std::byte*, SmallBlock> held;
  for (int step = 0; step < 20'000; ++step) {
    const auto c = static_cast<SizeClass>(random() % 4 * 20);
    if (random() % 2 == 0 && held.size() < 3000) {
      SmallBlock blocks[32];
      std::uint32_t taken = slabs_.take(0, c, blocks, 1 + random() % 32);
      if (taken == 0) add_slab(c);
      for (; taken != 0; --taken) {
        ASSERT_TRUE(held.emplace(blocks[taken - 1].address, blocks[taken - 1]).second);
      }
    } else if (!held.empty()) {
      auto it = held.lower_bound(
          std::next(held.begin(), static_cast<std::ptrdiff_t>(random() % held.size()))->first);
      give(it->second);
      held.erase(it);
    }
    if (step % 500 == 0) {
      for (const auto& [address, block] : held) {
        std::uint64_t live = 0;
        std::uint64_t in_hand = 0;
        Slabs::validate(extents_[slab_of(block)], live, in_hand);
        ASSERT_EQ(live, 0U);
        ASSERT_GE(in_hand, 1U);
      }
    }
  }
  for (const auto& [address, block] : held) give(block);
  for (ExtentId id = slabs_.take_empty(); id != 0; id = slabs_.take_empty()) heap_.give_warm(id);
  EXPECT_EQ(heap_.warm_pages(), kPages);
}

}  // namespace
}  // namespace forebay::detail
