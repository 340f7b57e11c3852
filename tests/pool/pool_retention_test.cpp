// How idle memory goes back: by goal, by age, by the cap; and what stays.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "forebay/pool.hpp"
#include "support/watched_ranges.hpp"
#include "support/watched_resource.hpp"

namespace forebay {
namespace {

using namespace literals;
using namespace std::chrono_literals;
using testing::WatchedRanges;

class PoolRetention : public ::testing::Test {
 protected:
  std::shared_ptr<Pool> make(PoolOptions options) {
    options.clock = &clock_;
    return Pool::create(upstream_, std::move(options));
  }
  // As many bytes in use at once, in blocks of this size, and idle again.
  static void burst(Pool& pool, Bytes total, Bytes size) {
    std::vector<Buffer> buffers;
    for (Bytes sum; sum < total; sum += size) buffers.push_back(pool.acquire(size).value());
  }
  // Ticks until nothing is idle above `floor`; how long that took.
  Duration time_until_idle_is(Pool& pool, Bytes floor, Duration step) {
    Duration passed{};
    while (pool.stats().idle > floor && passed < 1h) {
      clock_.advance(step);
      passed += step;
      pool.tick();
    }
    return passed;
  }
  ManualClock clock_;
  const std::shared_ptr<WatchedRanges> upstream_ = std::make_shared<WatchedRanges>();
};

TEST_F(PoolRetention, TrimGivesAboutTheGoalAndSaysWhatWent) {
  const auto pool = make({});
  for (const Bytes size : {1000_B, 20_KiB, 100_KiB, 5_MiB}) {
    burst(*pool, 64_MiB, size);
    while (pool->stats().idle > 0_B) {
      const Bytes goal{1 + pool->stats().idle.count() / 5};
      upstream_->clear();
      const Bytes idle = pool->stats().idle;
      const Bytes given = pool->trim(goal);
      ASSERT_EQ(given, upstream_->seen().decommitted);
      ASSERT_GE(given, std::min(goal, idle));
      ASSERT_LE(given, goal + 1_MiB);
      ASSERT_EQ(pool->stats().reserved, upstream_->live());
      pool->validate();
    }
  }
}

TEST_F(PoolRetention, TrimOfNothingGivesNothing) {
  const auto pool = make({});
  EXPECT_EQ(pool->trim(1_GiB), 0_B);
  burst(*pool, 8_MiB, 1_MiB);
  EXPECT_EQ(pool->trim(0_B), 0_B);
  EXPECT_EQ(pool->stats().idle, 8_MiB);
}

TEST_F(PoolRetention, TrimOfAnyGoalHoweverLargeGivesAll) {
  for (const Bytes goal : {Bytes::unlimited(), Bytes{Bytes::unlimited().count() - 1},
                           Bytes{Bytes::unlimited().count() - 5000}, 1_GiB}) {
    const auto pool = make({});
    burst(*pool, 8_MiB, 1_MiB);
    EXPECT_EQ(pool->trim(goal), 8_MiB);
  }
}

TEST_F(PoolRetention, ReclaimIsTrimAndReclaimableSaysHowMuch) {
  const auto pool = make({});
  burst(*pool, 8_MiB, 1_MiB);
  Reclaimer& reclaimer = *pool;
  EXPECT_EQ(reclaimer.reclaimable(), 8_MiB);
  EXPECT_EQ(reclaimer.reclaim(2_MiB), 2_MiB);
  EXPECT_EQ(reclaimer.reclaimable(), 6_MiB);
}

TEST_F(PoolRetention, ReleaseUnusedGivesAllThatIsIdleAndNothingLive) {
  const auto pool = make({});
  const Buffer large = pool->acquire(2_MiB).value();
  burst(*pool, 32_MiB, 700_KiB);
  burst(*pool, 1_MiB, 64_B);
  pool->release_unused();
  EXPECT_EQ(pool->stats().reserved, 2_MiB);
  EXPECT_EQ(pool->reclaimable(), 0_B);
  large.bytes()[0] = std::byte{1};
}

TEST_F(PoolRetention, TheBackgroundGivesInSlicesOfAtMostAMiB) {
  const auto pool = make({.ttl = 1s});
  burst(*pool, 64_MiB, 16_MiB);
  time_until_idle_is(*pool, 0_B, 1s);
  EXPECT_EQ(upstream_->live(), 0_B);
  EXPECT_LE(upstream_->seen().largest_decommit, 1_MiB);
}

TEST_F(PoolRetention, TheLongestIdleGoesFirst) {
  const auto pool = make({.max_retained = 1_GiB});
  std::vector<Buffer> buffers;
  std::vector<const void*> blocks;
  for (int i = 0; i < 8; ++i) {
    buffers.push_back(pool->acquire(40_MiB).value());  // more than a thread keeps
    blocks.push_back(buffers.back().data());
  }
  for (const std::size_t i : {1U, 3U, 5U}) buffers[i].reset();  // no neighbours
  std::vector<const void*> gone;
  upstream_->on_decommit = [&](const std::byte* at, Bytes) { gone.push_back(at); };
  pool->trim(1_MiB);
  ASSERT_EQ(gone.size(), 1U);
  EXPECT_EQ(gone[0], blocks[1]);
  upstream_->on_decommit = nullptr;
}

// ---- Age

TEST_F(PoolRetention, WhatABurstUsedGoesAfterTheTtlAndNotBefore) {
  for (const Bytes size : {1000_B, 100_KiB, 3_MiB}) {
    const auto pool = make({.ttl = 80s});
    pool->tick();
    burst(*pool, 30_MiB, size);
    const Bytes held = pool->stats().reserved;
    for (Duration passed{}; passed < 79s; passed += 1s) {
      clock_.advance(1s);
      pool->tick();
      ASSERT_EQ(pool->stats().reserved, held) << size.count() << " after " << passed.count();
    }
    // An eighth later, and as long as it takes to leave the thread's hands.
    EXPECT_LE(time_until_idle_is(*pool, 0_B, 1s), 1s + 10s + 3s) << size.count();
    EXPECT_EQ(upstream_->live(), 0_B);
  }
}

TEST_F(PoolRetention, WhatIsUsedAgainWithinTheTtlStays) {
  const auto pool = make({.ttl = 80s});
  for (int round = 0; round < 20; ++round) {
    burst(*pool, 30_MiB, 3_MiB);
    for (int i = 0; i < 7; ++i) {
      clock_.advance(10s);
      pool->tick();
    }
    ASSERT_EQ(pool->stats().misses, 10U) << "round " << round;
  }
}

TEST_F(PoolRetention, OnlyWhatLiesAboveTheUseOfThePastTtlGoes) {
  const auto pool = make({.ttl = 80s});
  burst(*pool, 60_MiB, 3_MiB);
  for (int i = 0; i < 60; ++i) {
    burst(*pool, 21_MiB, 3_MiB);
    clock_.advance(5s);
    pool->tick();
  }
  EXPECT_EQ(pool->stats().reserved, 21_MiB);
}

TEST_F(PoolRetention, AnAcquireNeverGivesBackBecauseOfAge) {
  const auto pool = make({.ttl = 1s});
  burst(*pool, 30_MiB, 3_MiB);
  clock_.advance(48h);
  upstream_->clear();
  for (int i = 0; i < 100; ++i) EXPECT_TRUE(pool->acquire(3_MiB).ok());
  EXPECT_TRUE(pool->try_acquire(3_MiB).ok());
  EXPECT_EQ(upstream_->seen().decommits, 0U);
  EXPECT_EQ(pool->stats().idle, 30_MiB);
}

TEST_F(PoolRetention, OfNoTtlKeepsNothingOverARoundOrTwo) {
  const auto pool = make({.ttl = 0s});
  burst(*pool, 30_MiB, 3_MiB);
  burst(*pool, 1_MiB, 100_B);
  pool->tick();
  pool->tick();
  EXPECT_EQ(upstream_->live(), 0_B);
}

TEST_F(PoolRetention, AgeNeverTakesTheFloor) {
  const auto pool = make({.ttl = 1s, .min_retained = 12_MiB});
  burst(*pool, 30_MiB, 3_MiB);
  for (int i = 0; i < 10; ++i) {
    clock_.advance(1h);
    pool->tick();
    ASSERT_GE(pool->stats().idle, 12_MiB);
  }
  EXPECT_EQ(pool->stats().idle, 12_MiB);
  EXPECT_EQ(pool->release_unused(), 12_MiB) << "who asks for it gets it";
}

// ---- The cap

TEST_F(PoolRetention, KeepsNoMoreThanTheCapAfterAnyRelease) {
  for (const Bytes cap : {0_B, 64_KiB, 3_MiB, 20_MiB}) {
    const auto pool = make({.max_retained = cap});
    std::mt19937 random{static_cast<unsigned>(cap.count())};
    std::vector<Buffer> buffers;
    for (int step = 0; step < 1500; ++step) {
      if (buffers.size() > 60 || (!buffers.empty() && random() % 2 == 0)) {
        std::swap(buffers[random() % buffers.size()], buffers.back());
        buffers.pop_back();
        ASSERT_LE(pool->stats().idle, cap) << step;
      } else {
        buffers.push_back(pool->acquire(33_KiB + Bytes{random() % (2ULL << 20)}).value());
      }
    }
    buffers.clear();
    EXPECT_LE(pool->stats().idle, cap);
    pool->validate();
  }
}

TEST_F(PoolRetention, TheCapHoldsForSlabsOnceNoThreadKeepsBlocksOfThem) {
  for (const Bytes cap : {0_B, 64_KiB, 3_MiB}) {
    const auto pool = make({.max_retained = cap});
    std::vector<Buffer> buffers;
    for (std::uint64_t i = 0; i < 4000; ++i) {
      buffers.push_back(pool->acquire(Bytes{1 + i * 7919 % 32768}).value());
    }
    std::shuffle(buffers.begin(), buffers.end(), std::mt19937{7});
    buffers.clear();
    pool->tick();
    pool->tick();
    EXPECT_LE(pool->stats().idle, cap);
    EXPECT_EQ(pool->stats().live, 0_B);
  }
}

TEST_F(PoolRetention, ABlockLargerThanTheCapGoesAtOnce) {
  const auto pool = make({.max_retained = 1_MiB});
  { const Buffer buffer = pool->acquire(8_MiB).value(); }
  EXPECT_LE(upstream_->live(), 1_MiB);
}

TEST_F(PoolRetention, UnderTheCapNothingGoes) {
  const auto pool = make({.max_retained = 64_MiB});
  burst(*pool, 40_MiB, 4_MiB);
  EXPECT_EQ(upstream_->seen().decommits, 0U);
}

// ---- Segments: whole ones only

TEST(PoolSegments, GoWhenTheyAreEmptyAndNotBefore) {
  const auto upstream = std::make_shared<testing::WatchedResource>();
  ManualClock clock;
  const auto pool = Pool::create(upstream, {.clock = &clock});
  Buffer first = pool->acquire(300_KiB).value();
  Buffer second = pool->acquire(300_KiB).value();
  EXPECT_EQ(upstream->live_blocks(), 1U);
  first.reset();
  EXPECT_EQ(pool->release_unused(), 0_B);
  second.reset();
  const Bytes given = pool->release_unused();
  EXPECT_GT(given, 600_KiB);
  EXPECT_EQ(upstream->freed(), std::vector<Bytes>{given});
  EXPECT_EQ(pool->stats().reserved, 0_B);
}

}  // namespace
}  // namespace forebay
