// What a pool hands out, what it counts, what it takes back.
#include "forebay/pool.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "support/watched_ranges.hpp"

namespace forebay {
namespace {

using namespace literals;
using testing::WatchedRanges;

class PoolTest : public ::testing::Test {
 protected:
  void TearDown() override { pool_->validate(); }

  std::shared_ptr<Pool> make(PoolOptions options = {}) {
    options.clock = &clock_;
    return Pool::create(upstream_, std::move(options));
  }
  Buffer acquire(Bytes size, AcquireOptions options = {}) {
    return pool_->acquire(size, options).value();
  }
  ManualClock clock_;
  const std::shared_ptr<WatchedRanges> upstream_ = std::make_shared<WatchedRanges>();
  const std::shared_ptr<Pool> pool_ = make({.name = "tensors"});
};

TEST_F(PoolTest, IsAHostAccessibleResourceWithAName) {
  EXPECT_EQ(pool_->name(), "tensors");
  EXPECT_TRUE(pool_->host_accessible());
  EXPECT_FALSE(pool_->stream_ordered());
  EXPECT_FALSE(pool_->allocates_zeroed()) << "it reuses blocks";
  EXPECT_FALSE(Pool::create(SimulatedDevice::create())->host_accessible());
}

TEST_F(PoolTest, RefusesOptionsThatMakeNoSense) {
  EXPECT_THROW(make({.ttl = Duration{-1}}), Failure);
  EXPECT_THROW(make({.cleanup_interval = Duration{-1}}), Failure);
  EXPECT_THROW(make({.min_retained = 2_MiB, .max_retained = 1_MiB}), Failure);
  EXPECT_THROW(make({.min_alignment = 0_B}), Failure);
  EXPECT_THROW(make({.min_alignment = 48_B}), Failure);
  EXPECT_THROW(make({.min_alignment = 4_MiB}), Failure);
}

TEST_F(PoolTest, TakesNoMemoryBeforeTheFirstAcquire) {
  EXPECT_EQ(upstream_->live(), 0_B);
  EXPECT_EQ(pool_->stats().reserved, 0_B);
  EXPECT_EQ(pool_->stats().fragmentation(), 0.0);
  EXPECT_EQ(pool_->stats().hit_rate(), 1.0);
}

TEST_F(PoolTest, GivesTheBlockUsedLastFirst) {
  for (const Bytes size : {1_KiB, 40_KiB, 3_MiB}) {
    Buffer first = acquire(size);
    Buffer second = acquire(size);
    void* const latest = first.data();
    second.reset();
    first.reset();
    EXPECT_EQ(acquire(size).data(), latest);
  }
}

TEST_F(PoolTest, AReusedBlockIsAHitAndAGrowthAMiss) {
  acquire(1000_B).reset();
  PoolStats stats = pool_->stats();
  EXPECT_EQ(stats.misses, 1U);
  EXPECT_EQ(stats.hits, 0U);
  acquire(980_B).reset();  // of the same class
  const Buffer neighbour = acquire(1000_B);
  const Buffer in_the_same_slab = acquire(1000_B);
  stats = pool_->stats();
  EXPECT_EQ(stats.misses, 1U);
  EXPECT_EQ(stats.hits, 3U);
  EXPECT_EQ(stats.acquires, stats.hits + stats.misses);
  EXPECT_DOUBLE_EQ(stats.hit_rate(), 0.75);
}

TEST_F(PoolTest, CountsExactlyForOneThread) {
  std::vector<Buffer> buffers;
  Bytes live;
  Bytes asked;
  Bytes handed_out;
  Bytes peak;
  std::uint64_t acquires = 0;
  for (std::uint64_t i = 0; i < 400; ++i) {
    const Bytes size{1 + i * i * 7 % 200'000};
    buffers.push_back(acquire(size));
    const Bytes takes = pool_->good_size(size, kDefaultAlignment);
    ++acquires;
    asked += size;
    handed_out += takes;
    live += takes;
    peak = std::max(peak, live);
    if (i % 3 == 2) {
      Buffer& gone = buffers[i * 31 % buffers.size()];
      live -= pool_->good_size(gone.size(), kDefaultAlignment);
      std::swap(gone, buffers.back());
      buffers.pop_back();
    }
    const PoolStats stats = pool_->stats();
    ASSERT_EQ(stats.live, live);
    ASSERT_EQ(stats.idle + stats.live, stats.reserved);
    ASSERT_EQ(stats.reserved, upstream_->live());
    ASSERT_EQ(stats.live_blocks, buffers.size());
    ASSERT_EQ(stats.acquires, acquires);
    ASSERT_EQ(stats.hits + stats.misses, acquires);
    ASSERT_EQ(stats.requested_total, asked);
    ASSERT_EQ(stats.handed_out_total, handed_out);
    ASSERT_EQ(stats.peak_live, peak);
    ASSERT_GE(stats.peak_reserved, stats.reserved);
    ASSERT_GE(stats.reserved, stats.live);
  }
  buffers.clear();
  EXPECT_EQ(pool_->stats().live, 0_B);
  EXPECT_EQ(pool_->stats().peak_live, peak);
  EXPECT_EQ(pool_->stats().refused, 0U);
}

TEST_F(PoolTest, PeaksAreThoseOfTheHighestMoment) {
  {
    const Buffer a = acquire(8_MiB);
    const Buffer b = acquire(8_MiB);
  }
  pool_->release_unused();
  const Buffer c = acquire(1_MiB);
  EXPECT_EQ(pool_->stats().peak_live, 16_MiB);
  EXPECT_EQ(pool_->stats().peak_reserved, 16_MiB);
  EXPECT_EQ(pool_->stats().reserved, 1_MiB);
}

TEST_F(PoolTest, GoodSizeIsWhatABlockTakesAndCanHold) {
  EXPECT_EQ(pool_->good_size(0_B, 16_B), 0_B);
  EXPECT_TRUE(pool_->good_size(Bytes::unlimited(), 16_B).is_unlimited());
  for (const Bytes alignment : {1_B, 16_B, 256_B, 4_KiB, 64_KiB, 2_MiB}) {
    for (const Bytes size : {1_B, 17_B, 129_B, 4000_B, 32_KiB, 32_KiB + 1_B, 1_MiB + 1_B}) {
      const Bytes before = pool_->stats().live;
      const Buffer buffer = acquire(size, {.alignment = alignment});
      const Bytes good = pool_->good_size(size, alignment);
      EXPECT_EQ(pool_->stats().live - before, good);
      EXPECT_EQ(pool_->usable_size(buffer.data()), good);
      std::memset(buffer.data(), 0xEE, good.count());
    }
  }
}

TEST_F(PoolTest, WastesAtMostAnEighthOfSmallBlocksAndUnderAPageOfLargeOnes) {
  for (std::uint64_t size = 128; size <= 100'000; size += 37) {
    const std::uint64_t waste = pool_->good_size(Bytes{size}, 16_B).count() - size;
    if (size <= 32 * 1024) {
      ASSERT_LE(waste * 8, size);
    } else {
      ASSERT_LT(waste, 4096U);
    }
  }
}

TEST_F(PoolTest, OfNoBytesIsAnEmptyBufferThatCountsAsNothing) {
  EXPECT_TRUE(acquire(0_B).empty());
  EXPECT_TRUE(pool_->try_acquire(0_B).ok());
  EXPECT_EQ(upstream_->live(), 0_B);
  EXPECT_EQ(pool_->stats().acquires + pool_->stats().refused, 0U);
}

TEST_F(PoolTest, AlignsAsAskedFreshOrReused) {
  std::vector<Buffer> kept;
  for (Bytes alignment = 1_B; alignment <= kMaxAlignment; alignment = alignment * 2) {
    for (const Bytes size : {1_B, 200_B, 5000_B, 33_KiB, 700_KiB, 3_MiB}) {
      for (int round = 0; round < 3; ++round) {
        Buffer buffer = acquire(size, {.alignment = alignment});
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffer.data()) % alignment.count(), 0U);
        if (round == 2) kept.push_back(std::move(buffer));
      }
    }
  }
  pool_->validate();
}

TEST_F(PoolTest, AlignsEveryBlockToItsLeastAlignment) {
  const auto pool = make({.min_alignment = 256_B});
  std::vector<Buffer> buffers;
  for (std::uint64_t size = 1; size < 5000; size += 97) {
    buffers.push_back(pool->acquire(Bytes{size}, {.alignment = 1_B}).value());
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffers.back().data()) % 256, 0U);
  }
  EXPECT_EQ(pool->good_size(1_B, 1_B), 256_B);
  const auto huge = make({.min_alignment = 2_MiB});
  const Buffer one = huge->acquire(1_B).value();
  const Buffer two = huge->acquire(1_B).value();
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(two.data()) % kMaxAlignment.count(), 0U);
}

