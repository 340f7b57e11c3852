#include "pool/size_class.hpp"

#include <gtest/gtest.h>

#include <set>

namespace forebay::detail {
namespace {

using namespace literals;

TEST(SizeClass, StartsAtSixtyFourBytes) {
  EXPECT_EQ(class_size(1_B), 64_B);
  EXPECT_EQ(class_size(64_B), 64_B);
  EXPECT_EQ(class_size(65_B), 72_B);
}

TEST(SizeClass, HasEightStepsADoubling) {
  for (const std::uint64_t low : {64ULL, 1024ULL, 1ULL << 20}) {
    std::set<Bytes> classes;
    for (std::uint64_t bytes = low + 1; bytes <= 2 * low; bytes += low / 64) {
      classes.insert(class_size(Bytes{bytes}));
    }
    classes.insert(class_size(Bytes{2 * low}));
    EXPECT_EQ(classes.size(), 8U) << low;
  }
}

TEST(SizeClass, WastesLessThanAnEighth) {
  for (std::uint64_t bytes = 65; bytes < (1ULL << 62); bytes += bytes / 37 + 1) {
    const Bytes size = class_size(Bytes{bytes});
    ASSERT_GE(size, Bytes{bytes});
    ASSERT_LT((size - Bytes{bytes}).count() * 8, bytes) << bytes;
  }
}

TEST(SizeClass, IsItsOwnClassAndNeverFalls) {
  Bytes last;
  for (std::uint64_t bytes = 1; bytes < 100'000; ++bytes) {
    const Bytes size = class_size(Bytes{bytes});
    ASSERT_EQ(class_size(size), size);
    ASSERT_GE(size, last);
    last = size;
  }
}

TEST(SizeClass, SaturatesAtTheEndOfTheNumbers) {
  EXPECT_TRUE(class_size(Bytes::unlimited()).is_unlimited());
  EXPECT_TRUE(class_size(Bytes{Bytes::unlimited().count() - 5}).is_unlimited());
}

}  // namespace
}  // namespace forebay::detail
