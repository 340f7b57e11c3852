#include "cache/simulated_cache.hpp"

#include <gtest/gtest.h>

#include <unordered_set>

#include "requests.hpp"

namespace forebay::testing {
namespace {

using detail::CacheCounts;
using detail::PolicyKind;
using detail::SimulatedCache;

TEST(SimulatedCache, CountsWhatItIsAskedFor) {
  SimulatedCache cache(PolicyKind::lru, {.capacity = 100});
  EXPECT_FALSE(cache.request({.key = 1, .bytes = 60, .cost = 5}));
  EXPECT_TRUE(cache.request({.key = 1, .bytes = 60, .cost = 5}));
  EXPECT_FALSE(cache.request({.key = 2, .bytes = 50, .cost = 7}));    // for which 1 goes
  EXPECT_FALSE(cache.request({.key = 3, .bytes = 101, .cost = 11}));  // too large
  const CacheCounts& counts = cache.counts();
  EXPECT_EQ(counts.requests, 4U);
  EXPECT_EQ(counts.hits, 1U);
  EXPECT_EQ(counts.bytes_requested, 60U + 60 + 50 + 101);
  EXPECT_EQ(counts.bytes_missed, 60U + 50 + 101);
  EXPECT_EQ(counts.evictions, 1U);
  EXPECT_EQ(counts.refused, 1U);
  EXPECT_DOUBLE_EQ(counts.cost_requested, 28);
  EXPECT_DOUBLE_EQ(counts.cost_missed, 23);
  EXPECT_EQ(cache.used(), 50U);
  EXPECT_EQ(cache.entries(), 1U);
  EXPECT_TRUE(cache.contains(2));
}

TEST(SimulatedCache, ChargesNothingAsOne) {
  SimulatedCache cache(PolicyKind::fifo, {.capacity = 2});
  for (std::uint64_t key = 0; key < 5; ++key) cache.request({.key = key, .bytes = 0});
  EXPECT_EQ(cache.entries(), 2U);
  EXPECT_EQ(cache.counts().bytes_requested, 0U);
}

TEST(SimulatedCache, RefusesWhatIsWorthLessThanAllItHas) {
  SimulatedCache cache(PolicyKind::utility, {.capacity = 2});
  cache.request({.key = 1, .utility = 2});
  cache.request({.key = 2, .utility = 3});
  cache.request({.key = 3, .utility = 1});
  EXPECT_FALSE(cache.contains(3));
  EXPECT_EQ(cache.counts().refused, 1U);
  cache.request({.key = 4, .utility = 2});
  EXPECT_TRUE(cache.contains(4)) << "newer than its equal";
  EXPECT_FALSE(cache.contains(1));
}

TEST(SimulatedCache, TakesAnyKey) {
  SimulatedCache cache(PolicyKind::lru, {.capacity = 1000});
  std::unordered_set<std::uint64_t> keys;
  for (std::uint64_t bit = 0; bit < 64; ++bit) keys.insert(std::uint64_t{1} << bit);
  for (std::uint64_t low = 0; low < 64; ++low) keys.insert(~low);
  keys.insert(0);
  for (const std::uint64_t key : keys) EXPECT_FALSE(cache.request({.key = key}));
  for (const std::uint64_t key : keys) EXPECT_TRUE(cache.request({.key = key}));
}

TEST(SimulatedCache, MovesWithItsContents) {
  SimulatedCache cache(PolicyKind::lru, {.capacity = 10});
  cache.request({.key = 1});
  SimulatedCache other = std::move(cache);
  EXPECT_TRUE(other.request({.key = 1}));
}

TEST(SimulatedCacheDeathTest, NeedsACapacityAndAPolicy) {
  EXPECT_DEATH(SimulatedCache(PolicyKind::lru, {.capacity = 0}), "capacity");
  EXPECT_DEATH(SimulatedCache(PolicyKind::automatic, {.capacity = 1}), "kind of policy");
}

}  // namespace
}  // namespace forebay::testing