TEST_F(PoolTest, TryAcquireTakesOnlyWhatIsIdle) {
  for (const Bytes size : {1000_B, 300_KiB}) {
    const PoolStats before = pool_->stats();
    const auto nothing = pool_->try_acquire(size);
    ASSERT_EQ(nothing.status().code(), Code::memory_refused);
    EXPECT_EQ(pool_->stats().reserved, before.reserved);
    EXPECT_EQ(pool_->stats().refused, before.refused + 1);
    acquire(size).reset();
    EXPECT_TRUE(pool_->try_acquire(size).ok());
    EXPECT_EQ(pool_->stats().misses, before.misses + 1);
    EXPECT_EQ(pool_->stats().hits, before.hits + 1);
  }
  EXPECT_EQ(pool_->try_acquire(1_GiB).status().message(), "tensors: no idle memory for 1 GiB");
}

TEST_F(PoolTest, TryAcquireFindsWhatIsKeptForOtherSizes) {
  {
    const std::vector<Buffer> many = [&] {
      std::vector<Buffer> buffers;
      for (int i = 0; i < 32; ++i) buffers.push_back(acquire(64_KiB));
      return buffers;
    }();
  }
  EXPECT_TRUE(pool_->try_acquire(2_MiB).ok()) << "neighbours join, wherever they are kept";
}

