// What a cache under `auto` is charged for the memory of its policies, and that no switch passes a
// line or a budget.

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <random>
#include <thread>
#include <vector>

#include "forebay/cache.hpp"
#include "support/failing_new.hpp"

namespace forebay::testing {
namespace {

using namespace forebay::literals;

using Words = Cache<std::uint64_t, std::uint64_t>;  // small values: bookkeeping is most of it
constexpr std::uint64_t kBlock = 16;
constexpr std::uint64_t kUnderLru = kBlock + 66;

bool request(Words& cache, std::uint64_t key) {
  const bool hit = bool{cache.find(key)};
  if (!hit) static_cast<void>(cache.put(key, key));
  return hit;
}

// Loops are bad for lru; what comes twice, with a distance near what fits, is good for nothing
// else.
std::uint64_t looped(std::uint64_t i, std::uint64_t keys) { return i % keys; }
std::uint64_t twice(std::uint64_t i, std::uint64_t distance) {
  return (1ULL << 40) + i / 2 + (i % 2 == 0 ? distance : 0);
}

double charge_per_entry(const CacheStats& stats) {
  return static_cast<double>(stats.used.count()) / static_cast<double>(stats.entries);
}

TEST(CachePolicyCharge, IsThatOfLruToTheByteBeforeAnotherIsChosen) {
  for (const Bytes line : {1_MiB, 8_MiB}) {
    Words cache{{.max_bytes = line}};
    EXPECT_EQ(cache_entry_overhead("auto").count(), kUnderLru - kBlock);
    for (std::uint64_t i = 0; i != 1000; ++i) ASSERT_TRUE(cache.put(i, i));
    EXPECT_EQ(cache.stats().used.count(), 1000 * kUnderLru);
    for (std::uint64_t i = 0; i != 500; ++i) ASSERT_TRUE(cache.put(i, i + 1));
    for (std::uint64_t i = 0; i != 300; ++i) cache.erase(i);
    EXPECT_EQ(cache.stats().used.count(), 700 * kUnderLru);
    {
      auto held = cache.snapshot();
      for (std::uint64_t i = 300; i != 500; ++i) cache.erase(i);
      EXPECT_EQ(cache.stats().used.count(), 700 * kUnderLru) << "pinned, and so charged";
      cache.validate();
    }
    EXPECT_EQ(cache.stats().used.count(), 500 * kUnderLru);
    cache.clear();
    EXPECT_EQ(cache.stats().used, 0_B);
    cache.validate();
  }
}

TEST(CachePolicyCharge, RisesBeforeASwitchAndFallsAfterTheWayBack) {
  // The budget is the line in one case, max_bytes in the other.
  for (const Bytes limit : {2304_KiB, 16_MiB}) {
    Budget budget{"line", {.limit = limit}};
    Words cache{{.max_bytes = limit == 16_MiB ? 2304_KiB : 4_MiB,
                 .max_age = std::chrono::hours{1},
                 .shards = 1,
                 .budget = &budget}};
    std::uint64_t most = 0;
    std::uint64_t i = 0;
    const auto ask = [&](std::uint64_t key) {
      request(cache, key);
      const CacheStats stats = cache.stats();
      most = std::max(most, stats.entries);
      ASSERT_LE(stats.used + stats.reserved, stats.max_bytes);
      ASSERT_EQ(budget.stats().used, stats.used + stats.reserved);
      // Numbers of entries that made room stay, each with no more than what an entry is charged for
      // while a switch from the policy that takes most lasts.
      const std::uint64_t idle = (most - stats.entries) * (64 + 34);
      ASSERT_LE(stats.bookkeeping.count(),
                stats.reserved.count() + stats.used.count() - stats.entries * kBlock + idle + 4096)
          << i << " " << cache.policy_report().in_force;
      if (++i % 20'000 == 0) cache.validate();
    };
    // Until shards have another policy, and for some time.
    std::uint64_t others = 0;
    for (int n = 0; n != 600'000 && others < 100'000 && !HasFatalFailure(); ++n) {
      ask(looped(i, 34'000));
      if (charge_per_entry(cache.stats()) > kUnderLru + 7) ++others;
    }
    ASSERT_FALSE(HasFatalFailure());
    ASSERT_EQ(others, 100'000U) << cache.policy_report().in_force;
    EXPECT_NE(cache.policy_report().in_force, "lru");
    for (int n = 0; n != 1'500'000 && !HasFatalFailure(); ++n) {
      ask(twice(i, 14'000));
      if (n % 1000 == 0 && cache.policy_report().in_force == "lru" &&
          charge_per_entry(cache.stats()) == double{kUnderLru}) {
        break;
      }
    }
    EXPECT_EQ(cache.stats().used.count(), cache.stats().entries * kUnderLru)
        << cache.policy_report().in_force;
    EXPECT_LE(budget.stats().peak, limit);
    cache.clear();
    EXPECT_EQ(cache.stats().used, 0_B);
    EXPECT_EQ(budget.stats().used, cache.stats().reserved);
    cache.validate();
  }
}

TEST(CachePolicyCharge, ASwitchThatCannotBeAffordedWaits) {
  Words cache{{.max_bytes = 2_MiB, .shards = 1}};
  std::uint64_t key = 0;
  while (cache.stats().evicted == 0) request(cache, key++);
  const auto pinned = cache.snapshot();
  const Bytes used = cache.stats().used;
  // Nothing has room: what a loop would have hit is found out all the same.
  for (int n = 0; n != 400'000 && cache.policy_report().in_force == "lru"; ++n) {
    request(cache, (1U << 20U) + static_cast<std::uint64_t>(n) % 30'000);
  }
  ASSERT_NE(cache.policy_report().in_force, "lru") << "what is to be taken";
  EXPECT_GT(cache.stats().refused, 100'000U);
  EXPECT_LE(cache.stats().used, used + Bytes{kUnderLru});
  cache.validate();
}

TEST(CachePolicyCharge, APinnedCacheSwitchesWhenItsPinsGo) {
  Words cache{{.max_bytes = 2_MiB, .shards = 1}};
  std::uint64_t i = 0;
  for (; i != 60'000; ++i) request(cache, i % 30'000);
  auto pinned = cache.snapshot();
  pinned.resize(pinned.size() / 2);
  for (; i != 400'000; ++i) {
    request(cache, i % 30'000);
    ASSERT_LE(cache.stats().used + cache.stats().reserved, 2_MiB);
  }
  cache.validate();
  for (std::uint64_t key = 0; key != 1000; ++key) cache.erase(key);
  cache.validate();
  pinned.clear();
  cache.validate();
  for (; i != 900'000 && charge_per_entry(cache.stats()) < kUnderLru + 7; ++i) {
    request(cache, i % 30'000);
  }
  EXPECT_GE(charge_per_entry(cache.stats()), kUnderLru + 7);
  cache.validate();
  cache.clear();
  EXPECT_EQ(cache.stats().used, 0_B);
}

// Moves of values are the user's code, and run between the making of room and the putting in.
struct Hooked {
  explicit Hooked(std::function<void()>* on_move) : hook(on_move) {}
  Hooked(Hooked&& other) noexcept : hook(std::exchange(other.hook, nullptr)) {
    if (hook != nullptr && *hook) std::exchange(*hook, nullptr)();
  }
  Hooked& operator=(Hooked&&) = delete;
  ~Hooked() = default;
  std::function<void()>* hook;
};

TEST(CachePolicyCharge, ANewcomerPaysForASwitchThatBeganWhileItWasMade) {
  Cache<std::uint64_t, Hooked> cache{{.max_bytes = 2_MiB, .shards = 1}};
  std::function<void()> none;
  const auto ask = [&](std::uint64_t key) {
    if (!cache.find(key)) static_cast<void>(cache.put(key, Hooked{&none}));
  };
  std::uint64_t switched = 0;
  for (int n = 0; n != 300; ++n) {
    double before = 0;
    std::function<void()> requests = [&] {
      before = charge_per_entry(cache.stats());
      for (int i = 0; i != 3000; ++i) ask(static_cast<std::uint64_t>(n * 3000 + i) % 30'000);
    };
    ASSERT_TRUE(cache.put((1ULL << 40) + static_cast<std::uint64_t>(n), Hooked{&requests}));
    if (charge_per_entry(cache.stats()) > before + 4) ++switched;
    cache.validate();
  }
  EXPECT_GT(switched, 0U);
}

TEST(CachePolicyCharge, LinesHoldWhileThreadsSwitchBothWays) {
  constexpr Bytes kLimit = 3_MiB;
  Budget budget{"line", {.limit = kLimit}};
  {
    Words first{{.name = "first", .max_bytes = 2_MiB, .shards = 2, .budget = &budget}};
    Words second{{.name = "second", .max_bytes = 8_MiB, .shards = 4, .budget = &budget}};
    std::vector<std::thread> threads;
    for (std::uint64_t t = 0; t != 4; ++t) {
      threads.emplace_back([&, t] {
        Words& cache = t % 2 == 0 ? first : second;
        for (std::uint64_t i = 0; i != 60'000; ++i) {
          const bool loops = i / 20'000 % 2 == 0;
          request(cache, loops ? looped(i + t * 7000, 26'000) : twice(i + t * 100'000, 9000));
          if (i % 64 == 0) cache.erase(looped(i, 26'000));
          const CacheStats stats = cache.stats();
          if (stats.used + stats.reserved > stats.max_bytes) std::abort();
          if (i % 9000 == 0) static_cast<void>(cache.reclaim(100_KiB));
          if (i == 30'000 && t == 0) cache.validate();
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_LE(budget.stats().peak, kLimit);
    for (const Words* cache : {&first, &second}) {
      EXPECT_LE(cache->stats().peak + cache->stats().reserved, cache->stats().max_bytes);
      cache->validate();
    }
    EXPECT_EQ(budget.stats().used, first.stats().used + first.stats().reserved +
                                       second.stats().used + second.stats().reserved);
  }
  EXPECT_EQ(budget.stats().used, 0_B);
  budget.validate();
}

// A few large entries, asked for in a loop. The same requests do the same each time.
struct Loop {
  static constexpr Bytes kLine{2ULL << 20};
  static constexpr std::uint64_t kWeight = 64'000;
  static constexpr std::uint64_t kEntry = kWeight + kBlock + 64;

  void ask() {
    const std::uint64_t key = next++ % 45;
    if (!cache.find(key)) static_cast<void>(cache.put(key, kWeight));
  }
  std::uint64_t charged_beside() const {
    const CacheStats stats = cache.stats();
    return stats.used.count() - stats.entries * kEntry;
  }
  bool lines_hold() const {
    const CacheStats stats = cache.stats();
    return budget.stats().used == stats.used + stats.reserved && budget.stats().peak <= kLine;
  }

  Budget budget{"line", {.limit = kLine}};
  Words cache{{.max_bytes = kLine, .shards = 1, .budget = &budget},
              {.weigher = [](std::uint64_t, std::uint64_t bytes) { return Bytes{bytes}; }}};
  std::uint64_t next = 0;
};

TEST(CachePolicyCharge, AFailureAtAnyAllocationOfASwitchLeavesWhatIsCharged) {
  constexpr std::uint64_t kWindow = 100;  // from the choice to the end of the switch
  std::uint64_t chosen = 0;
  {
    Loop loop;
    while (loop.next != 5000 && loop.cache.policy_report().in_force == "lru") loop.ask();
    ASSERT_NE(loop.cache.policy_report().in_force, "lru");
    chosen = loop.next;
    for (std::uint64_t i = 0; i != kWindow; ++i) loop.ask();
    ASSERT_GT(loop.charged_beside(), 2 * loop.cache.stats().entries) << "it has switched";
  }
  std::size_t failed = 0;
  for (bool more = true; more;) {
    Loop loop;
    while (loop.next != chosen) loop.ask();
    {
      const FailingNew failure{failed};
      for (std::uint64_t i = 0; i != kWindow; ++i) {
        loop.ask();
        if (!loop.lines_hold()) std::abort();
      }
      more = FailingNew::has_failed();
    }
    loop.cache.validate();
    // What could not be done is done later.
    for (int i = 0; i != 1000; ++i) loop.ask();
    ASSERT_TRUE(loop.lines_hold()) << failed;
    EXPECT_GT(loop.charged_beside(), 2 * loop.cache.stats().entries) << failed;
    loop.cache.validate();
    loop.cache.clear();
    ASSERT_EQ(loop.cache.stats().used, 0_B) << failed;
    if (more) ++failed;
  }
  EXPECT_GE(failed, 8U) << "the walk has to go through the switch";
}

}  // namespace
}  // namespace forebay::testing
