#include "forebay/pool.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <thread>
#include <vector>

#include "pool/size_class.hpp"
#include "support/watched_resource.hpp"

namespace forebay {
namespace {

using namespace literals;
using testing::WatchedResource;

class PoolTest : public ::testing::Test {
 protected:
  void TearDown() override { pool_->validate(); }

  Buffer acquire(Bytes size, AcquireOptions options = {}) {
    return pool_->acquire(size, options).value();
  }
  const std::shared_ptr<WatchedResource> upstream_ = std::make_shared<WatchedResource>();
  const std::shared_ptr<Pool> pool_ = Pool::create(upstream_, {.name = "tensors"});
};

bool all_zero(std::span<const std::byte> bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; });
}

TEST_F(PoolTest, IsAHostAccessibleResourceWithAName) {
  EXPECT_EQ(pool_->name(), "tensors");
  EXPECT_TRUE(pool_->host_accessible());
  EXPECT_FALSE(pool_->allocates_zeroed());
  EXPECT_FALSE(Pool::create(SimulatedDevice::create())->host_accessible());
}

TEST_F(PoolTest, RefusesANegativeTtl) {
  EXPECT_THROW(Pool::create(upstream_, {.ttl = Duration{-1}}), Failure);
}

TEST_F(PoolTest, GivesABlockOfAClassToTheNextAcquireOfThatClass) {
  void* first = nullptr;
  {
    const Buffer buffer = acquire(1000_B);
    first = buffer.data();
  }
  const Buffer again = acquire(980_B);
  EXPECT_EQ(again.data(), first);
  EXPECT_EQ(again.size(), 980_B);
  const Buffer other_class = acquire(500_B);
  EXPECT_NE(other_class.data(), first);
  EXPECT_EQ(upstream_->allocations(), 2U);
  EXPECT_EQ(pool_->stats().hits, 1U);
  EXPECT_EQ(pool_->stats().misses, 2U);
}

TEST_F(PoolTest, GivesTheBlockUsedLastFirst) {
  Buffer first = acquire(1_KiB);
  Buffer second = acquire(1_KiB);
  void* const warm = first.data();
  second.reset();
  first.reset();
  EXPECT_EQ(acquire(1_KiB).data(), warm);
}

TEST_F(PoolTest, AsksUpstreamForTheClassSoThatWasteIsBounded) {
  const Buffer buffer = acquire(1000_B);
  EXPECT_EQ(upstream_->live(), detail::class_size(1000_B));
  EXPECT_EQ(pool_->stats().live, detail::class_size(1000_B));
  EXPECT_EQ(pool_->stats().requested, 1000_B);
}

TEST_F(PoolTest, GoodSizeIsWhatAClassTakesUpstream) {
  EXPECT_EQ(pool_->good_size(0_B, 16_B), 0_B);
  EXPECT_TRUE(pool_->good_size(Bytes::unlimited(), 16_B).is_unlimited());
  const auto simulated = Pool::create(SimulatedDevice::create({.granularity = 512_B}));
  EXPECT_EQ(simulated->good_size(1_B, 16_B), 512_B);
  EXPECT_EQ(simulated->good_size(513_B, 16_B), 1_KiB);
}

TEST_F(PoolTest, CountsWhatIsLiveAndIdle) {
  Buffer first = acquire(64_B);
  Buffer second = acquire(128_B);
  first.reset();
  PoolStats stats = pool_->stats();
  EXPECT_EQ(stats.live, 128_B);
  EXPECT_EQ(stats.live_blocks, 1U);
  EXPECT_EQ(stats.idle, 64_B);
  EXPECT_EQ(stats.idle_blocks, 1U);
  EXPECT_EQ(stats.peak_live, 192_B);
  EXPECT_EQ(stats.peak_reserved, 192_B);
  const Buffer third = acquire(256_B);
  stats = pool_->stats();
  EXPECT_EQ(stats.peak_live, 384_B);
  EXPECT_EQ(stats.peak_reserved, 448_B);
  EXPECT_EQ(pool_->reclaimable(), 64_B);
}

TEST_F(PoolTest, OfNoBytesIsAnEmptyBufferThatCountsAsNothing) {
  const Buffer buffer = acquire(0_B);
  EXPECT_TRUE(buffer.empty());
  EXPECT_TRUE(pool_->try_acquire(0_B).ok());
  EXPECT_EQ(upstream_->allocations(), 0U);
  EXPECT_EQ(pool_->stats().hits + pool_->stats().misses + pool_->stats().refused, 0U);
}

TEST_F(PoolTest, AlignsAsAsked) {
  for (Bytes alignment = 1_B; alignment <= kMaxAlignment; alignment = alignment * 2) {
    for (int round = 0; round < 2; ++round) {  // fresh, then reused
      const Buffer buffer = acquire(200_B, {.alignment = alignment});
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffer.data()) % alignment.count(), 0U);
    }
  }
}

TEST_F(PoolTest, NeverGivesABlockToAnotherStreamThanThatOfItsLastUse) {
  const Stream first{1};
  const Stream second{2};
  Buffer buffer = acquire(1_KiB, {.stream = first});
  void* const block = buffer.data();
  buffer.set_stream(second);
  buffer.reset();
  const Buffer on_first = acquire(1_KiB, {.stream = first});
  EXPECT_NE(on_first.data(), block);
  const Buffer on_second = acquire(1_KiB, {.stream = second});
  EXPECT_EQ(on_second.data(), block);
}