TEST_F(PoolTest, TakesBackBlocksOfWhichOnlyTheAddressIsKnown) {
  std::vector<void*> blocks;
  for (const Bytes size : {1_B, 100_B, 32_KiB, 33_KiB, 5_MiB}) {
    blocks.push_back(pool_->allocate(size).value());
    EXPECT_EQ(pool_->usable_size(blocks.back()), pool_->good_size(size, kDefaultAlignment));
  }
  for (void* const block : blocks) pool_->deallocate_unsized(block);
  pool_->deallocate_unsized(nullptr);
  EXPECT_EQ(pool_->stats().live_blocks, 0U);
  pool_->release_unused();
  EXPECT_EQ(upstream_->live(), 0_B);
}

TEST_F(PoolTest, ABufferThatMovesIsGivenBackOnce) {
  Buffer first = acquire(1_KiB);
  Buffer second = std::move(first);
  Buffer third;
  third = std::move(second);
  third = acquire(2_KiB);
  EXPECT_EQ(pool_->stats().live_blocks, 1U);
}

TEST_F(PoolTest, CallsUpstreamWithNoLockHeld) {
  std::size_t calls = 0;
  upstream_->on_call = [&] {
    pool_->validate();  // takes the pool's lock: would not return otherwise
    EXPECT_GE(pool_->stats().reserved, pool_->stats().live);
    ++calls;
  };
  acquire(1_KiB).reset();
  acquire(8_MiB).reset();
  { const Buffer larger = acquire(20_MiB); }
  pool_->release_unused();
  EXPECT_GE(calls, 5U);
  upstream_->on_call = nullptr;
}

TEST_F(PoolTest, ServesLargeRequestsFromWhatIsIdleElsewhere) {
  std::vector<Buffer> buffers;
  for (int i = 0; i < 64; ++i) buffers.push_back(acquire(4_MiB));
  for (std::size_t i = 0; i < buffers.size(); i += 2) buffers[i].reset();  // holes of 4 MiB
  upstream_->clear();
  const Buffer large = acquire(100_MiB);
  const PoolStats stats = pool_->stats();
  EXPECT_EQ(stats.live, 128_MiB + 100_MiB);
  EXPECT_LE(stats.reserved, 256_MiB + 1_MiB) << "the holes were used";
  EXPECT_EQ(upstream_->seen().committed, upstream_->seen().decommitted);
}

TEST_F(PoolTest, ContentOfLiveBlocksSurvivesMovesAndPurges) {
  std::vector<Buffer> buffers;
  for (std::size_t i = 0; i < 64; ++i) {
    buffers.push_back(acquire(2_MiB + Bytes{i * 4096}));
    std::memset(buffers[i].data(), static_cast<int>(i + 1), buffers[i].bytes().size());
  }
  for (std::size_t i = 0; i < buffers.size(); i += 2) buffers[i].reset();
  const Buffer large = acquire(70_MiB);
  std::memset(large.data(), 0xFF, large.bytes().size());
  pool_->release_unused();
  for (std::size_t i = 1; i < buffers.size(); i += 2) {
    for (const std::byte b : buffers[i].bytes()) {
      ASSERT_EQ(b, static_cast<std::byte>(i + 1));
    }
  }
}

TEST_F(PoolTest, FetchingBlocksThatComeBackChangesNothing) {
  for (const bool checked : {false, true}) {
    const auto pool = make({.guard_every = checked ? 0U : 2U, .checked = checked});
    std::vector<Buffer> buffers;
    std::vector<const void*> blocks;
    for (const Bytes size : {16_B, 1_KiB, 30_KiB, 40_KiB, 40_KiB, 3_MiB}) {
      buffers.push_back(pool->acquire(size).value());
      std::memset(buffers.back().data(), 'x', size.count());
      blocks.push_back(buffers.back().data());
    }
    const PoolStats before = pool->stats();
    pool->fetch(blocks);
    pool->fetch({});
    EXPECT_EQ(pool->stats().live, before.live);
    EXPECT_EQ(pool->stats().reserved, before.reserved);
    for (const void* const block : blocks) EXPECT_EQ(*static_cast<const char*>(block), 'x');
    buffers.clear();
    pool->validate();
    EXPECT_EQ(pool->stats().live, 0_B);
  }
}

TEST_F(PoolTest, SaysHowMuchBookkeepingItHas) {
  const Bytes before = pool_->stats().metadata;
  std::vector<Buffer> buffers;
  for (int i = 0; i < 10'000; ++i) buffers.push_back(acquire(64_B));
  const PoolStats stats = pool_->stats();
  EXPECT_GT(stats.metadata, before);
  EXPECT_LT(stats.metadata * 10, stats.live) << "a byte and a bit for each block, and slabs'";
}

TEST_F(PoolTest, FragmentationTellsWhatTheLargestFreeBlockIsOfTheIdle) {
  acquire(8_MiB).reset();
  pool_->tick();
  pool_->tick();  // out of the thread's hands
  const PoolStats stats = pool_->stats();
  EXPECT_EQ(stats.largest_free, 8_MiB);
  EXPECT_EQ(stats.fragmentation(), 0.0);
}

}  // namespace
}  // namespace forebay
