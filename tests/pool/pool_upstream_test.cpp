// A pool and what it stands on: budgets that hold their line, pools, refusals.
#include <gtest/gtest.h>

#include <functional>
#include <vector>

#include "forebay/budget.hpp"
#include "forebay/pool.hpp"
#include "support/watched_ranges.hpp"

namespace forebay {
namespace {

using namespace literals;
using testing::WatchedRanges;

class PoolOnABudget : public ::testing::Test {
 protected:
  std::shared_ptr<Pool> make(Budget& budget) {
    return Pool::create(budget.meter(Device::host()), {.name = "pool", .clock = &clock_});
  }
  ManualClock clock_;
  Budget process_{"process", {.limit = 64_MiB}};
};

TEST_F(PoolOnABudget, ReservedIsWhatTheBudgetIsChargedAtEveryStep) {
  const auto pool = make(process_);
  std::vector<Buffer> buffers;
  for (std::uint64_t i = 0; i < 600; ++i) {
    auto buffer = pool->acquire(Bytes{1 + i * i * 977 % 1'000'000});
    if (buffer) buffers.push_back(std::move(*buffer));
    if (!buffer || i % 4 == 3) buffers.erase(buffers.begin());
    if (i % 50 == 0) pool->trim(1_MiB);
    ASSERT_EQ(pool->stats().reserved, process_.stats().used);
    ASSERT_LE(process_.stats().charged, 64_MiB);
  }
  EXPECT_LE(process_.stats().peak, 64_MiB);
  buffers.clear();
  pool->release_unused();
  EXPECT_EQ(process_.stats().used, 0_B);
}

TEST_F(PoolOnABudget, IdleMemoryGoesToAnotherTenantThatNeedsIt) {
  Budget mine = process_.child("mine").value();
  Budget other = process_.child("other").value();
  const auto pool = make(mine);
  const auto registration =
      mine.add_reclaimer(*pool, {.name = "pool", .stage = ReclaimStage::idle});
  const Buffer live = pool->acquire(10_MiB).value();
  { const Buffer idle = pool->acquire(40_MiB).value(); }
  EXPECT_EQ(mine.stats().used, 50_MiB);
  const auto reservation = other.reserve(54_MiB);
  EXPECT_TRUE(reservation.ok()) << reservation.status().message();
  EXPECT_EQ(mine.stats().used, 10_MiB);
  EXPECT_EQ(pool->stats().reserved, 10_MiB);
  EXPECT_FALSE(other.reserve(1_MiB).ok());
  pool->validate();
}

TEST_F(PoolOnABudget, TwoPoolsReclaimFromEachOtherAndHoldTheLine) {
  const auto first = make(process_);
  const auto second = make(process_);
  const auto one = process_.add_reclaimer(*first, {.name = "first", .stage = ReclaimStage::idle});
  const auto two = process_.add_reclaimer(*second, {.name = "second", .stage = ReclaimStage::idle});
  for (int round = 0; round < 10; ++round) {
    EXPECT_TRUE(first->acquire(60_MiB).ok());
    EXPECT_TRUE(second->acquire(60_MiB).ok());
    EXPECT_LE(process_.stats().used, 64_MiB);
  }
  EXPECT_LE(process_.stats().peak, 64_MiB);
}

TEST_F(PoolOnABudget, IsRefusedWithTheBudgetsAccount) {
  const auto pool = make(process_);
  const Buffer live = pool->acquire(40_MiB).value();
  const auto refused = pool->acquire(30_MiB);
  ASSERT_EQ(refused.status().code(), Code::memory_refused);
  EXPECT_NE(refused.status().message().find("process"), std::string::npos)
      << refused.status().message();
}

// ---- Refusals

class PoolRefusals : public ::testing::Test {
 protected:
  ManualClock clock_;
  const std::shared_ptr<SimulatedDevice> device_ =
      SimulatedDevice::create({.name = "gpu0", .capacity = 16_MiB});
  const std::shared_ptr<Pool> pool_ = Pool::create(device_, {.clock = &clock_});
};

TEST_F(PoolRefusals, SaysWhatUpstreamSaid) {
  const auto refused = pool_->acquire(17_MiB);
  ASSERT_EQ(refused.status().code(), Code::memory_refused);
  EXPECT_EQ(refused.status().message(), "gpu0: asked 18 MiB, 16 MiB free of 16 MiB");
  EXPECT_EQ(pool_->stats().refused, 1U);
}

TEST_F(PoolRefusals, ChecksArgumentsLikeAnyResource) {
  for (const bool grow : {true, false}) {
    const auto take = [&](Bytes size, Bytes alignment) {
      const AcquireOptions options{.alignment = alignment};
      return (grow ? pool_->acquire(size, options) : pool_->try_acquire(size, options))
          .status()
          .code();
    };
    EXPECT_EQ(take(1_KiB, 48_B), Code::invalid_argument);
    EXPECT_EQ(take(0_B, 0_B), Code::invalid_argument);
    EXPECT_EQ(take(1_KiB, 4_MiB), Code::invalid_argument);
    for (std::uint64_t size = 1ULL << 41; size >> 63 == 0; size *= 2) {
      EXPECT_EQ(take(Bytes{size}, 16_B), Code::memory_refused);
      EXPECT_EQ(take(Bytes{size + 4096}, kMaxAlignment), Code::memory_refused);
      EXPECT_EQ(take(Bytes{size * 2 - 1}, 1_B), Code::memory_refused);
    }
    EXPECT_EQ(take(Bytes::unlimited(), 16_B), Code::memory_refused);
  }
  EXPECT_EQ(pool_->stats().live_blocks, 0U);
  EXPECT_EQ(pool_->stats().reserved, 0_B);
}

TEST_F(PoolRefusals, IdleMemoryGoesBeforeAnybodyIsRefused) {
  const Buffer live = pool_->acquire(4_MiB).value();
  { const Buffer idle = pool_->acquire(5_MiB).value(); }
  {
    const std::vector<Buffer> small = [&] {
      std::vector<Buffer> buffers;
      for (int i = 0; i < 200; ++i) buffers.push_back(pool_->acquire(10_KiB).value());
      return buffers;
    }();
  }
  const Buffer rest = pool_->acquire(12_MiB).value();
  EXPECT_EQ(device_->stats().live, 16_MiB);
  EXPECT_EQ(pool_->stats().refused, 0U);
  pool_->validate();
}

TEST_F(PoolRefusals, ChangesNothingThatIsLive) {
  std::vector<Buffer> live;
  for (const Bytes size : {1_KiB, 100_KiB, 3_MiB}) live.push_back(pool_->acquire(size).value());
  pool_->release_unused();
  const PoolStats before = pool_->stats();
  device_->fail_after(0);
  EXPECT_FALSE(pool_->acquire(5_MiB).ok());
  EXPECT_FALSE(pool_->acquire(5_MiB, {.alignment = 2_MiB}).ok());
  EXPECT_FALSE(pool_->allocate(5_MiB).ok());
  const PoolStats after = pool_->stats();
  EXPECT_EQ(after.live, before.live);
  EXPECT_EQ(after.live_blocks, before.live_blocks);
  EXPECT_EQ(after.reserved, before.reserved);
  EXPECT_EQ(after.requested_total, before.requested_total);
  EXPECT_EQ(after.peak_live, before.peak_live);
  EXPECT_EQ(after.peak_reserved, before.peak_reserved);
  EXPECT_EQ(after.acquires, before.acquires);
  EXPECT_EQ(after.misses, before.misses);
  EXPECT_EQ(after.refused, before.refused + 3);
  pool_->validate();
  device_->never_fail();
}

TEST_F(PoolRefusals, ServesFromWhatIsIdleWhileUpstreamRefuses) {
  { const Buffer idle = pool_->acquire(8_MiB).value(); }
  device_->fail_after(0);
  for (const Bytes size : {8_MiB, 5_MiB, 100_KiB}) EXPECT_TRUE(pool_->acquire(size).ok());
  device_->never_fail();
}

TEST_F(PoolRefusals, ACapacityThatShrinksIsNoReasonToLoseAnything) {
  const Buffer live = pool_->acquire(8_MiB).value();
  device_->set_capacity(4_MiB);
  EXPECT_FALSE(pool_->acquire(2_MiB).ok());
  device_->set_capacity(16_MiB);
  EXPECT_TRUE(pool_->acquire(2_MiB).ok());
  pool_->validate();
}

// ---- Pools on pools

TEST(PoolOnAPool, TakesFromItAndGivesBackToIt) {
  ManualClock clock;
  const auto below = Pool::create(Device::host(), {.name = "below", .clock = &clock});
  const auto above = Pool::create(below, {.name = "above", .clock = &clock});
  {
    std::vector<Buffer> buffers;
    std::vector<Buffer> others;
    for (std::uint64_t i = 0; i < 200; ++i) {
      buffers.push_back(above->acquire(Bytes{1 + i * 7919 % 300'000}).value());
      others.push_back(below->acquire(Bytes{1 + i * 104'729 % 300'000}).value());
      buffers.back().bytes()[0] = std::byte{1};
      others.back().bytes()[0] = std::byte{2};
    }
    EXPECT_LE(above->stats().reserved, below->stats().live);
    for (std::size_t i = 0; i < buffers.size(); i += 2) {
      EXPECT_EQ(buffers[i].bytes()[0], std::byte{1});
      EXPECT_EQ(others[i].bytes()[0], std::byte{2});
      // By address: the directory must name the right pool.
      EXPECT_EQ(above->usable_size(buffers[i].data()),
                above->good_size(buffers[i].size(), kDefaultAlignment));
      EXPECT_EQ(below->usable_size(others[i].data()),
                below->good_size(others[i].size(), kDefaultAlignment));
      buffers[i].reset();
      others[i].reset();
    }
    above->validate();
    below->validate();
  }
  above->release_unused();
  EXPECT_EQ(below->stats().live, 0_B);
}

// ---- Ends

TEST(PoolEnd, GivesAllBackAndKeepsItsUpstreamAliveUntilThen) {
  auto upstream = std::make_shared<WatchedRanges>();
  const std::weak_ptr<WatchedRanges> watch = upstream;
  auto pool = Pool::create(upstream);
  { const Buffer idle = pool->acquire(1_MiB).value(); }
  EXPECT_GT(upstream->live(), 0_B);
  upstream.reset();
  EXPECT_FALSE(watch.expired());
  pool.reset();
  EXPECT_TRUE(watch.expired());
}

TEST(PoolEndDeathTest, AbortsAndNamesItsBlocksIfAnyAreLive) {
  EXPECT_DEATH(
      {
        auto pool = Pool::create(Device::host(), {.name = "kv"});
        static_cast<void>(pool->allocate(1_KiB).value());
        static_cast<void>(pool->allocate(40_KiB).value());
        pool.reset();
      },
      "pool 'kv' ended with 2 live blocks of 41 KiB(.|\n)*block 0x.* of 1 KiB");
}

}  // namespace
}  // namespace forebay
