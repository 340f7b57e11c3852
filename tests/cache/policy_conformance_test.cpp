// What every policy must do, whichever it is: each kind that make_policy() makes is tested.
#include <gtest/gtest.h>

#include <algorithm>
#include <new>
#include <string>
#include <tuple>

#include "cache/simulated_cache.hpp"
#include "checked_policy.hpp"
#include "requests.hpp"
#include "support/failing_new.hpp"

namespace forebay::testing {
namespace {

using detail::CacheRequest;
using detail::make_policy;
using detail::Objective;
using detail::SimulatedCache;

struct Watched {
  std::shared_ptr<PolicyRecord> record = std::make_shared<PolicyRecord>();
  SimulatedCache cache;

  explicit Watched(PolicyKind kind, PolicyOptions options,
                   CheckedPolicy::Asks asks = CheckedPolicy::Asks::yes)
      : cache(std::make_unique<CheckedPolicy>(make_policy(kind, options), record, asks),
              options.capacity) {}

  void expect_consistent() const {
    EXPECT_LE(cache.used(), cache.capacity());
    EXPECT_EQ(cache.entries(), record->in.size());
    EXPECT_TRUE(CheckedPolicy::orders_what_is_in(cache.policy(), *record));
    std::uint64_t bytes = 0;
    for (const auto& [id, facts] : record->in) bytes += facts.bytes;
    EXPECT_EQ(cache.used(), bytes);
  }
};

class Policy : public ::testing::TestWithParam<std::tuple<PolicyKind, Objective>> {
 protected:
  static PolicyKind kind() { return std::get<0>(GetParam()); }
  static PolicyOptions options(std::uint64_t capacity, std::uint64_t seed = 1) {
    return {capacity, std::get<1>(GetParam()), seed};
  }
};

std::string name_of(const ::testing::TestParamInfo<Policy::ParamType>& info) {
  constexpr const char* kObjectives[] = {"objects", "bytes", "cost"};
  return std::string{to_string(std::get<0>(info.param))} + "_for_" +
         kObjectives[static_cast<std::size_t>(std::get<1>(info.param))];
}

INSTANTIATE_TEST_SUITE_P(All, Policy,
                         ::testing::Combine(::testing::ValuesIn(made_kinds()),
                                            ::testing::Values(Objective::objects, Objective::bytes,
                                                              Objective::cost)),
                         name_of);

TEST_P(Policy, SaysItsKind) { EXPECT_EQ(make_policy(kind(), options(10))->kind(), kind()); }

TEST_P(Policy, KeepsAtMostItsCapacityOfEntriesOfOneSize) {
  Watched watched(kind(), options(50));
  Requests requests(3, 400, Sizes::one);
  for (int i = 0; i < 20'000; ++i) {
    watched.cache.request(requests.next());
    ASSERT_LE(watched.cache.used(), watched.cache.capacity());
    if (i % 100 == 0) watched.expect_consistent();
  }
  EXPECT_GE(watched.cache.entries(), 45U) << "a cache of newcomers should be nearly full";
  EXPECT_GT(watched.cache.counts().hits, 2000U);
}

TEST_P(Policy, KeepsAtMostItsCapacityOfSizesThatDifferByAMillion) {
  Watched watched(kind(), options(3'000'000));
  Requests requests(4, 1000, Sizes::changing);
  for (int i = 0; i < 20'000; ++i) {
    watched.cache.request(requests.next());
    ASSERT_LE(watched.cache.used(), watched.cache.capacity());
    if (i % 100 == 0) watched.expect_consistent();
  }
  EXPECT_GT(watched.cache.counts().evictions, 100U);
  EXPECT_GT(watched.cache.counts().hits, 1000U);
}

TEST_P(Policy, DoesTheSameForTheSameSeedAndRequests) {
  Watched first(kind(), options(300'000, 9));
  Watched second(kind(), options(300'000, 9));
  Requests requests(5, 500, Sizes::changing);
  for (int i = 0; i < 10'000; ++i) {
    const CacheRequest request = requests.next();
    ASSERT_EQ(first.cache.request(request), second.cache.request(request));
  }
  EXPECT_EQ(first.record->victims, second.record->victims);
  EXPECT_FALSE(first.record->victims.empty());
}

TEST_P(Policy, DecidesTheSameWhetherItAsksForFactsOrKeepsThem) {
  Watched asking(kind(), options(300'000));
  Watched keeping(kind(), options(300'000), CheckedPolicy::Asks::no);
  Requests requests(14, 500, Sizes::changing);
  for (int i = 0; i < 10'000; ++i) {
    const CacheRequest request = requests.next();
    ASSERT_EQ(asking.cache.request(request), keeping.cache.request(request));
    if (i % 50 == 0) {
      ASSERT_EQ(asking.cache.erase(request.key), keeping.cache.erase(request.key));
    }
  }
  EXPECT_EQ(asking.record->victims, keeping.record->victims);
  EXPECT_LE(asking.cache.policy().metadata_bytes(), keeping.cache.policy().metadata_bytes());
}

TEST_P(Policy, IsNotDisturbedByErasing) {
  Watched watched(kind(), options(60));
  Requests requests(6, 300, Sizes::one);
  for (int i = 0; i < 10'000; ++i) {
    const std::uint64_t key = requests.next().key;
    watched.cache.request(requests.next());
    if (i % 3 == 0) watched.cache.erase(key);
    if (i % 100 == 0) watched.expect_consistent();
  }
}

// What was erased must not come back as a ghost: with nothing evicted so far, a policy whose
// entries were all erased has nothing to remember.
TEST_P(Policy, ForgetsWhatWasErased) {
  if (kind() == PolicyKind::wtinylfu || kind() == PolicyKind::learned) {
    GTEST_SKIP() << "counts requests by hash, of absent keys too";
  }
  Watched used(kind(), options(64));
  for (std::uint64_t key = 0; key < 64; ++key) used.cache.request({.key = key});
  for (std::uint64_t key = 64; key-- > 0;) EXPECT_TRUE(used.cache.erase(key));
  ASSERT_TRUE(used.record->in.empty());
  ASSERT_TRUE(used.record->victims.empty());

  Watched fresh(kind(), options(64));
  Requests requests(7, 200, Sizes::one);
  for (int i = 0; i < 3000; ++i) {
    const CacheRequest request = requests.next();
    ASSERT_EQ(used.cache.request(request), fresh.cache.request(request)) << i;
  }
  EXPECT_EQ(used.record->victims, fresh.record->victims);
}

TEST_P(Policy, ShrinksAndGrows) {
  Watched watched(kind(), options(2'000'000));
  Requests requests(8, 600, Sizes::steady);
  for (const std::uint64_t capacity : {20'000U, 5'000'000U, 1U, 1'000'000U, 3'000'000U, 700U}) {
    for (int i = 0; i < 2000; ++i) watched.cache.request(requests.next());
    watched.cache.resize(capacity);
    EXPECT_EQ(watched.cache.capacity(), capacity);
    watched.expect_consistent();
  }
  watched.cache.resize(1'000'000);
  for (int i = 0; i < 2000; ++i) watched.cache.request(requests.next());
  watched.expect_consistent();
  EXPECT_GT(watched.cache.entries(), 3U);
}

TEST_P(Policy, FollowsEntriesThatGrowAndShrink) {
  Watched watched(kind(), options(1000));
  for (std::uint64_t key = 0; key < 10; ++key) watched.cache.request({.key = key, .bytes = 100});
  const std::size_t before = watched.cache.entries();
  ASSERT_EQ(before, 10U);
  watched.cache.request({.key = 3, .bytes = 1});
  EXPECT_EQ(watched.cache.used(), 901U);
  watched.cache.request({.key = 3, .bytes = 900});
  watched.expect_consistent();
  watched.cache.request({.key = 4, .bytes = 1001});
  EXPECT_FALSE(watched.cache.contains(4)) << "larger than the cache";
  watched.expect_consistent();
}

TEST_P(Policy, HoldsOneEntryAtATime) {
  Watched watched(kind(), options(1));
  EXPECT_FALSE(watched.cache.request({.key = 1}));
  EXPECT_TRUE(watched.cache.contains(1)) << "an empty cache takes what comes";
  EXPECT_TRUE(watched.cache.request({.key = 1}));
  for (std::uint64_t key = 2; key < 100; ++key) {
    watched.cache.request({.key = key});
    ASSERT_EQ(watched.cache.entries(), 1U);
    watched.cache.request({.key = key % 5});
    watched.expect_consistent();
  }
}

TEST_P(Policy, TakesNumbersAgain) {
  Watched watched(kind(), options(500'000));
  Requests requests(10, 2000, Sizes::changing);
  for (int i = 0; i < 20'000; ++i) watched.cache.request(requests.next());
  // One more: a number is at hand before the first goes.
  EXPECT_LE(watched.record->highest, watched.record->peak);
}

TEST_P(Policy, CostsBoundedMetadataUnderChurn) {
  constexpr std::uint64_t kCapacity = 4096;
  SimulatedCache cache(kind(), options(kCapacity));
  Requests requests(11, 20'000, Sizes::one);
  const auto run = [&](std::uint64_t count) {
    for (std::uint64_t i = 0; i < count; ++i) {
      cache.request(requests.next());
      cache.request({.key = 1'000'000 + cache.counts().requests});  // asked for once
    }
  };
  run(4 * kCapacity);
  const std::size_t settled = cache.policy().metadata_bytes();
  run(10 * kCapacity);
  // Or what names may take: a policy that balances two lists of them can fill either later.
  EXPECT_LE(cache.policy().metadata_bytes(),
            std::max<std::size_t>(settled + settled / 4 + 1024, 30 * kCapacity));
  // lirs remembers twice what it holds.
  EXPECT_LE(settled, (kind() == PolicyKind::lirs ? 44 : 30) * kCapacity);
}

// Names included, also where those who go are far smaller than those who stay.
TEST_P(Policy, CostsMetadataByTheEntry) {
  SimulatedCache cache(kind(), options(1'000'000));
  std::size_t most_entries = 0;
  for (std::uint64_t i = 0; i < 100'000; ++i) {
    cache.request({.key = i % 100, .bytes = 9'000});
    if (i > 200) cache.request({.key = 1000 + i % 70'000, .bytes = 16});
    most_entries = std::max(most_entries, cache.entries());
  }
  EXPECT_LE(cache.policy().metadata_bytes(), 44 * most_entries + 20 * 1024);
}

TEST_P(Policy, IsUnchangedByARequestThatFindsNoMemory) {
  SimulatedCache cache(kind(), options(10'000'000));
  Requests requests(12, 3000, Sizes::changing);
  std::size_t failures = 0;
  for (int i = 0; i < 1500; ++i) {
    const CacheRequest request = requests.next();
    std::vector<EntryId> before;
    cache.policy().order(before);
    const auto counts = cache.counts();
    const std::uint64_t used = cache.used();
    bool refused = false;
    walk_allocation_failures(
        [&] {
          refused = false;
          try {
            cache.request(request);
          } catch (const std::bad_alloc&) {
            refused = true;
          }
        },
        [&] {
          if (!refused) return;
          ++failures;
          std::vector<EntryId> after;
          cache.policy().order(after);
          EXPECT_EQ(after, before);
          EXPECT_EQ(cache.counts().requests, counts.requests);
          EXPECT_EQ(cache.counts().evictions, counts.evictions);
          EXPECT_EQ(cache.used(), used);
        });
    ASSERT_FALSE(::testing::Test::HasFailure()) << "at request " << i;
  }
  EXPECT_GT(failures, 10U);
  EXPECT_LE(cache.used(), cache.capacity());
}

TEST_P(Policy, IsUnchangedByAResizeOrAnOrderThatFindsNoMemory) {
  SimulatedCache cache(kind(), options(100'000));
  Requests requests(13, 3000, Sizes::steady);
  for (int i = 0; i < 3000; ++i) cache.request(requests.next());
  const std::size_t entries = cache.entries();
  bool failed = false;
  const auto check = [&] {
    if (failed) {
      EXPECT_EQ(cache.entries(), entries);
    }
  };
  const std::size_t steps = walk_allocation_failures(
      [&] {
        failed = false;
        try {
          std::vector<EntryId> order;
          cache.policy().order(order);
        } catch (const std::bad_alloc&) {
          failed = true;
        }
      },
      check);
  EXPECT_GT(steps, 0U);
  walk_allocation_failures(
      [&] {
        failed = false;
        try {
          cache.resize(90'000);
        } catch (const std::bad_alloc&) {
          failed = true;
        }
      },
      check);
  EXPECT_LE(cache.used(), 90'000U);
}

TEST(PolicyNames, AreReadAsTheyAreWritten) {
  for (std::size_t i = 0; i < detail::kPolicyKinds; ++i) {
    const auto kind = static_cast<PolicyKind>(i);
    EXPECT_EQ(detail::policy_kind(to_string(kind)), kind);
  }
  EXPECT_EQ(to_string(PolicyKind::lru), "lru");
  EXPECT_EQ(to_string(PolicyKind::twoq), "twoq");
  EXPECT_EQ(to_string(PolicyKind::gdsf), "gdsf");
  EXPECT_EQ(to_string(PolicyKind::automatic), "auto");
  EXPECT_EQ(detail::policy_kind("LRU"), std::nullopt);
  EXPECT_EQ(detail::policy_kind(""), std::nullopt);
}

}  // namespace
}  // namespace forebay::testing
