// Deadlines: the wheel alone, and the cache with a clock that stands still until told to move.

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <condition_variable>
#include <map>
#include <mutex>

#include "cache/wheel.hpp"
#include "forebay/cache.hpp"

namespace forebay {
namespace {

using namespace forebay::literals;
using std::chrono::milliseconds;

constexpr Duration kTick{1LL << detail::kTickShift};

RC_GTEST_PROP(TimerWheel, GivesEachEntryAtItsTimeAndNoneBefore, ()) {
  detail::TimerWheel wheel{4096};
  wheel.prepare();
  std::map<detail::EntryId, std::uint64_t> linked;
  std::uint64_t now = *rc::gen::inRange<std::uint64_t>(0, 1ULL << 33);
  (void)wheel.advance(
      now, 64, [](detail::EntryId) { return std::uint64_t{0}; }, [](detail::EntryId) {});
  const auto steps = *rc::gen::inRange(1, 60);
  for (int step = 0; step != steps; ++step) {
    const auto count = *rc::gen::inRange<detail::EntryId>(0, 20);
    for (detail::EntryId i = 0; i != count; ++i) {
      const auto id = *rc::gen::inRange<detail::EntryId>(0, 4096);
      const auto reach = *rc::gen::element<std::uint64_t>(2, 64, 4096, 1ULL << 18, 1ULL << 31);
      if (linked.contains(id)) {
        wheel.unlink(id);
        linked.erase(id);
        continue;
      }
      linked[id] = now + *rc::gen::inRange<std::uint64_t>(0, reach);
      wheel.link(id, linked[id]);
    }
    now += *rc::gen::inRange<std::uint64_t>(0, 1ULL << *rc::gen::inRange(1, 30));
    std::map<detail::EntryId, std::uint64_t> due;
    while (wheel.advance(
        now, 5, [&](detail::EntryId id) { return linked.at(id); },
        [&](detail::EntryId id) { due[id] = linked.at(id); })) {
    }
    for (const auto& [id, deadline] : due) {
      RC_ASSERT(deadline <= now);
      RC_ASSERT(linked.erase(id) == 1U);
    }
    for (const auto& [id, deadline] : linked) RC_ASSERT(deadline > now);
    RC_ASSERT(wheel.linked() == linked.size());
    std::uint64_t next = detail::TimerWheel::kNever;
    for (const auto& [id, deadline] : linked) next = std::min(next, deadline);
    RC_ASSERT(wheel.next_due() <= next);
    RC_ASSERT((wheel.next_due() == detail::TimerWheel::kNever) == linked.empty());
  }
}

class CacheExpiry : public ::testing::Test {
 protected:
  CacheOptions options() {
    CacheOptions made;
    made.clock = &clock_;
    return made;
  }
  ManualClock clock_;
};

TEST_F(CacheExpiry, AnEntryLivesForItsTimeAndATickAtMost) {
  Cache<int, int> cache{options()};
  ASSERT_TRUE(cache.put(1, 1, {.ttl = milliseconds{100}}));
  ASSERT_TRUE(cache.put(2, 2));
  clock_.advance(milliseconds{100});
  EXPECT_TRUE(cache.find(1));
  clock_.advance(kTick);
  EXPECT_FALSE(cache.find(1));
  EXPECT_EQ(cache.stats().stale, 1U);
  EXPECT_EQ(cache.stats().entries, 2U);
  EXPECT_EQ(cache.cleanup_expired(), 1U);
  EXPECT_EQ(cache.cleanup_expired(), 0U);
  EXPECT_EQ(cache.stats().entries, 1U);
  EXPECT_EQ(cache.stats().expired, 1U);
  EXPECT_TRUE(cache.find(2));
}

TEST_F(CacheExpiry, MaxAgeIsTheLongestTime) {
  CacheOptions made = options();
  made.max_age = milliseconds{500};
  Cache<int, int> cache{made};
  ASSERT_TRUE(cache.put(1, 1));
  ASSERT_TRUE(cache.put(2, 2, {.ttl = milliseconds{100}}));
  ASSERT_TRUE(cache.put(3, 3, {.ttl = std::chrono::hours{1}}));
  clock_.advance(milliseconds{200});
  EXPECT_EQ(cache.cleanup_expired(), 1U);
  clock_.advance(milliseconds{400});
  EXPECT_EQ(cache.cleanup_expired(), 2U);
}

TEST_F(CacheExpiry, APinnedEntryExpiresAndItsHandleStays) {
  Cache<int, int> cache{options()};
  ASSERT_TRUE(cache.put(1, 7, {.ttl = milliseconds{10}}));
  auto held = cache.find(1);
  clock_.advance(milliseconds{50});
  EXPECT_EQ(cache.cleanup_expired(), 1U);
  EXPECT_EQ(*held, 7);
  EXPECT_NE(cache.stats().used, 0_B);
  held.reset();
  EXPECT_EQ(cache.stats().used, 0_B);
  cache.validate();
}

TEST_F(CacheExpiry, APutOverAnExpiredEntryIsAnInsertion) {
  std::vector<RemovalReason> told;
  Cache<int, int> cache{
      options(), {.listener = [&](int, int, RemovalReason reason) { told.push_back(reason); }}};
  ASSERT_TRUE(cache.put(1, 1, {.ttl = milliseconds{10}}));
  clock_.advance(milliseconds{50});
  EXPECT_EQ(cache.put_if_absent(1, 2, {.ttl = milliseconds{10}}).value(), PutOutcome::inserted);
  EXPECT_EQ(*cache.find(1), 2);
  EXPECT_EQ(told, std::vector{RemovalReason::expired});
  clock_.advance(milliseconds{50});
  EXPECT_FALSE(cache.erase(1));
  EXPECT_TRUE(cache.snapshot().empty());
}

TEST_F(CacheExpiry, AReplacementHasATimeOfItsOwn) {
  Cache<int, int> cache{options()};
  ASSERT_TRUE(cache.put(1, 1, {.ttl = milliseconds{10}}));
  ASSERT_TRUE(cache.put(1, 2, {.ttl = milliseconds{500}}));
  ASSERT_TRUE(cache.put(2, 1, {.ttl = milliseconds{10}}));
  ASSERT_TRUE(cache.put(2, 2));
  clock_.advance(milliseconds{100});
  EXPECT_EQ(cache.cleanup_expired(), 0U);
  EXPECT_TRUE(cache.find(1));
  clock_.advance(std::chrono::hours{1});
  EXPECT_EQ(cache.cleanup_expired(), 1U);
  EXPECT_TRUE(cache.find(2));
  cache.validate();
}

TEST_F(CacheExpiry, ManyExpireInManySteps) {
  Cache<int, int> cache{options()};
  for (int key = 0; key != 20'000; ++key) {
    ASSERT_TRUE(cache.put(key, key, {.ttl = milliseconds{10 + key % 600'000}}));
  }
  clock_.advance(std::chrono::seconds{5});
  const std::uint64_t first = cache.cleanup_expired();
  EXPECT_GE(first, 4980U);
  EXPECT_LE(first, 4992U);
  clock_.advance(std::chrono::minutes{11});
  EXPECT_EQ(cache.cleanup_expired(), 20'000 - first);
  EXPECT_EQ(cache.stats().used, 0_B);
}

TEST_F(CacheExpiry, TimesBeyondAnyUptimeWork) {
  Cache<int, int> cache{options()};
  for (int year = 0; year != 12; ++year) {
    ASSERT_TRUE(cache.put(year, year, {.ttl = std::chrono::hours{24 * 150}}));
    clock_.advance(std::chrono::hours{24 * 100});
    EXPECT_TRUE(cache.find(year));
    clock_.advance(std::chrono::hours{24 * 100});
    EXPECT_FALSE(cache.find(year));
    EXPECT_EQ(cache.cleanup_expired(), 1U);
  }
}

// With the machine's clock a thread of the process does it: no one asks the cache for anything.
TEST(CacheBackground, FreesWhatExpiresWithoutAnyCall) {
  std::mutex mutex;
  std::condition_variable changed;
  int told = 0;
  Cache<int, int> cache{{}, {.listener = [&](int, int, RemovalReason reason) {
                          const std::lock_guard lock{mutex};
                          if (reason == RemovalReason::expired) ++told;
                          changed.notify_all();
                        }}};
  ASSERT_TRUE(cache.put(1, 1, {.ttl = std::chrono::hours{1}}));
  for (int key = 2; key != 100; ++key) {
    ASSERT_TRUE(cache.put(key, key, {.ttl = milliseconds{key}}));
  }
  std::unique_lock lock{mutex};
  changed.wait(lock, [&] { return told == 98; });
  lock.unlock();
  EXPECT_TRUE(cache.find(1));
}

TEST(CacheBackground, CachesComeAndGoWhileItRuns) {
  for (int i = 0; i != 20; ++i) {
    Cache<int, int> cache;
    ASSERT_TRUE(cache.put(1, 1, {.ttl = milliseconds{1}}));
    ASSERT_TRUE(cache.put(2, 1, {.ttl = std::chrono::hours{1}}));
  }
}

}  // namespace
}  // namespace forebay
