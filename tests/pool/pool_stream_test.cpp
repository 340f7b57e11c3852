// Memory that changes stream is waited for, once; memory that does not is not.
#include <gtest/gtest.h>

#include <vector>

#include "forebay/pool.hpp"
#include "support/watched_ranges.hpp"

namespace forebay {
namespace {

using namespace literals;
using testing::StreamWait;
using testing::WatchedRanges;

constexpr Stream kFirst{64};
constexpr Stream kSecond{128};
constexpr Stream kThird{192};

class PoolStreams : public ::testing::Test {
 protected:
  void TearDown() override { pool_->validate(); }
  Buffer acquire(Bytes size, Stream stream) {
    return pool_->acquire(size, {.stream = stream}).value();
  }
  std::vector<StreamWait> waits() const { return upstream_->seen().waits; }

  const std::shared_ptr<SimulatedDevice> device_ =
      SimulatedDevice::create({.capacity = 64_MiB, .stream_ordered = true});
  const std::shared_ptr<WatchedRanges> upstream_ = std::make_shared<WatchedRanges>(device_);
  ManualClock clock_;
  const std::shared_ptr<Pool> pool_ = Pool::create(upstream_, {.clock = &clock_});
};

TEST_F(PoolStreams, TheSameStreamNeverWaits) {
  for (int i = 0; i < 100; ++i) {
    for (const Bytes size : {100_B, 10_KiB, 100_KiB, 3_MiB}) acquire(size, kFirst).reset();
  }
  EXPECT_EQ(device_->stats().stream_waits, 0U);
}

TEST_F(PoolStreams, StreamsOfTheirOwnMemoryNeverWait) {
  for (int i = 0; i < 10; ++i) {
    const Buffer first = acquire(2_MiB, kFirst);  // what the device gives in one piece
    const Buffer second = acquire(4_MiB, kSecond);
  }
  EXPECT_EQ(device_->stats().stream_waits, 0U);
}

TEST_F(PoolStreams, MemoryThatChangesStreamIsWaitedForOnce) {
  {
    const std::vector<Buffer> many = [&] {
      std::vector<Buffer> buffers;
      for (int i = 0; i < 10; ++i) buffers.push_back(acquire(1_MiB, kFirst));
      return buffers;
    }();
  }
  const Buffer taken = acquire(1_MiB, kSecond);
  ASSERT_EQ(waits().size(), 1U);
  EXPECT_EQ(waits()[0].waiter, kSecond);
  EXPECT_EQ(waits()[0].earlier, kFirst);
  const Buffer more = acquire(6_MiB, kSecond);
  EXPECT_EQ(waits().size(), 1U) << "it waited for all that was idle then";
}

TEST_F(PoolStreams, MemoryOfTwoStreamsIsWaitedForOnBoth) {
  {
    const Buffer first = acquire(16_MiB, kFirst);
    const Buffer second = acquire(16_MiB, kSecond);
  }
  const Buffer large = acquire(40_MiB, kThird);
  const auto seen = waits();
  ASSERT_EQ(seen.size(), 2U);
  for (const StreamWait& wait : seen) EXPECT_EQ(wait.waiter, kThird);
  EXPECT_NE(seen[0].earlier, seen[1].earlier);
}

TEST_F(PoolStreams, ABlockIsReadyOnTheStreamOfItsLastUse) {
  for (const Bytes size : {40_KiB, 3_MiB}) {
    const auto before = device_->stats().stream_waits;
    Buffer buffer = acquire(size, kFirst);
    void* const block = buffer.data();
    buffer.set_stream(kSecond);
    acquire(1_KiB, kSecond).reset();  // a stream that the pool knows
    buffer.reset();
    EXPECT_EQ(acquire(size, kSecond).data(), block);
    EXPECT_EQ(device_->stats().stream_waits, before);
    pool_->release_unused();
  }
}

TEST_F(PoolStreams, ASmallBlockGivenBackElsewhereMakesItsSlabsStreamWait) {
  Buffer buffer = acquire(1_KiB, kFirst);
  buffer.set_stream(kSecond);
  buffer.reset();
  ASSERT_EQ(waits().size(), 1U);
  EXPECT_EQ(waits()[0].waiter, kFirst);
  EXPECT_EQ(waits()[0].earlier, kSecond);
}

TEST_F(PoolStreams, AStreamThatThePoolHasNeverSeenIsWaitedForOnTheWayBack) {
  for (const Bytes size : {1_KiB, 1_MiB}) {
    upstream_->clear();
    Buffer buffer = acquire(size, kFirst);
    buffer.set_stream(kThird);
    buffer.reset();
    ASSERT_EQ(waits().size(), 1U);
    EXPECT_EQ(waits()[0].waiter, kFirst);
    EXPECT_EQ(waits()[0].earlier, kThird);
  }
}

// What a refused acquire took over for nothing is still another stream's memory.
TEST_F(PoolStreams, ARefusedAcquireDoesNotLoseAWait) {
  acquire(3_MiB, kFirst).reset();
  EXPECT_FALSE(pool_->try_acquire(30_MiB, {.stream = kSecond}).ok());
  const Buffer later = acquire(3_MiB, kSecond);
  ASSERT_EQ(waits().size(), 1U);
  EXPECT_EQ(waits()[0].waiter, kSecond);
  EXPECT_EQ(waits()[0].earlier, kFirst);
}

TEST_F(PoolStreams, AnAcquireThatUpstreamRefusesDoesNotLoseAWait) {
  acquire(3_MiB, kFirst).reset();
  const Buffer live = acquire(40_KiB, kFirst);
  EXPECT_FALSE(pool_->acquire(70_MiB, {.stream = kSecond}).ok());
  ASSERT_EQ(waits().size(), 1U);
  EXPECT_EQ(waits()[0].earlier, kFirst);
  const Buffer later = acquire(1_MiB, kSecond);
  EXPECT_EQ(waits().size(), 1U);
}

// Halves of what the device takes in one piece, idle on different streams.
TEST_F(PoolStreams, WhatIsIdleOnSeveralStreamsStillGoesBack) {
  {
    const Buffer first = acquire(1_MiB, kFirst);
    Buffer second = acquire(1_MiB, kFirst);
    second.set_stream(kSecond);
    acquire(1_KiB, kSecond).reset();
  }
  pool_->release_unused();
  EXPECT_EQ(pool_->stats().reserved, 0_B);
  EXPECT_EQ(device_->stats().live, 0_B);
}

TEST_F(PoolStreams, ASegmentIdleOnSeveralStreamsStillGoesBack) {
  {
    const auto above = Pool::create(pool_);
    Buffer first = above->acquire(100_KiB, {.stream = kFirst}).value();
    Buffer second = above->acquire(100_KiB, {.stream = kFirst}).value();
    first.set_stream(kSecond);
    acquire(1_KiB, kSecond).reset();
    first.reset();
    second.reset();
    above->validate();
  }
  EXPECT_EQ(pool_->stats().live_blocks, 0U);
}

TEST_F(PoolStreams, WithoutOrderStreamsAreOne) {
  const auto host = std::make_shared<WatchedRanges>();
  const auto pool = Pool::create(host);
  void* block = nullptr;
  {
    const Buffer buffer = pool->acquire(1_MiB, {.stream = kFirst}).value();
    block = buffer.data();
  }
  EXPECT_EQ(pool->acquire(1_MiB, {.stream = kSecond}).value().data(), block);
  EXPECT_TRUE(host->seen().waits.empty());
}

TEST_F(PoolStreams, ForwardsWhatADeviceDoesToItsBlocks) {
  EXPECT_TRUE(pool_->stream_ordered());
  pool_->stream_wait(kFirst, kSecond);
  EXPECT_EQ(device_->stats().stream_waits, 1U);
  const Buffer buffer = acquire(1_KiB, kFirst);
  pool_->zero(buffer.data(), 1_KiB, kFirst);
  EXPECT_EQ(upstream_->seen().zeroed, 1_KiB);
}

}  // namespace
}  // namespace forebay
