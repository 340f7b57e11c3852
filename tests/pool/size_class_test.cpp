// Classes of small blocks: what fits, what it wastes, and how a block is found again.
#include "pool/size_class.hpp"

#include <gtest/gtest.h>

namespace forebay::detail {
namespace {

TEST(SizeClass, TheSmallestThatFitsServesEverySize) {
  for (std::uint64_t bytes = 1; bytes <= kSmallMax; ++bytes) {
    const SizeClass size_class = class_of(bytes);
    ASSERT_LT(size_class, kSmallClasses);
    ASSERT_GE(class_bytes(size_class), bytes);
    if (size_class != 0) {
      ASSERT_LT(class_bytes(size_class - 1), bytes) << bytes;
    }
  }
}

TEST(SizeClass, WastesAtMostAnEighthFromTheEvenlySpacedOnesOn) {
  for (std::uint64_t bytes = 1; bytes <= kSmallMax; ++bytes) {
    const std::uint64_t block = class_bytes(class_of(bytes));
    ASSERT_LT(block - bytes, bytes < kEvenlySpaced ? kSmallGrain : bytes / 8 + 1) << bytes;
  }
}

TEST(SizeClass, BlocksGrowFromClassToClass) {
  for (SizeClass c = 1; c < kSmallClasses; ++c) {
    EXPECT_GT(class_bytes(c), class_bytes(c - 1));
    EXPECT_EQ(class_bytes(c) % kSmallGrain, 0U);
  }
  EXPECT_EQ(class_bytes(kSmallClasses - 1), kSmallMax);
}

TEST(SizeClass, TheSmallestThatIsAlignedServesEveryAlignment) {
  for (std::uint64_t alignment = 1; alignment <= kPage; alignment *= 2) {
    for (std::uint64_t bytes = 1; bytes <= kSmallMax; ++bytes) {
      const std::uint64_t block = class_bytes(class_of(bytes, alignment));
      ASSERT_GE(block, bytes);
      ASSERT_TRUE(alignment <= kSmallGrain || block % alignment == 0) << bytes << ' ' << alignment;
      // No smaller class would do.
      for (SizeClass c = class_of(bytes); class_bytes(c) < block; ++c) {
        ASSERT_NE(class_bytes(c) % alignment, 0U) << bytes << ' ' << alignment;
      }
    }
  }
}

TEST(SizeClass, LargeIsWhatIsBiggerOrAlignedBeyondAPage) {
  EXPECT_TRUE(is_small(kSmallMax, kPage));
  EXPECT_FALSE(is_small(kSmallMax + 1, 1));
  EXPECT_FALSE(is_small(1, 2 * kPage));
}

TEST(SizeClass, SlabsHoldEightBlocksOrAreAsLargeAsSlabsGet) {
  for (const ClassLayout& layout : kClasses) {
    const std::uint64_t slab = std::uint64_t{layout.slab_pages} * kPage;
    EXPECT_LE(slab, 256ULL << 10);
    EXPECT_EQ(layout.slab_blocks, slab / layout.bytes);
    EXPECT_GE(layout.slab_blocks, 8U) << layout.bytes;
    EXPECT_LE((slab - std::uint64_t{layout.slab_blocks} * layout.bytes) * 10, slab) << layout.bytes;
  }
}

TEST(SizeClass, FindsTheBlockOfEveryByteOfASlab) {
  for (const ClassLayout& layout : kClasses) {
    const std::uint64_t slab = std::uint64_t{layout.slab_pages} * kPage;
    for (std::uint64_t offset = 0; offset != slab; ++offset) {
      ASSERT_EQ(block_at(layout, offset), offset / layout.bytes) << layout.bytes << ' ' << offset;
    }
  }
}

TEST(SizeClass, PagesAreRoundedUp) {
  EXPECT_EQ(pages_of(1), 1U);
  EXPECT_EQ(pages_of(kPage), 1U);
  EXPECT_EQ(pages_of(kPage + 1), 2U);
}

}  // namespace
}  // namespace forebay::detail
