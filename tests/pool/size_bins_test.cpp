// SizeBins against a list of sizes.
#include "pool/size_bins.hpp"

#include <gtest/gtest.h>

#include <limits>
#include <map>
#include <random>

namespace forebay::detail {
namespace {

class SizeBinsTest : public ::testing::Test {
 protected:
  ExtentId insert(std::uint32_t pages) {
    const ExtentId id = extents_.make();
    extents_[id].pages = pages;
    bins_.insert(id);
    sizes_.emplace(pages, id);
    return id;
  }
  void erase(std::multimap<std::uint32_t, ExtentId>::iterator entry) {
    bins_.erase(entry->second);
    extents_.drop(entry->second);
    sizes_.erase(entry);
  }

  ExtentId find_first(std::uint32_t pages) const {
    return bins_.find_if(pages, [&](ExtentId id) { return extents_[id].pages >= pages; });
  }

  ExtentTable extents_{1U << 16};
  SizeBins bins_{extents_};
  std::multimap<std::uint32_t, ExtentId> sizes_;
};

TEST_F(SizeBinsTest, EmptyBinsHaveNothing) {
  EXPECT_TRUE(bins_.empty());
  EXPECT_EQ(bins_.largest(), 0U);
  EXPECT_EQ(bins_.find(1), 0U);
  EXPECT_EQ(bins_.find(std::numeric_limits<std::uint32_t>::max()), 0U);
}

TEST_F(SizeBinsTest, FindsTheExactSizeAtEveryEdgeOfABin) {
  for (std::uint32_t log = 0; log < 32; ++log) {
    for (const std::uint32_t pages : {(1U << log) - 1, 1U << log, (1U << log) + 1}) {
      if (pages == 0) continue;
      const ExtentId id = insert(pages);
      EXPECT_EQ(find_first(pages), id);
      EXPECT_EQ(bins_.largest(), id);
      if (log < 31) {
        EXPECT_EQ(bins_.find(pages * 2), 0U);
      }
      erase(sizes_.begin());
      EXPECT_TRUE(bins_.empty());
    }
  }
}

std::uint32_t random_pages(std::mt19937& random) {
  const auto log = random() % 32;
  return static_cast<std::uint32_t>(1 + random() % (1ULL << log));
}

// Thorough: what fits is found whenever there is something, within a sixteenth of the best.
// Not thorough: what is found fits, and is missed only if it hides in the request's own bin.
TEST_F(SizeBinsTest, AgreesWithAListOfSizes) {
  std::mt19937 random{1};
  for (int step = 0; step < 40'000; ++step) {
    if (sizes_.size() > 300 || (!sizes_.empty() && random() % 2 == 0)) {
      erase(std::next(sizes_.begin(), static_cast<std::ptrdiff_t>(random() % sizes_.size())));
    } else {
      insert(random_pages(random));
    }
    const std::uint32_t wanted = random_pages(random);
    const auto best = sizes_.lower_bound(wanted);
    const ExtentId thorough = find_first(wanted);
    ASSERT_EQ(thorough != 0, best != sizes_.end()) << wanted;
    if (thorough != 0) {
      const std::uint64_t found = extents_[thorough].pages;
      ASSERT_GE(found, wanted);
      ASSERT_LE(found, std::uint64_t{best->first} + best->first / 16 + 1);
    }
    const ExtentId quick = bins_.find(wanted);
    if (quick != 0) {
      ASSERT_GE(extents_[quick].pages, wanted);
    }
    if (quick == 0) {
      ASSERT_TRUE(best == sizes_.end() || best->first < wanted + wanted / 16 + 1);
    }
    ASSERT_EQ(bins_.empty(), sizes_.empty());
    const ExtentId largest = bins_.largest();
    ASSERT_EQ(largest == 0, sizes_.empty());
    if (largest != 0) {
      const std::uint64_t most = sizes_.rbegin()->first;
      ASSERT_GE(extents_[largest].pages + most / 16 + 1, most);
    }
  }
}

}  // namespace
}  // namespace forebay::detail