TEST_F(PoolTest, ZeroedContentIsZeroAfterReuse) {
  for (const Bytes size : {100_B, 5000_B, 2_MiB}) {
    Buffer fresh = acquire(size, {.contents = Contents::zeroed});
    EXPECT_TRUE(all_zero(fresh.bytes()));
    std::memset(fresh.data(), 0xEE, fresh.bytes().size());
    void* const block = fresh.data();
    fresh.reset();
    const Buffer reused = acquire(size, {.contents = Contents::zeroed});
    EXPECT_EQ(reused.data(), block) << "the test needs the same block again";
    EXPECT_TRUE(all_zero(reused.bytes()));
  }
}

TEST_F(PoolTest, ZeroesFreshBlocksThatMayHoldSomethingElse) {
  const auto outer = Pool::create(pool_);  // a pool hands out used blocks as fresh ones
  {
    const Buffer dirty = acquire(4_KiB);
    std::memset(dirty.data(), 0xEE, 4096);
  }
  const Buffer zeroed = outer->acquire(4_KiB, {.contents = Contents::zeroed}).value();
  EXPECT_EQ(pool_->stats().hits, 1U);
  EXPECT_TRUE(all_zero(zeroed.bytes()));
}

TEST_F(PoolTest, UninitializedContentIsLeftAsItWas) {
  {
    const Buffer buffer = acquire(1_KiB);
    std::memset(buffer.data(), 0xEE, 1024);
  }
  EXPECT_EQ(acquire(1_KiB).bytes()[100], std::byte{0xEE});
}

TEST_F(PoolTest, CannotZeroWhatTheCpuDoesNotReach) {
  const auto device = SimulatedDevice::create();
  const auto pool = Pool::create(device, {.name = "gpu"});
  const auto zeroed = pool->acquire(1_KiB, {.contents = Contents::zeroed});
  ASSERT_FALSE(zeroed.ok());
  EXPECT_EQ(zeroed.status().code(), Code::unsupported);
  EXPECT_EQ(zeroed.status().message(), "gpu: cannot zero memory that the CPU does not reach");
  EXPECT_EQ(device->stats().allocations, 0U);
  EXPECT_TRUE(pool->acquire(1_KiB).ok());
}

TEST_F(PoolTest, TryAcquireTakesOnlyWhatIsIdle) {
  const auto nothing = pool_->try_acquire(1000_B);
  ASSERT_FALSE(nothing.ok());
  EXPECT_EQ(nothing.status().code(), Code::memory_refused);
  EXPECT_EQ(nothing.status().message(), "tensors: no idle block of 1 KiB");
  EXPECT_EQ(upstream_->allocations(), 0U);
  acquire(1000_B).reset();
  const auto reused = pool_->try_acquire(1000_B);
  EXPECT_TRUE(reused.ok());
  EXPECT_EQ(pool_->stats().hits, 1U);
  EXPECT_EQ(pool_->stats().misses, 1U);
  EXPECT_EQ(pool_->stats().refused, 1U);
}

TEST_F(PoolTest, CallsUpstreamWithNoLockHeld) {
  std::size_t calls = 0;
  upstream_->on_call = [&] {
    pool_->validate();  // takes the pool's lock: would not return otherwise
    ++calls;
  };
  acquire(1_KiB).reset();
  pool_->release_unused();
  EXPECT_EQ(calls, 2U);
  upstream_->on_call = nullptr;
}

TEST_F(PoolTest, ServesManyThreadsWhichFreeEachOthersBlocks) {
  std::mutex mutex;
  std::vector<Buffer> shared;
  const auto work = [&](unsigned seed) {
    for (unsigned i = 0; i < 3000; ++i) {
      Buffer buffer = acquire(Bytes{64 + (seed * 7919 + i * 104729) % 5000});
      std::memset(buffer.data(), static_cast<int>(seed), buffer.bytes().size());
      EXPECT_EQ(static_cast<unsigned>(buffer.bytes().back()), seed);
      Buffer dropped;
      {
        const std::lock_guard lock{mutex};
        shared.push_back(std::move(buffer));
        if (shared.size() > 50) {
          std::swap(dropped, shared[i % 50]);
          std::swap(shared[i % 50], shared.back());
          shared.pop_back();
        }
      }
      if (i % 500 == 0) pool_->trim(16_KiB);
    }
  };
  std::vector<std::thread> threads;
  for (unsigned seed = 1; seed <= 4; ++seed) threads.emplace_back(work, seed);
  for (std::thread& thread : threads) thread.join();
  pool_->validate();
  EXPECT_EQ(pool_->stats().hits + pool_->stats().misses, 12'000U);
  EXPECT_EQ(pool_->stats().live_blocks, shared.size());
  shared.clear();
  EXPECT_EQ(pool_->stats().live, 0_B);
  pool_->release_unused();
  EXPECT_EQ(upstream_->live_blocks(), 0U);
}

}  // namespace
}  // namespace forebay
