// What each policy is for.
#include <gtest/gtest.h>

#include <limits>

#include "cache/simulated_cache.hpp"

namespace forebay::testing {
namespace {

using detail::Objective;
using detail::PolicyKind;
using detail::SimulatedCache;

std::size_t resident(const SimulatedCache& cache, std::uint64_t begin, std::uint64_t end) {
  std::size_t count = 0;
  for (std::uint64_t key = begin; key < end; ++key) count += cache.contains(key) ? 1 : 0;
  return count;
}

// Keys below 50, each asked for ten times; then a thousand others, once.
std::size_t hot_after_a_scan(PolicyKind kind) {
  SimulatedCache cache(kind, {.capacity = 100});
  for (std::uint64_t i = 0; i < 500; ++i) cache.request({.key = i % 50});
  for (std::uint64_t key = 1000; key < 2000; ++key) cache.request({.key = key});
  return resident(cache, 0, 50);
}

TEST(PolicyBehaviour, AScanSweepsQueuesButNotFrequency) {
  EXPECT_EQ(hot_after_a_scan(PolicyKind::lru), 0U);
  EXPECT_EQ(hot_after_a_scan(PolicyKind::fifo), 0U);
  EXPECT_GE(hot_after_a_scan(PolicyKind::wtinylfu), 48U);
}

TEST(PolicyBehaviour, SieveKeepsWhatIsHitInPlaceWhileNewcomersPass) {
  SimulatedCache cache(PolicyKind::sieve, {.capacity = 10});
  for (std::uint64_t key = 0; key < 10; ++key) cache.request({.key = key});
  for (std::uint64_t key = 0; key < 5; ++key) cache.request({.key = key});
  for (std::uint64_t key = 100; key < 150; ++key) cache.request({.key = key});
  EXPECT_EQ(resident(cache, 0, 5), 5U) << "newcomers go at the hand, which has passed these";
  EXPECT_EQ(resident(cache, 5, 10), 0U);
}

TEST(PolicyBehaviour, LfuLetsGoWhatWasPopularOnce) {
  SimulatedCache cache(PolicyKind::lfu, {.capacity = 20});
  for (std::uint64_t i = 0; i < 1000; ++i) cache.request({.key = i % 10});
  EXPECT_EQ(resident(cache, 0, 10), 10U);
  // Twice each, in pairs: the age rises by about one for every cache of newcomers.
  for (std::uint64_t i = 0; i < 20'000; ++i) cache.request({.key = 1000 + i / 2});
  EXPECT_EQ(resident(cache, 0, 10), 0U);
}

TEST(PolicyBehaviour, GdsfHoldsManySmallOrFewDearOnes) {
  SimulatedCache objects(PolicyKind::gdsf, {.capacity = 1000});
  SimulatedCache cost(PolicyKind::gdsf, {.capacity = 1000, .objective = Objective::cost});
  for (std::uint64_t i = 0; i < 100; ++i) {
    for (SimulatedCache* const cache : {&objects, &cost}) {
      cache->request({.key = i % 10, .bytes = 90, .cost = 1e6F});  // large, dear
      cache->request({.key = 1000 + i, .bytes = 10, .cost = 1});   // small, cheap, new
    }
  }
  EXPECT_GT(resident(objects, 1000, 1100), 2 * resident(cost, 1000, 1100));
  EXPECT_EQ(resident(cost, 0, 10), 10U);
}

TEST(PolicyBehaviour, HybridWeighsScoreFrequencyAndCost) {
  SimulatedCache scores(PolicyKind::hybrid, {.capacity = 100});
  for (std::uint64_t key = 0; key < 2000; ++key) {
    scores.request({.key = key, .utility = key < 20 ? 60.0F : 0.0F});
  }
  EXPECT_EQ(resident(scores, 0, 20), 20U);

  SimulatedCache cost(PolicyKind::hybrid, {.capacity = 100, .objective = Objective::cost});
  for (std::uint64_t key = 0; key < 500; ++key) {
    cost.request({.key = key, .cost = key < 20 ? 1e9F : 1.0F});
  }
  EXPECT_EQ(resident(cost, 0, 20), 20U);

  SimulatedCache asked(PolicyKind::hybrid, {.capacity = 100});
  for (std::uint64_t i = 0; i < 4000; ++i) {
    asked.request({.key = i % 20});
    asked.request({.key = 1000 + i});
  }
  EXPECT_EQ(resident(asked, 0, 20), 20U);
}

// No number, no limit, no cost: the order stays an order.
TEST(PolicyBehaviour, StrangeFactsDisturbNoOrder) {
  constexpr float kStrange[] = {std::numeric_limits<float>::quiet_NaN(),
                                std::numeric_limits<float>::infinity(),
                                -std::numeric_limits<float>::infinity(),
                                0,
                                -1,
                                1};
  for (std::size_t i = 0; i + 1 < detail::kPolicyKinds; ++i) {
    const auto kind = static_cast<PolicyKind>(i);
    if (make_policy(kind, {.capacity = 1}) == nullptr) continue;
    SimulatedCache cache(kind, {.capacity = 30, .objective = Objective::cost});
    for (std::uint64_t key = 0; key < 3000; ++key) {
      cache.request({.key = key % 70, .cost = kStrange[key % 6], .utility = kStrange[key % 5]});
      ASSERT_LE(cache.used(), 30U) << to_string(kind);
    }
    std::vector<detail::EntryId> entries;
    cache.policy().order(entries);
    EXPECT_EQ(entries.size(), cache.entries()) << to_string(kind);
  }
}

TEST(PolicyBehaviour, RandomFollowsItsSeed) {
  const auto left = [](std::uint64_t seed) {
    SimulatedCache cache(PolicyKind::random, {.capacity = 50, .seed = seed});
    for (std::uint64_t key = 0; key < 500; ++key) cache.request({.key = key});
    std::uint64_t sum = 0;
    for (std::uint64_t key = 0; key < 500; ++key) sum = sum * 31 + (cache.contains(key) ? key : 0);
    return sum;
  };
  EXPECT_EQ(left(1), left(1));
  EXPECT_NE(left(1), left(2));
}

TEST(PolicyBehaviour, WTinyLfuLetsALargeNewcomerInOnceItIsAskedForMore) {
  SimulatedCache cache(PolicyKind::wtinylfu, {.capacity = 1000});
  for (std::uint64_t i = 0; i < 4; ++i) {
    for (std::uint64_t key = 0; key < 10; ++key) cache.request({.key = key, .bytes = 100});
  }
  cache.request({.key = 99, .bytes = 100});
  EXPECT_FALSE(cache.contains(99)) << "asked for once, the others four times";
  for (int i = 0; i < 5; ++i) cache.request({.key = 99, .bytes = 100});
  EXPECT_TRUE(cache.contains(99));
}

}  // namespace
}  // namespace forebay::testing
