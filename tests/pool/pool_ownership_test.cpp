// Who keeps whom alive, and what is caught when the rules are broken.
#include <gtest/gtest.h>

#include "forebay/pool.hpp"
#include "support/watched_resource.hpp"

namespace forebay {
namespace {

using namespace literals;
using testing::WatchedResource;

TEST(PoolOwnership, ABufferKeepsItsPoolAlive) {
  const auto upstream = std::make_shared<WatchedResource>();
  auto pool = Pool::create(upstream);
  const std::weak_ptr<Pool> watch = pool;
  Buffer buffer = pool->acquire(1_KiB).value();
  pool.reset();
  EXPECT_FALSE(watch.expired());
  buffer.bytes()[0] = std::byte{1};
  buffer.reset();
  EXPECT_TRUE(watch.expired());
  EXPECT_EQ(upstream->live_blocks(), 0U);
}

TEST(PoolOwnership, APoolGivesItsIdleBlocksBackWhenItEnds) {
  const auto upstream = std::make_shared<WatchedResource>();
  {
    const auto pool = Pool::create(upstream);
    pool->acquire(1_KiB).value().reset();
    EXPECT_EQ(upstream->live_blocks(), 1U);
  }
  EXPECT_EQ(upstream->live_blocks(), 0U);
}

TEST(PoolOwnership, APoolKeepsItsUpstreamAlive) {
  auto upstream = std::make_shared<WatchedResource>();
  const std::weak_ptr<WatchedResource> watch = upstream;
  const auto pool = Pool::create(std::move(upstream));
  EXPECT_TRUE(pool->acquire(1_KiB).ok());
  EXPECT_FALSE(watch.expired());
}

TEST(PoolOwnershipDeathTest, AbortsWhenItEndsBeforeARawBlock) {
  EXPECT_DEATH(
      {
        auto pool = Pool::create(Device::host(), {.name = "kv"});
        static_cast<void>(pool->allocate(1_KiB).value());
        static_cast<void>(pool->allocate(1_KiB).value());
        pool.reset();
      },
      "pool 'kv' ended with 2 live blocks of 2 KiB");
}

TEST(PoolOwnershipDeathTest, AbortsOnADoubleRelease) {
  const auto pool = Pool::create(Device::host());
  void* const first = pool->allocate(1_KiB).value();
  void* const second = pool->allocate(1_KiB).value();
  pool->deallocate(first, 1_KiB);
  EXPECT_DEATH(pool->deallocate(first, 1_KiB), "not one of its live blocks");
  pool->deallocate(second, 1_KiB);
  EXPECT_DEATH(pool->deallocate(first, 1_KiB), "not one of its live blocks");
}

TEST(PoolOwnershipDeathTest, AbortsOnAPointerThatIsNotABlock) {
  const auto pool = Pool::create(Device::host());
  int foreign = 0;
  EXPECT_DEATH(pool->deallocate(&foreign, 4_B), "not one of its live blocks");
  void* const block = pool->allocate(1_KiB).value();
  EXPECT_DEATH(pool->deallocate(static_cast<std::byte*>(block) + 16, 1_KiB),
               "not one of its live blocks");
  pool->deallocate(block, 1_KiB);
}

TEST(PoolOwnershipDeathTest, AbortsOnAnotherSizeOrAlignment) {
  const auto pool = Pool::create(Device::host());
  void* const block = pool->allocate(1_KiB, 64_B).value();
  EXPECT_DEATH(pool->deallocate(block, 1000_B, 64_B), "another size or alignment");
  EXPECT_DEATH(pool->deallocate(block, 1_KiB, 128_B), "another size or alignment");
  pool->deallocate(block, 1_KiB, 64_B);
}

}  // namespace
}  // namespace forebay
