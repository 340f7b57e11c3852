// What `auto` chooses, and that choosing loses nothing.
#include "cache/auto_policy.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <random>
#include <set>

#include "cache/simulated_cache.hpp"
#include "requests.hpp"
#include "support/failing_new.hpp"

namespace forebay::testing {
namespace {

using detail::AutoOptions;
using detail::AutoPolicy;
using detail::AutoReport;
using detail::CacheRequest;
using detail::EntryId;
using detail::make_auto;
using detail::Objective;
using detail::PolicyKind;
using detail::SimulatedCache;

AutoOptions options_of(std::uint64_t capacity, Objective objective = Objective::objects,
                       std::uint64_t start = 1) {
  AutoOptions options;
  options.capacity = capacity;
  options.objective = objective;
  options.seed = start;
  return options;
}

struct AutoCache {
  explicit AutoCache(const AutoOptions& options) : AutoCache(make_auto(options), options) {}

  AutoPolicy* policy;
  SimulatedCache cache;

  AutoReport report() const { return policy->report(); }
  double miss_ratio() const {
    const auto& counts = cache.counts();
    return 1 - static_cast<double>(counts.hits) / static_cast<double>(counts.requests);
  }

 private:
  AutoCache(std::unique_ptr<AutoPolicy> made, const AutoOptions& options)
      : policy(made.get()), cache(std::move(made), options.capacity) {}
};

using Workload = std::function<std::uint64_t(std::uint64_t)>;

// What comes back does so soon.
Workload recent(std::uint64_t window) {
  return [window, random = std::mt19937_64(5)](std::uint64_t i) mutable {
    const double draw = std::uniform_real_distribution<>{0, 1}(random);
    return i / 2 + window - static_cast<std::uint64_t>(draw * draw * static_cast<double>(window));
  };
}
Workload loop(std::uint64_t keys) {
  return [keys](std::uint64_t i) { return 1'000'000'000 + i % keys; };
}

bool loses_nothing(const SimulatedCache& cache) {
  const auto& counts = cache.counts();
  std::vector<EntryId> order;
  cache.policy().order(order);
  const std::set<EntryId> different(order.begin(), order.end());
  return counts.requests - counts.hits - counts.refused - counts.evictions == cache.entries() &&
         order.size() == cache.entries() && different.size() == order.size();
}

TEST(AutoPolicy, SwitchesToWhatServesALoopAndKeepsWhatItHolds) {
  AutoCache tested(options_of(100));
  const Workload keys = loop(150);
  std::uint64_t switches = 0;
  for (std::uint64_t i = 0; i < 20'000; ++i) {
    tested.cache.request({.key = keys(i)});
    if (i >= 100) {
      ASSERT_EQ(tested.cache.entries(), 100U) << i;
    }
    if (tested.report().switches != switches) {
      ++switches;
      ASSERT_TRUE(loses_nothing(tested.cache)) << i;
    }
  }
  EXPECT_GT(switches, 0U);
  EXPECT_NE(tested.report().current, PolicyKind::lru);
  EXPECT_LT(tested.miss_ratio(), 0.6) << "lru misses them all";
}

TEST(AutoPolicy, FollowsAChangeOfPhaseWithinTwentyTurnovers) {
  constexpr std::uint64_t kCapacity = 200;
  AutoCache tested(options_of(kCapacity));
  const Workload first = recent(400);
  const Workload second = loop(300);
  for (std::uint64_t i = 0; i < 20'000; ++i) tested.cache.request({.key = first(i)});
  for (std::uint64_t i = 0; i < 20 * kCapacity; ++i) tested.cache.request({.key = second(i)});
  const std::uint64_t before = tested.cache.counts().hits;
  for (std::uint64_t i = 0; i < 3000; ++i) tested.cache.request({.key = second(i)});
  EXPECT_GT(tested.cache.counts().hits - before, 1500U);
  EXPECT_TRUE(loses_nothing(tested.cache));
}

TEST(AutoPolicy, StaysWithinAHundredthOfLruWhereLruIsBest) {
  for (const std::uint64_t capacity : {20U, 150U, 1000U, 5000U}) {
    AutoCache tested(options_of(capacity));
    SimulatedCache lru(PolicyKind::lru, {.capacity = capacity});
    const Workload keys = recent(2 * capacity);
    for (std::uint64_t i = 0; i < 200'000; ++i) {
      const CacheRequest request{.key = keys(i)};
      tested.cache.request(request);
      lru.request(request);
    }
    const auto misses = [](const SimulatedCache& cache) {
      return static_cast<double>(cache.counts().requests - cache.counts().hits);
    };
    EXPECT_LE(misses(tested.cache), 1.01 * misses(lru)) << capacity;
  }
}

TEST(AutoPolicy, CarriesALargeCacheOverAFewEntriesAtATime) {
  constexpr std::uint64_t kCapacity = 30'000;
  AutoCache tested(options_of(kCapacity));
  const Workload keys = loop(40'000);
  for (std::uint64_t i = 0; i < 1'000'000; ++i) {
    tested.cache.request({.key = keys(i)});
    if (i % 10'007 == 0) {
      ASSERT_TRUE(loses_nothing(tested.cache)) << i;
    }
  }
  EXPECT_GT(tested.report().switches, 0U);
  EXPECT_LT(tested.report().sample_rate, 1);
  EXPECT_LT(tested.miss_ratio(), 0.7);
}

TEST(AutoPolicy, TakesHitDensityWhereSizesVary) {
  AutoCache tested(options_of(3'000'000));
  Requests requests(3, 4000, Sizes::steady);
  for (int i = 0; i < 50'000; ++i) tested.cache.request(requests.next());
  EXPECT_EQ(tested.report().current, PolicyKind::gdsf);
}

TEST(AutoPolicy, SurvivesErasingUpdatingAndResizing) {
  for (const Objective objective : {Objective::objects, Objective::bytes, Objective::cost}) {
    AutoCache tested(options_of(2'000'000, objective));
    Requests requests(9, 3000, Sizes::changing);
    const std::uint64_t capacities[] = {50'000, 4'000'000, 900, 2'000'000};
    for (int i = 0; i < 60'000; ++i) {
      tested.cache.request(requests.next());
      if (i % 5 == 0) tested.cache.erase(requests.next().key);
      if (i % 10'000 == 9999) tested.cache.resize(capacities[(i / 10'000) % 4]);
      ASSERT_LE(tested.cache.used(), tested.cache.capacity());
    }
    std::vector<EntryId> order;
    tested.cache.policy().order(order);
    EXPECT_EQ(order.size(), tested.cache.entries());
  }
}

TEST(AutoPolicy, TakesAFiftiethOfTheCacheForItsSimulations) {
  constexpr std::uint64_t kCapacity = 256ULL << 20U;
  AutoCache tested(options_of(kCapacity));
  std::mt19937_64 random(4);
  for (int i = 0; i < 1'000'000; ++i) {
    const double draw = std::uniform_real_distribution<>{0, 1}(random);
    const auto key = static_cast<std::uint64_t>(draw * draw * draw * 600'000);
    tested.cache.request({.key = key, .bytes = 512 + key % 1024});
  }
  const std::size_t entries = tested.cache.entries();
  ASSERT_GT(entries, 100'000U);
  // Beside what any policy keeps of its entries: here up to 200 bytes, 24 of them auto's own.
  EXPECT_LE(tested.policy->metadata_bytes(), kCapacity / 50 + 200 * entries);
  EXPECT_LT(tested.report().sample_rate, 0.1);
  EXPECT_LT(static_cast<double>(tested.report().sampled), 0.2 * 1e6);
}

TEST(AutoPolicy, DoesTheSameFromTheSameStart) {
  AutoCache one(options_of(700, Objective::objects, 42));
  AutoCache two(options_of(700, Objective::objects, 42));
  Requests requests(8, 5000, Sizes::one);
  for (int i = 0; i < 100'000; ++i) {
    const CacheRequest request = requests.next();
    ASSERT_EQ(one.cache.request(request), two.cache.request(request)) << i;
  }
  EXPECT_EQ(one.report().switches, two.report().switches);
}

TEST(AutoPolicy, ReportsWhatEachCandidateWouldHaveMissed) {
  AutoCache tested(options_of(100));
  const Workload keys = loop(150);
  for (std::uint64_t i = 0; i < 20'000; ++i) tested.cache.request({.key = keys(i)});
  const AutoReport report = tested.report();
  ASSERT_GT(report.requests, 20'000U - 1024) << "but for the latest, which wait";
  const auto of = [&](PolicyKind kind) {
    return *std::find_if(report.candidates.begin(), report.candidates.end(),
                         [kind](const auto& candidate) { return candidate.kind == kind; });
  };
  EXPECT_DOUBLE_EQ(of(PolicyKind::lru).miss_ratio, 1);
  EXPECT_LT(of(PolicyKind::lru).regret, 0) << "the cache did better than lru";
  EXPECT_LT(of(report.current).miss_ratio, 0.6);
}

TEST(AutoPolicy, IsUnchangedByARequestThatFindsNoMemory) {
  AutoCache tested(options_of(60));
  const Workload keys = loop(90);
  for (std::uint64_t i = 0; i < 1500; ++i) {
    const std::size_t entries = tested.cache.entries();
    bool refused = false;
    walk_allocation_failures(
        [&] {
          refused = false;
          try {
            tested.cache.request({.key = keys(i)});
          } catch (const std::bad_alloc&) {
            refused = true;
          }
        },
        [&] {
          if (refused) {
            EXPECT_EQ(tested.cache.entries(), entries);
          }
        });
    ASSERT_FALSE(::testing::Test::HasFailure()) << i;
  }
  EXPECT_EQ(tested.cache.entries(), 60U);
}

}  // namespace
}  // namespace forebay::testing
