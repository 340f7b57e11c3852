// How idle blocks go back: by goal, by age, by the cap.
#include <gtest/gtest.h>

#include <vector>

#include "forebay/pool.hpp"
#include "support/watched_resource.hpp"

namespace forebay {
namespace {

using namespace literals;
using namespace std::chrono_literals;
using testing::WatchedResource;

class PoolRetention : public ::testing::Test {
 protected:
  std::shared_ptr<Pool> make(PoolOptions options) {
    options.clock = &clock_;
    return Pool::create(upstream_, std::move(options));
  }
  // Leaves one idle block of each size, in this order, a second apart.
  void idle(Pool& pool, const std::vector<Bytes>& sizes) {
    std::vector<Buffer> buffers;
    for (const Bytes size : sizes) buffers.push_back(pool.acquire(size).value());
    for (Buffer& buffer : buffers) {
      buffer.reset();
      clock_.advance(1s);
    }
  }
  ManualClock clock_;
  const std::shared_ptr<WatchedResource> upstream_ = std::make_shared<WatchedResource>();
};

TEST_F(PoolRetention, TrimGivesTheOldestFirstAcrossClassesUntilTheGoal) {
  const auto pool = make({});
  idle(*pool, {4_KiB, 64_B, 1_KiB, 4_KiB});
  EXPECT_EQ(pool->trim(0_B), 0_B);
  EXPECT_EQ(pool->trim(4_KiB + 1_B), 4_KiB + 64_B);
  EXPECT_EQ(upstream_->freed(), (std::vector<Bytes>{4_KiB, 64_B}));
  EXPECT_EQ(pool->stats().idle, 5_KiB);
  EXPECT_EQ(pool->reclaim(1_B), 1_KiB);
  EXPECT_EQ(pool->trim(1_GiB), 4_KiB);
  EXPECT_EQ(pool->trim(1_GiB), 0_B);
  pool->validate();
}

TEST_F(PoolRetention, ReleaseUnusedGivesAllIdleBlocksAndNoLiveOne) {
  const auto pool = make({});
  const Buffer live = pool->acquire(2_KiB).value();
  idle(*pool, {64_B, 128_B});
  EXPECT_EQ(pool->release_unused(), 192_B);
  EXPECT_EQ(upstream_->live(), 2_KiB);
  EXPECT_EQ(pool->reclaimable(), 0_B);
}

TEST_F(PoolRetention, GivesBlocksUpstreamOnTheStreamOfTheirLastUse) {
  const auto pool = make({});
  Buffer buffer = pool->acquire(1_KiB, {.stream = Stream{1}}).value();
  buffer.set_stream(Stream{2});
  buffer.reset();
  pool->release_unused();
  EXPECT_EQ(upstream_->freed_on(), std::vector<Stream>{Stream{2}});
}

TEST_F(PoolRetention, TickGivesWhatWasIdleLongerThanTheTtl) {
  const auto pool = make({.ttl = 10s});
  idle(*pool, {64_B, 128_B, 256_B});  // idle since 0 s, 1 s, 2 s; now is 3 s
  clock_.advance(7s);
  EXPECT_EQ(pool->tick(), 0_B) << "10 s is not longer than 10 s";
  clock_.advance(1s);
  EXPECT_EQ(pool->tick(), 64_B);
  clock_.advance(48h);
  EXPECT_EQ(pool->tick(), 384_B);
  EXPECT_EQ(upstream_->live(), 0_B);
}

TEST_F(PoolRetention, ReuseStartsTheTtlAnew) {
  const auto pool = make({.ttl = 10s});
  idle(*pool, {64_B});
  clock_.advance(9s);
  pool->acquire(64_B).value().reset();
  clock_.advance(10s);
  EXPECT_EQ(pool->tick(), 0_B);
  clock_.advance(1ns);
  EXPECT_EQ(pool->tick(), 64_B);
}

TEST_F(PoolRetention, KeepsForeverUnlessTicked) {
  const auto pool = make({.ttl = 1s});
  idle(*pool, {64_B});
  clock_.advance(48h);
  EXPECT_EQ(pool->stats().idle, 64_B);
  EXPECT_TRUE(pool->try_acquire(64_B).ok());
}

TEST_F(PoolRetention, KeepsNoMoreThanMaxRetainedDroppingTheOldest) {
  const auto pool = make({.max_retained = 2_KiB});
  idle(*pool, {1_KiB, 512_B, 512_B});
  EXPECT_EQ(pool->stats().idle, 2_KiB);
  idle(*pool, {64_B});
  EXPECT_EQ(pool->stats().idle, 1_KiB + 64_B);
  EXPECT_EQ(upstream_->freed(), std::vector<Bytes>{1_KiB});
  pool->validate();
}

TEST_F(PoolRetention, DropsABlockThatNeverFitsInsteadOfAllOthers) {
  const auto pool = make({.max_retained = 2_KiB});
  idle(*pool, {1_KiB, 1_MiB});
  EXPECT_EQ(upstream_->freed(), std::vector<Bytes>{1_MiB});
  EXPECT_EQ(pool->stats().idle, 1_KiB);
}

TEST_F(PoolRetention, KeepsNothingIfMaxRetainedIsZero) {
  const auto pool = make({.max_retained = 0_B});
  idle(*pool, {64_B, 1_KiB});
  EXPECT_EQ(pool->stats().idle, 0_B);
  EXPECT_EQ(upstream_->live_blocks(), 0U);
  EXPECT_EQ(pool->stats().misses, 2U);
}

}  // namespace
}  // namespace forebay
