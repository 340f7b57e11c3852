// `auto` in a Cache: what its tournament takes, that shards and threads follow it, and the
// miss-ratio curve of a live cache.

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <random>
#include <thread>
#include <vector>

#include "cache/auto_policy.hpp"
#include "cache/shared_curve.hpp"
#include "cache/simulated_cache.hpp"
#include "forebay/cache.hpp"
#include "support/failing_new.hpp"

namespace forebay::testing {
namespace {

using namespace forebay::literals;

using Blocks = Cache<std::uint64_t, std::uint64_t>;  // the value is what it weighs elsewhere

Blocks::Hooks weighed() {
  return {.weigher = [](std::uint64_t, std::uint64_t bytes) { return Bytes{bytes}; }};
}

// Whether it was a hit.
bool request(Blocks& cache, std::uint64_t key, std::uint64_t bytes = 1000) {
  const bool hit = bool{cache.find(key)};
  if (!hit) static_cast<void>(cache.put(key, bytes));
  return hit;
}

Bytes whole(const CacheStats& stats) { return stats.used + stats.reserved; }

TEST(CacheAuto, IsLruWhereATournamentIsNotWorthItsBytes) {
  Blocks cache{{.max_bytes = 1_MiB}, weighed()};
  for (std::uint64_t i = 0; i != 50'000; ++i) request(cache, i % 1500);
  const CachePolicyReport report = cache.policy_report();
  EXPECT_EQ(report.policy, "auto");
  EXPECT_EQ(report.in_force, "lru");
  EXPECT_FALSE(report.watching);
  EXPECT_TRUE(report.candidates.empty());
  EXPECT_EQ(cache.stats().reserved, 0_B);
}

TEST(CacheAuto, OthersReportThemselves) {
  Blocks cache{{.max_bytes = 8_MiB, .policy = "sieve"}, weighed()};
  request(cache, 1);
  EXPECT_EQ(cache.policy_report().in_force, "sieve");
  EXPECT_EQ(cache.stats().reserved, 0_B);
  EXPECT_TRUE(cache.miss_ratio_curve().empty());
}

TEST(CacheAuto, TheSimulationsKeepToTheirPartOfTheLine) {
  for (const auto objective : {"objects", "bytes", "cost"}) {
    for (const Bytes line : {2_MiB, 5_MiB, 48_MiB}) {
      Blocks cache{{.max_bytes = line, .objective = objective}, weighed()};
      const Bytes reserved = cache.stats().reserved;
      EXPECT_LE(reserved, std::max(Bytes{line.count() / 50}, 64_KiB));
      std::mt19937_64 random{2};
      const std::uint64_t keys = line.count() / 200;
      for (int i = 0; i != 150'000; ++i) {
        const double u = std::uniform_real_distribution<>{0, 1}(random);
        const auto key = static_cast<std::uint64_t>(u * u * static_cast<double>(keys));
        request(cache, i % 3 == 0 ? keys + random() % keys : key, key * 2654435761U % 800);
        if (i % 1000 != 0) continue;
        ASSERT_LE(cache.policy_report().simulations, reserved) << line.count() << objective << i;
        ASSERT_LE(whole(cache.stats()), line);
      }
      EXPECT_GT(cache.policy_report().simulated, 100U);
      cache.validate();
    }
  }
}

TEST(CacheAuto, AllShardsFollowWhileThreadsUseThem) {
  constexpr std::uint64_t kThreads = 4;
  constexpr std::uint64_t kLoop = 3000;
  Blocks cache{{.max_bytes = 2_MiB, .shards = 4}, weighed()};
  std::atomic<bool> stop{false};
  std::thread watcher{[&] {
    while (!stop) {
      const CachePolicyReport report = cache.policy_report();
      if (whole(cache.stats()) > 2_MiB || report.simulations > report.reserved) std::abort();
    }
  }};
  std::vector<std::thread> threads;
  for (std::uint64_t thread = 0; thread != kThreads; ++thread) {
    threads.emplace_back([&, thread] {
      for (std::uint64_t i = 0; i != 60'000; ++i) {
        request(cache, (i + thread * kLoop / kThreads) % kLoop);
        if (i % 1000 == thread) cache.erase(i % kLoop);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  stop = true;
  watcher.join();
  EXPECT_GT(cache.policy_report().requests, 3 * 60'000U) << "but for what was not told yet";
  cache.validate();
  // As the threads fell, anything may have been right for them; for one, lru never is.
  std::uint64_t hits = 0;
  for (int loops = 0; loops != 60 && (loops < 3 || hits < kLoop / 4); ++loops) {
    hits = 0;
    for (std::uint64_t i = 0; i != kLoop; ++i) hits += request(cache, i) ? 1 : 0;
  }
  EXPECT_GE(hits, kLoop / 4) << "lru hits nothing";
  EXPECT_NE(cache.policy_report().in_force, "lru");
  cache.validate();
}

TEST(CacheAuto, ATournamentFollowsTheLine) {
  Budget budget{"line", {.limit = 64_MiB}};
  Blocks cache{{.max_bytes = 8_MiB, .budget = &budget}, weighed()};
  std::uint64_t i = 0;
  const auto ask = [&](int requests) {
    for (int n = 0; n != requests; ++n, ++i) request(cache, i % 9000);
    EXPECT_EQ(budget.stats().used, whole(cache.stats()));
    EXPECT_LE(cache.policy_report().simulations, cache.stats().reserved);
    EXPECT_LE(whole(cache.stats()), cache.stats().max_bytes);
    cache.validate();
  };
  ask(80'000);
  EXPECT_EQ(cache.stats().reserved, Bytes{(8_MiB).count() / 50});
  cache.set_max_bytes(1_MiB);
  EXPECT_EQ(cache.stats().reserved, 0_B);
  ask(20'000);
  EXPECT_EQ(cache.policy_report().in_force, "lru");
  cache.set_max_bytes(6_MiB);
  EXPECT_EQ(cache.stats().reserved, Bytes{(6_MiB).count() / 50});
  ask(400'000);
  EXPECT_TRUE(cache.policy_report().watching);
  EXPECT_NE(cache.policy_report().in_force, "lru") << "a loop";
  cache.set_max_bytes(3_MiB);
  EXPECT_EQ(cache.stats().reserved, 64_KiB);
  ask(50'000);
  cache.set_max_bytes(32_MiB);
  ask(50'000);
}

TEST(CacheAuto, ABudgetThatIsSmallOrFullLeavesLru) {
  Budget budget{"line", {.limit = 1_MiB}};
  Blocks cache{{.max_bytes = 8_MiB, .budget = &budget}, weighed()};
  for (std::uint64_t i = 0; i != 5000; ++i) request(cache, i);
  EXPECT_EQ(cache.stats().reserved, 0_B);
  EXPECT_EQ(cache.policy_report().in_force, "lru");
  EXPECT_EQ(budget.stats().used, cache.stats().used);
}

// What a budget leaves to the cache is what the simulations reckon with.
TEST(CacheAuto, SeesThatACountOfEntriesIsItsBound) {
  Blocks cache{{.max_bytes = 32_MiB, .max_entries = 2000, .shards = 1}, weighed()};
  for (std::uint64_t i = 0; i != 300'000; ++i) request(cache, i % 3000);
  EXPECT_NE(cache.policy_report().in_force, "lru") << "bytes alone would hold the whole loop";
  EXPECT_LE(cache.stats().entries, 2000U);
}

TEST(CacheAuto, RestsAndWakes) {
  detail::AutoOptions how;
  how.capacity = 60;
  auto made = detail::make_auto(how);
  const detail::AutoPolicy& policy = *made;
  detail::SimulatedCache cache{std::move(made), how.capacity};
  std::uint64_t i = 0;
  const auto ask_until = [&](bool watching, std::uint64_t most) {
    const std::uint64_t end = i + most;
    while (i != end && policy.report().watching != watching) {
      for (int n = 0; n != 1024; ++n, ++i) cache.request({.key = i % 75});
      if (i >= end) break;
    }
    return policy.report().watching == watching;
  };
  ASSERT_TRUE(ask_until(false, 2'000'000)) << "the time of the simulations is bounded";
  const std::uint64_t sampled = policy.report().sampled;
  for (int n = 0; n != 10'000; ++n, ++i) cache.request({.key = i % 75});
  EXPECT_EQ(policy.report().sampled, sampled);
  ASSERT_TRUE(ask_until(true, 2'000'000));
  EXPECT_TRUE(ask_until(false, 2'000'000));
  EXPECT_LT(static_cast<double>(policy.report().sampled),
            (4e6 + 0.1 * static_cast<double>(i)) / 7 + 1024);
}

TEST(CacheAuto, OfAnAllocationWhileACacheIsMade) {
  // The tracker learns the pool's name with the first, and does without memory for it.
  const CacheOptions options{.max_bytes = 4_MiB, .shards = 2, .miss_ratio_curve = true};
  static_cast<void>(Blocks{options, weighed()});
  int made = 0;
  EXPECT_GT(walk_allocation_failures(
                [&] {
                  try {
                    const Blocks cache{options, weighed()};
                    cache.validate();
                    ++made;
                  } catch (const std::bad_alloc&) {
                  } catch (const Failure&) {
                  }
                },
                [] {}),
            20U);
  EXPECT_EQ(made, 1);
}

// A few large entries, so that each request, and each switch, can be made to fail at every step.
TEST(CacheAuto, AFailureAtAnyAllocationOfRequestsAndSwitchesChangesNothing) {
  Blocks cache{{.max_bytes = 2_MiB, .shards = 1}, weighed()};
  std::uint64_t switches = 0;
  for (std::uint64_t i = 0; i != 2500; ++i) {
    const std::uint64_t key = i % 45;
    bool put = false;
    walk_allocation_failures(
        [&] {
          if (!cache.find(key)) put = cache.put(key, 64'000).ok();
        },
        [&] { ASSERT_LE(whole(cache.stats()), 2_MiB); });
    EXPECT_TRUE(put || cache.find(key)) << i;
    if (cache.policy_report().switches != switches) {
      switches = cache.policy_report().switches;
      cache.validate();
    }
  }
  EXPECT_GT(switches, 0U);
  EXPECT_NE(cache.policy_report().in_force, "lru");
  cache.validate();
}

TEST(CacheAuto, AnAllocationThatFailsWhileTheLineMovesLeavesACache) {
  for (std::size_t n = 0; n != 60; ++n) {
    Blocks cache{{.max_bytes = 3_MiB, .shards = 1}, weighed()};
    for (std::uint64_t i = 0; i != 6000; ++i) request(cache, i % 4000);
    {
      const FailingNew failure{n};
      for (const Bytes line : {1_MiB, 8_MiB}) {
        try {
          cache.set_max_bytes(line);
        } catch (const std::bad_alloc&) {
        }
      }
    }
    EXPECT_LE(whole(cache.stats()), cache.stats().max_bytes);
    for (std::uint64_t i = 0; i != 100; ++i) request(cache, i);
    EXPECT_LE(cache.policy_report().simulations, cache.stats().reserved);
    cache.validate();
  }
}

// Zipf of exponent 0.5 by inversion.
std::uint64_t skewed(std::mt19937_64& random, std::uint64_t keys) {
  const double u = std::uniform_real_distribution<>{0, 1}(random);
  return static_cast<std::uint64_t>(u * u * static_cast<double>(keys));
}

TEST(CacheCurve, TakesWhatItSays) {
  for (const Bytes line : {4_MiB, 33_MiB, 1_GiB}) {
    const std::uint64_t bytes = detail::SharedCurve::bytes_for(line.count());
    const detail::SharedCurve curve{bytes};
    EXPECT_LE(curve.metadata_bytes(), bytes);
    EXPECT_GT(curve.metadata_bytes(), bytes / 2);
  }
}

TEST(CacheCurve, IsForCachesThatAreLargeEnough) {
  try {
    const Blocks cache{{.max_bytes = 1_MiB, .miss_ratio_curve = true}, weighed()};
    FAIL();
  } catch (const Failure& failure) {
    EXPECT_NE(std::string{failure.what()}.find("4 MiB"), std::string::npos) << failure.what();
  }
  Blocks cache{{.max_bytes = 8_MiB, .miss_ratio_curve = true}, weighed()};
  for (std::uint64_t i = 0; i != 9000; ++i) request(cache, i);
  EXPECT_FALSE(cache.miss_ratio_curve().empty());
  cache.set_max_bytes(2_MiB);
  for (std::uint64_t i = 0; i != 9000; ++i) request(cache, i);
  EXPECT_TRUE(cache.miss_ratio_curve().empty()) << "its bytes are for entries now";
  EXPECT_EQ(cache.stats().reserved, 64_KiB);
}

TEST(CacheCurve, IsDrawnWhileThreadsUseTheCache) {
  Blocks cache{{.max_bytes = 4_MiB, .shards = 4, .miss_ratio_curve = true}, weighed()};
  std::vector<std::thread> threads;
  for (unsigned thread = 0; thread != 4; ++thread) {
    threads.emplace_back([&, thread] {
      std::mt19937_64 random{thread};
      for (int i = 0; i != 20'000; ++i) {
        request(cache, skewed(random, 20'000), 100);
        if (i % 5000 == 0) static_cast<void>(cache.miss_ratio_curve());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  const auto points = cache.miss_ratio_curve();
  ASSERT_FALSE(points.empty());
  EXPECT_GT(points.front().objects, points.back().objects);
  cache.validate();
}

}  // namespace
}  // namespace forebay::testing
