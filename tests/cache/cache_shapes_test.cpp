// PairCache and TensorCache: what they add to a Cache.

#include "forebay/cache_shapes.hpp"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <atomic>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "forebay/pool.hpp"

namespace forebay {
namespace {

using namespace forebay::literals;
using namespace std::chrono_literals;

using Scores = PairCache<std::string, float>;

TEST(PairCache, BothOrdersAreOneEntry) {
  Scores scores;
  EXPECT_EQ(*scores.put("a", "b", 0.5F), PutOutcome::inserted);
  EXPECT_EQ(*scores.find("a", "b"), 0.5F);
  EXPECT_EQ(*scores.find("b", "a"), 0.5F);
  EXPECT_EQ(*scores.put("b", "a", 0.6F), PutOutcome::replaced);
  EXPECT_EQ(*scores.find("a", "b"), 0.6F);
  EXPECT_FALSE(scores.find("a", "a"));
  EXPECT_EQ(scores.stats().entries, 1U);
  EXPECT_TRUE(scores.erase("b", "a"));
  EXPECT_FALSE(scores.erase("a", "b"));
  scores.validate();
}

TEST(PairCache, AnIdGoesWithAllItsPairs) {
  Scores scores;
  ASSERT_TRUE(scores.put("a", "b", 1));
  ASSERT_TRUE(scores.put("c", "a", 2));
  ASSERT_TRUE(scores.put("a", "a", 3));
  ASSERT_TRUE(scores.put("b", "c", 4));
  EXPECT_EQ(scores.erase_all_of("a"), 3U);
  EXPECT_EQ(scores.erase_all_of("a"), 0U);
  EXPECT_FALSE(scores.find("b", "a"));
  EXPECT_TRUE(scores.find("c", "b"));
  ASSERT_TRUE(scores.put("a", "b", 5));
  EXPECT_EQ(scores.erase_all_of("b"), 2U);
  EXPECT_EQ(scores.stats().entries, 0U);
  scores.validate();
}

TEST(PairCache, ManyPairsOfOneIdGoInBatches) {
  PairCache<int, int> pairs{{.max_bytes = 8_MiB}};
  for (int i = 0; i != 10'000; ++i) ASSERT_TRUE(pairs.put(i % 2, i + 2, i));
  EXPECT_EQ(pairs.erase_all_of(0), 5000U);
  EXPECT_EQ(pairs.stats().entries, 5000U);
  EXPECT_EQ(pairs.stats().erased, 5000U);
  pairs.validate();
}

TEST(PairCache, APinnedPairLeavesTheListsWhenItsHandleGoes) {
  Scores scores;
  ASSERT_TRUE(scores.put("a", "b", 1));
  auto held = scores.find("b", "a");
  EXPECT_EQ(held.key().a, "a");
  EXPECT_EQ(scores.erase_all_of("a"), 1U);
  EXPECT_FALSE(scores.find("a", "b"));
  ASSERT_TRUE(scores.put("a", "b", 2));
  EXPECT_EQ(*held, 1);
  EXPECT_EQ(scores.erase_all_of("b"), 1U);
  EXPECT_EQ(scores.stats().leaving, 1U);
  held.reset();
  EXPECT_EQ(scores.stats().leaving, 0U);
  scores.validate();
}

TEST(PairCache, OneLoaderAPair) {
  Scores scores;
  int runs = 0;
  const auto load = [&](const std::string&, const std::string&) {
    ++runs;
    return 0.25F;
  };
  EXPECT_EQ(**scores.get_or_compute("x", "y", load), 0.25F);
  EXPECT_EQ(**scores.get_or_compute("y", "x", load), 0.25F);
  EXPECT_EQ(runs, 1);
  const auto failed = scores.get_or_compute("y", "z", [](const auto&, const auto&) {
    return Result<float>{Status{Code::io_error, "no sensor"}};
  });
  EXPECT_EQ(failed.status().code(), Code::io_error);
  EXPECT_EQ(scores.erase_all_of("y"), 1U);
}

TEST(PairCache, ItsIndexIsPartOfTheLine) {
  Budget budget{"line", {.limit = 1_MiB}};
  {
    Scores scores{{.max_bytes = 256_KiB, .budget = &budget}};
    EXPECT_GT(scores.index_bytes(), 0_B);
    EXPECT_EQ(scores.stats().max_bytes + scores.index_bytes(), 256_KiB);
    for (int i = 0; i != 10'000; ++i) ASSERT_TRUE(scores.put(std::to_string(i), "x", 1));
    EXPECT_LE(budget.stats().peak, 256_KiB);
    EXPECT_EQ(budget.stats().used, scores.stats().used + scores.index_bytes());
    const std::uint64_t entries = scores.stats().entries;
    EXPECT_EQ(scores.erase_all_of("x"), entries);
    EXPECT_EQ(scores.stats().entries, 0U);
    scores.set_max_bytes(64_KiB);
    EXPECT_EQ(scores.stats().max_bytes + scores.index_bytes(), 64_KiB);
    scores.validate();
  }
  EXPECT_EQ(budget.stats().used, 0_B);
  EXPECT_THROW((Scores{{.max_bytes = 500_B}}), Failure);
}

TEST(PairCache, HooksKnowIdsAndValue) {
  std::vector<std::string> gone;
  Scores scores{{.policy = "fifo"},
                {.weigher = [](const std::string& a, const std::string& b,
                               float) { return Bytes{a.capacity() + b.capacity()}; },
                 .listener =
                     [&](const std::string& a, const std::string& b, float, RemovalReason why) {
                       gone.push_back(a + b + std::string{to_string(why)});
                     }}};
  ASSERT_TRUE(scores.put("a", "b", 1));
  const Bytes one = scores.stats().used;
  ASSERT_TRUE(scores.put(std::string(100, 'x'), "b", 1));
  EXPECT_GT(scores.stats().used, one + one);
  scores.erase_all_of("a");
  EXPECT_EQ(gone, (std::vector<std::string>{"aberased"}));
}

// An order of its own for ids in a hash that is full of collisions.
struct OneHash {
  std::uint64_t operator()(int) const noexcept { return 7; }
};

template <typename Hash>
void is_what_a_naive_map_is() {
  EXPECT_TRUE(rc::check([] {
    ManualClock clock;
    PairCache<int, int, Hash> pairs{{.max_bytes = 1_MiB, .shards = 1, .clock = &clock}};
    std::map<std::pair<int, int>, int> naive;
    for (int step = *rc::gen::inRange(0, 200); step > 0; --step) {
      const int a = *rc::gen::inRange(0, 8);
      const int b = *rc::gen::inRange(0, 8);
      const std::pair<int, int> key{std::min(a, b), std::max(a, b)};
      switch (*rc::gen::inRange(0, 6)) {
        case 0: {
          std::uint64_t erased = 0;
          for (auto at = naive.begin(); at != naive.end();) {
            const bool in = at->first.first == a || at->first.second == a;
            erased += in ? 1U : 0U;
            at = in ? naive.erase(at) : std::next(at);
          }
          RC_ASSERT(pairs.erase_all_of(a) == erased);
          break;
        }
        case 1:
          RC_ASSERT(pairs.erase(a, b) == (naive.erase(key) == 1));
          break;
        case 2:
          RC_ASSERT(**pairs.get_or_compute(a, b, [&](int, int) { return step; }) ==
                    naive.try_emplace(key, step).first->second);
          break;
        case 3: {
          const auto found = pairs.find(b, a);
          const auto expected = naive.find(key);
          RC_ASSERT(bool{found} == (expected != naive.end()));
          if (found) RC_ASSERT(*found == expected->second);
          break;
        }
        default:
          RC_ASSERT(pairs.put(a, b, step).ok());
          naive[key] = step;
      }
      RC_ASSERT(pairs.stats().entries == naive.size());
      pairs.validate();
    }
  }));
}

TEST(PairCacheModel, IsWhatANaiveMapIs) { is_what_a_naive_map_is<CacheHash<int>>(); }
TEST(PairCacheModel, AlsoIfAllIdsHaveOneHash) { is_what_a_naive_map_is<OneHash>(); }

TEST(PairCacheThreads, WhatIsErasedWithAnIdIsGone) {
  PairCache<int, int> pairs{{.max_bytes = 64_KiB, .shards = 2}};
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t != 4; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937_64 random{static_cast<std::uint64_t>(t)};
      for (int i = 0; i != 20'000; ++i) {
        const int a = static_cast<int>(random() % 40);
        const int b = static_cast<int>(random() % 40);
        const int value = std::min(a, b) * 100 + std::max(a, b);
        if (random() % 16 == 0) {
          static_cast<void>(pairs.erase_all_of(a));
        } else if (random() % 3 == 0) {
          static_cast<void>(pairs.put(a, b, value));
        } else if (const auto found = pairs.find(a, b); found && *found != value) {
          ++wrong;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  pairs.validate();
  // Every pair that is left is in the lists of both its ids.
  for (int id = 0; id != 40; ++id) static_cast<void>(pairs.erase_all_of(id));
  EXPECT_EQ(pairs.stats().entries, 0U);
  pairs.validate();
}

// ---- TensorCache

class TensorCacheTest : public ::testing::Test {
 protected:
  using Activations = TensorCache<int, Buffer>;
  TensorCacheOptions options(Bytes most) {
    TensorCacheOptions made;
    made.host.max_bytes = 1_MiB;
    made.host.budget = &host_;
    made.host.clock = &clock_;
    made.max_device_bytes = most;
    made.device_budget = &device_budget_;
    made.resource = pool_;
    made.idle = pool_;
    return made;
  }
  Buffer buffer(Bytes size = 64_KiB) { return pool_->acquire(size).value(); }

  ManualClock clock_;
  Budget host_{"host", {.limit = 2_MiB}};
  Budget device_budget_{"gpu", {.limit = 1_MiB}};
  // Its bytes must not be touched: a read or a write of them is a fault.
  std::shared_ptr<SimulatedDevice> device_ = SimulatedDevice::create({.capacity = 64_MiB});
  std::shared_ptr<Pool> pool_ = Pool::create(device_, {.name = "gpu0", .clock = &clock_});
};

TEST_F(TensorCacheTest, ChargesEachSideWhatIsThere) {
  {
    Activations cache{options(512_KiB)};
    ASSERT_TRUE(cache.put(1, buffer(), {.utility = 1}));
    EXPECT_EQ(device_budget_.stats().used, 64_KiB);
    EXPECT_EQ(cache.stats().device_used, 64_KiB);
    EXPECT_EQ(host_.stats().used, cache.stats().host.used);
    EXPECT_LT(host_.stats().used, 1_KiB);
    EXPECT_EQ(cache.find(1)->size(), 64_KiB);
    EXPECT_EQ(pool_->stats().live, 64_KiB);
    EXPECT_TRUE(cache.erase(1));
    EXPECT_EQ(device_budget_.stats().used, 0_B);
    EXPECT_EQ(pool_->stats().live, 0_B);
    ASSERT_TRUE(cache.put(2, buffer()));
  }
  EXPECT_EQ(device_budget_.stats().used, 0_B);
  EXPECT_EQ(host_.stats().used, 0_B);
  EXPECT_EQ(pool_->stats().live, 0_B);
}

TEST_F(TensorCacheTest, KeepsTheHighestActivations) {
  Activations cache{options(256_KiB)};
  for (int i = 0; i != 4; ++i) {
    ASSERT_TRUE(cache.put(i, buffer(), {.utility = static_cast<float>(i)}));
  }
  EXPECT_EQ(*cache.put(9, buffer(), {.utility = 2.5F}), PutOutcome::inserted);
  EXPECT_FALSE(cache.find(0));
  EXPECT_EQ(*cache.put(10, buffer(), {.utility = 0.5F}), PutOutcome::declined);
  EXPECT_EQ(pool_->stats().live, 256_KiB);  // what was declined is back in the pool
  EXPECT_EQ(*cache.put(11, buffer(192_KiB), {.utility = 9}), PutOutcome::inserted);
  EXPECT_TRUE(cache.find(3));
  EXPECT_FALSE(cache.find(9));
  EXPECT_EQ(cache.stats().device_used, 256_KiB);
  EXPECT_EQ(cache.stats().host.declined, 1U);
  cache.validate();
}

TEST_F(TensorCacheTest, AHandleKeepsTheBlock) {
  Activations cache{options(128_KiB)};
  ASSERT_TRUE(cache.put(1, buffer(128_KiB)));
  auto held = cache.find(1);
  const auto refused = cache.put(2, buffer(), {.utility = 5});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.status().code(), Code::memory_refused);
  EXPECT_NE(refused.status().message().find("nothing is left that could be evicted"),
            std::string::npos);
  EXPECT_TRUE(cache.erase(1));
  EXPECT_EQ(cache.stats().device_used, 128_KiB);  // erased, and pinned
  EXPECT_EQ(held->size(), 128_KiB);
  EXPECT_FALSE(cache.put(2, buffer()));
  held.reset();
  EXPECT_EQ(cache.stats().device_used, 0_B);
  EXPECT_TRUE(cache.put(2, buffer()));
  EXPECT_EQ(cache.stats().device_refused, 2U);
}

TEST_F(TensorCacheTest, RefusesWhatIsLargerThanTheDeviceLine) {
  Activations cache{options(128_KiB)};
  ASSERT_TRUE(cache.put(1, buffer()));
  const auto refused = cache.put(2, buffer(256_KiB));
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.status().message().find("larger than the line"), std::string::npos);
  EXPECT_TRUE(cache.find(1));
  EXPECT_EQ(pool_->stats().live, 64_KiB);
}

TEST_F(TensorCacheTest, EachLineHoldsByItself) {
  TensorCacheOptions made = options(1_MiB);
  made.host.max_bytes = 2_KiB;  // a handful of entries
  Activations cache{made};
  for (int i = 0; i != 100; ++i) {
    ASSERT_TRUE(cache.put(i, buffer(4_KiB)));
    EXPECT_LE(host_.stats().used, 2_KiB);
  }
  const TensorCacheStats stats = cache.stats();
  EXPECT_LT(stats.host.entries, 16U);
  EXPECT_EQ(stats.device_used, Bytes{stats.host.entries * 4096});
  EXPECT_EQ(device_budget_.stats().used, stats.device_used);
}

TEST_F(TensorCacheTest, TheDevicesBudgetGetsBytesBackAndThePoolsPagesGo) {
  Budget gpu{"gpu", {.limit = 32_MiB}};
  TensorCacheOptions made = options(32_MiB);
  made.device_budget = &gpu;
  Activations cache{made};
  for (int i = 0; i != 16; ++i) {
    ASSERT_TRUE(cache.put(i, buffer(2_MiB), {.utility = static_cast<float>(i)}));
  }
  EXPECT_EQ(gpu.stats().used, 32_MiB);
  EXPECT_EQ(device_->stats().live, 32_MiB);
  const Bytes host_before = host_.stats().used;
  auto granted = gpu.reserve(8_MiB);
  ASSERT_TRUE(granted);
  EXPECT_EQ(cache.stats().device_used, 24_MiB);
  EXPECT_EQ(device_->stats().live, 24_MiB);
  EXPECT_LT(host_.stats().used, host_before);
  EXPECT_FALSE(cache.find(3));
  EXPECT_TRUE(cache.find(4));
  EXPECT_EQ(cache.reclaim_device(4_MiB), 4_MiB);
  cache.set_max_device_bytes(2_MiB);
  EXPECT_EQ(cache.stats().device_used, 2_MiB);
  EXPECT_EQ(device_->stats().live, 2_MiB);
  EXPECT_TRUE(cache.find(15));
}

TEST_F(TensorCacheTest, ExpiredValuesMakeRoomFirst) {
  Activations cache{options(128_KiB)};
  ASSERT_TRUE(cache.put(1, buffer(), {.ttl = 1s, .utility = 9}));
  ASSERT_TRUE(cache.put(2, buffer(), {.utility = 1}));
  clock_.advance(2s);
  ASSERT_TRUE(cache.put(3, buffer(), {.utility = 5}));
  EXPECT_TRUE(cache.find(2));
  EXPECT_EQ(cache.stats().host.expired, 1U);
}

TEST_F(TensorCacheTest, LoadersMakeTensorsOfAPool) {
  auto tensors = TensorPool::create(
      pool_, {.device = TensorDevice{DeviceKind::simulated, 0}, .clock = &clock_});
  TensorCacheOptions made = options(64_KiB);
  made.idle = tensors;
  TensorCache<std::string> cache{made};
  const auto load = [&](const std::string&) { return tensors->acquire({64, 64}, DataType::f32); };
  const auto first = cache.get_or_compute("a", load, {.utility = 9});
  ASSERT_TRUE(first);
  EXPECT_EQ((*first)->shape(), (Shape{64, 64}));
  EXPECT_EQ(cache.stats().device_used, 16_KiB);
  for (int i = 0; i != 3; ++i) {
    ASSERT_TRUE(cache.get_or_compute(std::to_string(i), load, {.utility = 1}));
  }
  // A value that is wanted now makes room, whatever its score.
  ASSERT_TRUE(cache.get_or_compute("b", load));
  EXPECT_FALSE(cache.find("0"));
  EXPECT_TRUE(cache.find("a"));
  const auto failed = cache.get_or_compute("c", [&](const std::string&) {
    return tensors->acquire({1024, 1024}, DataType::f32);
  });
  EXPECT_EQ(failed.status().code(), Code::memory_refused);
  EXPECT_EQ(cache.stats().device_used, 64_KiB);
  EXPECT_EQ(tensors->stats().live, 64_KiB);
}

TEST_F(TensorCacheTest, ABudgetThatRefusesChangesNothing) {
  Activations cache{options(1_MiB)};
  ASSERT_TRUE(cache.put(1, buffer()));
  const auto held = cache.find(1);
  auto rest = device_budget_.reserve(1_MiB - 64_KiB);
  ASSERT_TRUE(rest);
  const auto refused = cache.put(2, buffer());
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.status().refusal(), nullptr);
  EXPECT_EQ(cache.stats().device_used, 64_KiB);
  EXPECT_EQ(cache.stats().host.entries, 1U);
  EXPECT_EQ(pool_->stats().live, 64_KiB);
}

TEST_F(TensorCacheTest, IsWhatANaiveListIs) {
  EXPECT_TRUE(rc::check([&] {
    Activations cache{options(256_KiB)};
    struct Entry {
      std::uint64_t bytes;
      float utility;
      int stamp;
    };
    std::map<int, Entry> naive;
    int stamp = 0;
    const auto used = [&] {
      std::uint64_t sum = 0;
      for (const auto& [key, entry] : naive) sum += entry.bytes;
      return sum;
    };
    const auto lowest = [&] {
      return std::min_element(naive.begin(), naive.end(), [](const auto& x, const auto& y) {
        return std::pair{x.second.utility, x.second.stamp} <
               std::pair{y.second.utility, y.second.stamp};
      });
    };
    for (int step = *rc::gen::inRange(0, 150); step > 0; --step) {
      const int key = *rc::gen::inRange(0, 12);
      const auto bytes = *rc::gen::inRange<std::uint64_t>(1, 20) * 4096;
      const auto utility = static_cast<float>(*rc::gen::inRange(0, 6));
      switch (*rc::gen::inRange(0, 4)) {
        case 0:
          RC_ASSERT(cache.erase(key) == (naive.erase(key) == 1));
          break;
        case 1: {
          const auto found = cache.find(key);
          RC_ASSERT(bool{found} == naive.contains(key));
          if (found) naive.at(key).stamp = ++stamp;
          break;
        }
        default: {
          const auto outcome = cache.put(key, buffer(Bytes{bytes}), {.utility = utility});
          RC_ASSERT(outcome.ok());
          bool declined = false;
          while (!declined && used() + bytes > 256 * 1024) {
            declined = utility < lowest()->second.utility;
            if (!declined) naive.erase(lowest());
          }
          RC_ASSERT((*outcome == PutOutcome::declined) == declined);
          if (!declined) naive[key] = {bytes, utility, ++stamp};
        }
      }
      RC_ASSERT(cache.stats().device_used.count() == used());
      RC_ASSERT(device_budget_.stats().used.count() == used());
      RC_ASSERT(pool_->stats().live.count() == used());
      RC_ASSERT(cache.stats().host.entries == naive.size());
    }
    cache.validate();
  }));
}

TEST(TensorCacheThreads, NeitherLineIsPassed) {
  auto pool = Pool::create(SimulatedDevice::create({.capacity = 64_MiB}));
  Budget host{"host", {.limit = 64_KiB}};
  Budget gpu{"gpu", {.limit = 1_MiB}};
  {
    TensorCacheOptions options;
    options.host.max_bytes = 32_KiB;
    options.host.budget = &host;
    options.max_device_bytes = 512_KiB;
    options.device_budget = &gpu;
    options.resource = pool;
    options.idle = pool;
    TensorCache<int, Buffer> cache{options};
    std::atomic<int> wrong{0};
    std::vector<std::thread> threads;
    for (int t = 0; t != 4; ++t) {
      threads.emplace_back([&, t] {
        std::mt19937_64 random{static_cast<std::uint64_t>(t)};
        for (int i = 0; i != 5000; ++i) {
          const int key = static_cast<int>(random() % 100);
          const Bytes size{4096 * (1 + random() % 8)};
          if (random() % 2 == 0) {
            static_cast<void>(cache.put(key, pool->acquire(size).value(),
                                        {.utility = static_cast<float>(random() % 10)}));
          } else if (const auto found = cache.find(key); found && found->empty()) {
            ++wrong;
          }
          if (random() % 64 == 0) static_cast<void>(cache.reclaim_device(16_KiB));
          const TensorCacheStats stats = cache.stats();
          if (stats.device_peak > 512_KiB || stats.host.peak > 32_KiB) ++wrong;
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(wrong, 0);
    EXPECT_EQ(cache.stats().device_used, pool->stats().live);
    cache.validate();
  }
  EXPECT_EQ(gpu.stats().used, 0_B);
  EXPECT_EQ(host.stats().used, 0_B);
  EXPECT_EQ(pool->stats().live, 0_B);
}

}  // namespace
}  // namespace forebay
