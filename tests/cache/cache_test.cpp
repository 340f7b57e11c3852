// What a cache does for one thread.

#include "forebay/cache.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "support/watched_resource.hpp"

namespace forebay {
namespace {

using namespace forebay::literals;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;

using Numbers = Cache<int, int>;

CacheOptions small(std::uint64_t entries) {
  CacheOptions options;
  options.max_bytes = 1_MiB;
  options.max_entries = entries;
  options.shards = 1;
  return options;
}

std::vector<int> keys_of(Numbers& cache) {
  std::vector<int> keys;
  for (const auto& entry : cache.snapshot()) keys.push_back(entry.key());
  return keys;
}

TEST(Cache, FindsWhatWasPut) {
  Numbers cache;
  EXPECT_FALSE(cache.find(1));
  EXPECT_EQ(cache.put(1, 10).value(), PutOutcome::inserted);
  const auto found = cache.find(1);
  ASSERT_TRUE(found);
  EXPECT_EQ(found.key(), 1);
  EXPECT_EQ(*found, 10);
  EXPECT_FALSE(cache.find(2));
}

TEST(Cache, PutReplacesAndAHandleKeepsTheOldValue) {
  Numbers cache;
  ASSERT_TRUE(cache.put(1, 10));
  auto old = cache.find(1);
  EXPECT_EQ(cache.put(1, 11).value(), PutOutcome::replaced);
  EXPECT_EQ(*old, 10);
  EXPECT_EQ(*cache.find(1), 11);
  const Bytes both = cache.stats().used;
  EXPECT_EQ(cache.stats().leaving, 1U);
  old.reset();
  EXPECT_EQ(cache.stats().used * 2, both);
  EXPECT_EQ(cache.stats().leaving, 0U);
  EXPECT_EQ(cache.put(1, 12).value(), PutOutcome::replaced);
  EXPECT_EQ(*cache.find(1), 12);
  EXPECT_EQ(cache.stats().replaced, 2U);
  cache.validate();
}

TEST(Cache, PutIfAbsentLeavesWhatIsThere) {
  Numbers cache;
  EXPECT_EQ(cache.put_if_absent(1, 10).value(), PutOutcome::inserted);
  EXPECT_EQ(cache.put_if_absent(1, 11).value(), PutOutcome::present);
  EXPECT_EQ(*cache.find(1), 10);
}

TEST(Cache, EraseSaysWhetherItWasThere) {
  Numbers cache;
  ASSERT_TRUE(cache.put(1, 10));
  const auto held = cache.find(1);
  EXPECT_TRUE(cache.erase(1));
  EXPECT_FALSE(cache.erase(1));
  EXPECT_FALSE(cache.find(1));
  EXPECT_EQ(*held, 10);
}

TEST(Cache, LeastRecentlyUsedGoesFirst) {
  Numbers cache{small(3)};
  for (const int key : {1, 2, 3}) ASSERT_TRUE(cache.put(key, key));
  EXPECT_TRUE(cache.find(1));
  ASSERT_TRUE(cache.put(4, 4));
  EXPECT_THAT(keys_of(cache), UnorderedElementsAre(1, 3, 4));
  EXPECT_EQ(cache.stats().evicted, 1U);
}

TEST(Cache, ChargesTheBlockTheWeightAndTheBookkeeping) {
  auto memory = std::make_shared<testing::WatchedResource>();
  using Texts = Cache<int, std::string>;
  CacheOptions options = small(10);
  options.memory = memory;
  Texts cache{options,
              {.weigher = [](int, const std::string& text) { return Bytes{text.capacity() + 1}; }}};
  const std::string text(99, 'x');
  ASSERT_TRUE(cache.put(1, text));
  const Bytes expected = memory->good_size(memory->live(), kDefaultAlignment) +
                         cache_entry_overhead(options.policy) + 100_B;
  EXPECT_GE(cache.stats().used, expected);
  EXPECT_LT(cache.stats().used, expected + 16_B);
  cache.clear();
  EXPECT_EQ(cache.stats().used, 0_B);
  EXPECT_EQ(memory->live(), 0_B);
}

TEST(Cache, APinnedEntryIsPassedByAndComesBack) {
  Numbers cache{small(3)};
  for (const int key : {1, 2, 3}) ASSERT_TRUE(cache.put(key, key));
  auto first = cache.find(1);
  auto second = cache.find(2);
  EXPECT_TRUE(cache.find(3));
  ASSERT_TRUE(cache.put(4, 4));  // 1 and 2 are older than 3, and pinned
  EXPECT_THAT(keys_of(cache), UnorderedElementsAre(1, 2, 4));
  EXPECT_EQ(cache.stats().set_aside, 2U);
  first.reset();
  second.reset();
  EXPECT_EQ(cache.stats().set_aside, 0U);
  cache.validate();
  for (const int key : {5, 6, 7}) ASSERT_TRUE(cache.put(key, key));
  EXPECT_THAT(keys_of(cache), UnorderedElementsAre(5, 6, 7));
}

TEST(Cache, RefusesWhenEverythingIsPinnedAndSaysSo) {
  Numbers cache{small(2)};
  for (const int key : {1, 2}) ASSERT_TRUE(cache.put(key, key));
  const auto handles = cache.snapshot();
  const auto refused = cache.put(3, 3);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.status().code(), Code::memory_refused);
  EXPECT_THAT(refused.status().message(), HasSubstr("2 of them pinned"));
  EXPECT_EQ(cache.stats().entries, 2U);
  EXPECT_EQ(cache.stats().refused, 1U);
  EXPECT_EQ(cache.reclaim(1_MiB), 0_B);
  EXPECT_THAT(cache.reclaimer().kept_because(), HasSubstr("2 of its 2 entries are pinned"));
}

TEST(Cache, RefusesWhatIsLargerThanItself) {
  CacheOptions options = small(100);
  options.max_bytes = 4_KiB;
  Cache<int, int> cache{options, {.weigher = [](int, int value) {
                          return Bytes{static_cast<std::uint64_t>(value)};
                        }}};
  ASSERT_TRUE(cache.put(1, 100));
  EXPECT_FALSE(cache.put(2, 5000));
  EXPECT_TRUE(cache.find(1));
  EXPECT_FALSE(cache.put(3, -1));  // a weight of 2^64 - 1
}

TEST(Cache, TellsTheListenerWhyAnEntryLeft) {
  std::vector<std::pair<int, RemovalReason>> told;
  Numbers cache{small(2), {.listener = [&](int key, int, RemovalReason reason) {
                  told.emplace_back(key, reason);
                }}};
  ASSERT_TRUE(cache.put(1, 1));
  ASSERT_TRUE(cache.put(1, 2));
  ASSERT_TRUE(cache.put(2, 2));
  ASSERT_TRUE(cache.put(3, 3));
  EXPECT_TRUE(cache.erase(2));
  cache.clear();
  using R = RemovalReason;
  EXPECT_THAT(told, ElementsAre(std::pair{1, R::replaced}, std::pair{1, R::evicted},
                                std::pair{2, R::erased}, std::pair{3, R::cleared}));
}

TEST(Cache, AListenerMayUseTheCache) {
  Numbers* self = nullptr;
  int told = 0;
  Numbers cache{small(2), {.listener = [&](int key, int, RemovalReason reason) {
                  ++told;
                  EXPECT_FALSE(self->find(key));
                  if (reason == RemovalReason::erased) {
                    EXPECT_TRUE(self->put(key + 100, 1));
                  }
                }}};
  self = &cache;
  ASSERT_TRUE(cache.put(1, 1));
  const auto held = cache.find(1);
  EXPECT_TRUE(cache.erase(1));
  EXPECT_EQ(told, 1);
  EXPECT_TRUE(cache.find(101));
}

TEST(Cache, TextIsFoundByAViewOfIt) {
  Cache<std::string, int> cache;
  ASSERT_TRUE(cache.put("one", 1));
  EXPECT_EQ(*cache.find(std::string_view{"one"}), 1);
  EXPECT_FALSE(cache.find("two"));
}

TEST(Cache, TakesValuesThatOnlyMove) {
  Cache<int, std::unique_ptr<int>> cache;
  ASSERT_TRUE(cache.put(1, std::make_unique<int>(5)));
  EXPECT_EQ(**cache.find(1), 5);
}

// Any hash will do, also one that says the same of all keys.
struct SameForAll {
  std::size_t operator()(int) const noexcept { return 7; }
};
TEST(Cache, WorksWithAHashThatIsTheSameForAllKeys) {
  Cache<int, int, SameForAll> cache{small(500)};
  for (int key = 0; key != 600; ++key) ASSERT_TRUE(cache.put(key, key));
  cache.validate();
  int found = 0;
  for (int key = 0; key != 600; ++key) {
    if (const auto entry = cache.find(key)) {
      EXPECT_EQ(*entry, key);
      ++found;
    }
  }
  EXPECT_EQ(found, 500);
}

TEST(Cache, GrowsAndShrinksWithItsEntries) {
  CacheOptions options;
  options.max_bytes = 64_MiB;
  options.shards = 2;
  Numbers cache{options};
  for (int round = 0; round != 3; ++round) {
    for (int key = 0; key != 50'000; ++key) ASSERT_TRUE(cache.put(key, key + round));
    cache.validate();
    for (int key = 0; key != 50'000; ++key) ASSERT_EQ(*cache.find(key), key + round);
    for (int key = 0; key != 50'000; ++key) {
      if (key % 100 != 0) {
        ASSERT_TRUE(cache.erase(key));
      }
    }
    cache.validate();
    EXPECT_EQ(cache.stats().entries, 500U);
    for (int key = 0; key != 50'000; ++key) ASSERT_EQ(bool{cache.find(key)}, key % 100 == 0);
  }
}

TEST(Cache, ALowerLineIsKeptAtOnce) {
  CacheOptions options;
  options.max_bytes = 8_MiB;
  Numbers cache{options};
  for (int key = 0; key != 100'000; ++key) ASSERT_TRUE(cache.put(key, key));
  EXPECT_GT(cache.stats().used, 7_MiB);
  cache.set_max_bytes(1_MiB);
  EXPECT_LE(cache.stats().used, 1_MiB);
  EXPECT_GT(cache.stats().used, 960_KiB);
  EXPECT_THROW(cache.set_max_bytes(0_B), Failure);
  cache.validate();
}

TEST(Cache, ErasesWholeEpochs) {
  Cache<EpochKey<int>, int> cache;
  for (int i = 0; i != 1000; ++i) {
    ASSERT_TRUE(cache.put({static_cast<std::uint64_t>(i % 10), i}, i));
  }
  EXPECT_EQ(cache.erase_epochs_before(3), 300U);
  EXPECT_EQ(cache.erase_epochs_before(3), 0U);
  EXPECT_FALSE(cache.find({2, 12}));
  EXPECT_TRUE(cache.find({3, 13}));
  EXPECT_EQ(cache.stats().entries, 700U);
  cache.validate();
}

TEST(Cache, CountersAddUp) {
  Numbers cache{small(50)};
  for (int i = 0; i != 1000; ++i) {
    if (!cache.find(i * i % 97)) {
      ASSERT_TRUE(cache.put(i * i % 97, i));
    }
    if (i % 13 == 0) cache.erase(i % 97);
  }
  const CacheStats stats = cache.stats();
  EXPECT_EQ(stats.lookups, 1000U);
  EXPECT_EQ(stats.hits + stats.misses, stats.lookups);
  EXPECT_EQ(stats.insertions, stats.entries + stats.evicted + stats.erased + stats.replaced +
                                  stats.expired + stats.cleared);
  EXPECT_EQ(stats.unrecorded, 0U);
  EXPECT_DOUBLE_EQ(stats.hit_rate(), static_cast<double>(stats.hits) / 1000);
}

TEST(Cache, SaysWhichOptionIsWrongAndWhatIsAllowed) {
  const auto why = [](const CacheOptions& options) -> std::string {
    try {
      const Numbers cache{options};
    } catch (const Failure& failure) {
      EXPECT_EQ(failure.status().code(), Code::invalid_argument);
      return failure.what();
    }
    return "nothing is wrong";
  };
  EXPECT_THAT(why({.max_bytes = 0_B}), HasSubstr("max_bytes must be above 0"));
  EXPECT_THAT(why({.policy = "best"}), HasSubstr("'best', and must be one of lru"));
  EXPECT_THAT(why({.objective = "all"}), HasSubstr("objects, bytes or cost"));
  EXPECT_THAT(why({.shards = 3}), HasSubstr("power of two"));
  EXPECT_THAT(why({.max_age = Duration{-1}}), HasSubstr("max_age"));
  Numbers cache;
  EXPECT_EQ(cache.put(1, 1, {.ttl = Duration{-1}}).status().code(), Code::invalid_argument);
}

TEST(CacheDeathTest, MustOutliveItsHandles) {
  EXPECT_DEATH(
      {
        auto cache = std::make_unique<Numbers>();
        static_cast<void>(cache->put(1, 1));
        const auto held = cache->find(1);
        cache.reset();
      },
      "outlives the handles");
}

}  // namespace
}  // namespace forebay
