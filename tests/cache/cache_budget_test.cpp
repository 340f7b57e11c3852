// A cache under a budget: charged there, and asked to give back.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "forebay/cache.hpp"

namespace forebay {
namespace {

using namespace forebay::literals;

CacheOptions under(Budget& budget, Bytes most = 8_MiB) {
  CacheOptions options;
  options.max_bytes = most;
  options.budget = &budget;
  return options;
}

TEST(CacheBudget, ChargesWhatItUses) {
  Budget budget{"line", {.limit = 16_MiB}};
  {
    Cache<int, int> cache{under(budget)};
    for (int key = 0; key != 1000; ++key) ASSERT_TRUE(cache.put(key, key));
    EXPECT_EQ(budget.stats().used, cache.stats().used + cache.stats().reserved);
    cache.erase(1);
    EXPECT_EQ(budget.stats().used, cache.stats().used + cache.stats().reserved);
    cache.clear();
    EXPECT_EQ(budget.stats().used, cache.stats().reserved);
    ASSERT_TRUE(cache.put(1, 1));
  }
  EXPECT_EQ(budget.stats().used, 0_B);
  budget.validate();
}

TEST(CacheBudget, GivesBackForOthersLeastWorthFirst) {
  Budget budget{"line", {.limit = 1_MiB}};
  CacheOptions options = under(budget);
  options.policy = "lru";
  options.shards = 1;
  Cache<int, int> cache{options};
  for (int key = 0; key != 10'000; ++key) ASSERT_TRUE(cache.put(key, key));
  EXPECT_TRUE(cache.find(0));
  auto granted = budget.reserve(512_KiB);
  ASSERT_TRUE(granted);
  EXPECT_LE(cache.stats().used, 512_KiB);
  EXPECT_TRUE(cache.find(0));
  EXPECT_FALSE(cache.find(1));
  EXPECT_TRUE(cache.find(9999));
  EXPECT_EQ(budget.stats().used, cache.stats().used + 512_KiB);
  cache.validate();
}

TEST(CacheBudget, MakesRoomForItsOwnPutsAtABudgetsLine) {
  Budget budget{"line", {.limit = 256_KiB}};
  Cache<int, int> cache{under(budget)};
  for (int key = 0; key != 20'000; ++key) ASSERT_TRUE(cache.put(key, key));
  EXPECT_LE(budget.stats().peak, 256_KiB);
  EXPECT_GT(cache.stats().used, 200_KiB);
  cache.validate();
}

TEST(CacheBudget, ARefusalSaysWhoHoldsWhat) {
  Budget budget{"line", {.limit = 64_KiB}};
  Cache<int, int> cache{under(budget)};
  ASSERT_TRUE(cache.put(1, 1));
  const auto held = cache.snapshot();
  auto rest = budget.reserve(budget.available());
  ASSERT_TRUE(rest);
  const auto refused = cache.put(2, 2);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.status().code(), Code::memory_refused);
  ASSERT_NE(refused.status().refusal(), nullptr);
  EXPECT_EQ(cache.stats().entries, 1U);
  EXPECT_EQ(cache.stats().refused, 1U);
  EXPECT_EQ(budget.stats().used, 64_KiB);
  rest->release();
  EXPECT_TRUE(cache.put(2, 2));
}

TEST(CacheBudget, TheLineHoldsWithManyThreads) {
  Budget budget{"line", {.limit = 512_KiB}};
  Cache<int, int> first{under(budget)};
  Cache<int, int> second{under(budget)};
  std::vector<std::thread> threads;
  for (int t = 0; t != 4; ++t) {
    threads.emplace_back([&, t] {
      auto& cache = t % 2 == 0 ? first : second;
      for (int i = 0; i != 3000; ++i) static_cast<void>(cache.put(i * 7 + t, i));
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_LE(budget.stats().peak, 512_KiB);
  EXPECT_EQ(budget.stats().used, first.stats().used + second.stats().used);
  first.validate();
  second.validate();
}

}  // namespace
}  // namespace forebay
