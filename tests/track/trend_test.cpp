#include "track/trend.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <vector>

namespace forebay::detail {
namespace {

Floors rising() {
  Floors floors{};
  std::iota(floors.begin(), floors.end(), 0.0);
  return floors;
}

int inversions(const Floors& floors) {
  int count = 0;
  for (std::size_t i = 0; i < kFloors; ++i) {
    for (std::size_t j = i + 1; j < kFloors; ++j) count += floors[i] > floors[j] ? 1 : 0;
  }
  return count;
}

TEST(Trend, FloorsAreTheLeastOfEachTwelfth) {
  std::vector<double> values(120);
  for (std::size_t i = 0; i < 120; ++i) values[i] = static_cast<double>(i / 10 * 100 + i % 10);
  values[57] = -3;
  const Floors floors = floors_of(values);
  EXPECT_EQ(floors[0], 0);
  EXPECT_EQ(floors[5], -3);
  EXPECT_EQ(floors[11], 1100);
}

TEST(Trend, SlopeIsTheMedianOfAllPairsAndOutliersDoNotMoveIt) {
  Floors floors = rising();
  EXPECT_EQ(sen_slope(floors), 1);
  floors[3] = 1e9;
  floors[8] = -1e9;
  EXPECT_NEAR(sen_slope(floors), 1, 0.2);
}

TEST(Trend, RisingInOrderIsOneOrderOfAll) {
  EXPECT_NEAR(kendall_p_value(rising()), 1 / 479001600.0, 1e-15);
}

TEST(Trend, TiesLeaveFewerOrders) {
  Floors flat{};
  EXPECT_EQ(kendall_p_value(flat), 1);
  Floors one_step{};
  std::fill(one_step.begin() + 6, one_step.end(), 1.0);
  EXPECT_NEAR(kendall_p_value(one_step), 1 / 924.0, 1e-12);  // 12 over 6
  const Floors five_levels{0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 4, 4};
  EXPECT_NEAR(kendall_p_value(five_levels), 6 * 6 * 2 * 2 * 2 / 479001600.0, 1e-15);
}

TEST(Trend, FallingIsNoRise) {
  Floors falling = rising();
  std::reverse(falling.begin(), falling.end());
  EXPECT_EQ(kendall_p_value(falling), 1);
}

// The definition: the share of all orders with no more inversions.
TEST(Trend, ChanceIsThatOfRandomOrders) {
  std::mt19937 random{1};
  for (int round = 0; round < 5; ++round) {
    Floors floors{};
    for (double& floor : floors) floor = static_cast<double>(random() % 7);
    const int seen = inversions(floors);
    Floors shuffled = floors;
    int as_good = 0;
    constexpr int kTries = 20000;
    for (int i = 0; i < kTries; ++i) {
      std::shuffle(shuffled.begin(), shuffled.end(), random);
      as_good += inversions(shuffled) <= seen ? 1 : 0;
    }
    EXPECT_NEAR(kendall_p_value(floors), as_good / double{kTries}, 0.02);
  }
}

TEST(Trend, TypicalMoveOfABlockAtATimeIsItsSize) {
  std::mt19937 random{1};
  std::poisson_distribution<int> arrivals{3};
  std::vector<double> values{0};
  for (int i = 0; i < 2000; ++i) values.push_back(values.back() + 64.0 * arrivals(random));
  EXPECT_NEAR(typical_move(values), 64, 6);
  EXPECT_EQ(typical_move(std::vector<double>(10, 5.0)), 0);
}

TEST(Trend, WalkThatComesFarIsUnlikely) {
  std::vector<double> up(121);
  std::iota(up.begin(), up.end(), 0.0);
  EXPECT_NEAR(walk_p_value(up), std::exp(-60), 1e-28);
  std::vector<double> both(121);
  for (std::size_t i = 0; i < both.size(); ++i) both[i] = static_cast<double>(i % 2);
  EXPECT_EQ(walk_p_value(both), 1);
  std::reverse(up.begin(), up.end());
  EXPECT_EQ(walk_p_value(up), 1);
}

}  // namespace
}  // namespace forebay::detail
