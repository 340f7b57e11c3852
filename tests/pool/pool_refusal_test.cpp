// A refused acquire: what it tries first, what it leaves.
#include <gtest/gtest.h>

#include <vector>

#include "forebay/pool.hpp"
#include "support/failing_new.hpp"
#include "support/watched_resource.hpp"

namespace forebay {
namespace {

using namespace literals;
using testing::FailingNew;
using testing::WatchedResource;

TEST(PoolRefusal, SaysWhatUpstreamSaid) {
  const auto pool = Pool::create(SimulatedDevice::create({.name = "gpu0", .capacity = 2_MiB}));
  const auto refused = pool->acquire(3_MiB);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.status().code(), Code::memory_refused);
  EXPECT_EQ(refused.status().message(), "gpu0: asked 3 MiB, 2 MiB free of 2 MiB");
  EXPECT_EQ(pool->stats().refused, 1U);
}

TEST(PoolRefusal, ChecksArgumentsLikeAnyResource) {
  const auto pool = Pool::create(Device::host());
  for (const bool grow : {true, false}) {
    const auto take = [&](Bytes size, Bytes alignment) {
      const AcquireOptions options{.alignment = alignment};
      return (grow ? pool->acquire(size, options) : pool->try_acquire(size, options))
          .status()
          .code();
    };
    EXPECT_EQ(take(1_KiB, 48_B), Code::invalid_argument);
    EXPECT_EQ(take(0_B, 0_B), Code::invalid_argument);
    EXPECT_EQ(take(Bytes::unlimited(), 16_B), Code::memory_refused);
    EXPECT_EQ(take(Bytes{Bytes::unlimited().count() / 2}, kMaxAlignment), Code::memory_refused);
  }
}

TEST(PoolRefusal, GivesIdleBlocksBackBeforeItRefuses) {
  const auto device = SimulatedDevice::create({.capacity = 4_MiB});
  const auto pool = Pool::create(device);
  const Buffer live = pool->acquire(1_MiB).value();
  pool->acquire(2_MiB).value().reset();
  const Buffer other_class = pool->acquire(3_MiB).value();
  EXPECT_EQ(pool->stats().idle, 0_B);
  EXPECT_EQ(device->stats().live, 4_MiB);
  EXPECT_EQ(pool->stats().refused, 0U);
  pool->validate();
}

TEST(PoolRefusal, AsksOnlyOnceWhenNothingIsIdle) {
  const auto device = SimulatedDevice::create({.capacity = 1_MiB});
  const auto pool = Pool::create(device);
  EXPECT_FALSE(pool->acquire(2_MiB).ok());
  EXPECT_EQ(device->stats().refusals, 1U);
}

TEST(PoolRefusal, ChangesNothingThatIsLive) {
  const auto upstream = std::make_shared<WatchedResource>();
  const auto pool = Pool::create(upstream);
  const Buffer live = pool->acquire(1_KiB).value();
  live.bytes()[1000] = std::byte{42};
  const PoolStats before = pool->stats();
  upstream->failing.fail_after(0);
  EXPECT_FALSE(pool->acquire(2_KiB).ok());
  EXPECT_FALSE(pool->allocate(2_KiB).ok());
  const PoolStats after = pool->stats();
  EXPECT_EQ(after.live, before.live);
  EXPECT_EQ(after.requested, before.requested);
  EXPECT_EQ(after.peak_reserved, before.peak_reserved);
  EXPECT_EQ(after.misses, before.misses);
  EXPECT_EQ(after.refused, 2U);
  EXPECT_EQ(live.bytes()[1000], std::byte{42});
  pool->validate();
}

// Takes blocks of several classes, drops half, takes again; ends at the first refusal.
void use(Pool& pool) {
  std::vector<Buffer> buffers;
  buffers.reserve(16);  // may throw; the caller knows
  for (std::uint64_t i = 0; i < 16; ++i) {
    auto buffer = pool.acquire(Bytes{100 + 977 * i}, {.contents = Contents::zeroed});
    if (!buffer) {
      EXPECT_EQ(buffer.status().code(), Code::memory_refused);
      return;
    }
    buffers.push_back(std::move(*buffer));
    if (i % 3 == 2) buffers.erase(buffers.begin());
  }
}

TEST(PoolRefusal, SurvivesUpstreamFailingAtEveryStep) {
  for (std::uint64_t n = 0;; ++n) {
    const auto upstream = std::make_shared<WatchedResource>();
    const auto pool = Pool::create(upstream);
    upstream->failing.fail_after(n);
    use(*pool);
    pool->validate();
    EXPECT_EQ(pool->stats().live_blocks, 0U);
    EXPECT_EQ(upstream->live(), pool->stats().idle);
    pool->release_unused();
    EXPECT_EQ(upstream->live_blocks(), 0U);
    if (pool->stats().refused == 0) {
      EXPECT_EQ(n, pool->stats().misses);
      break;
    }
  }
}

TEST(PoolRefusal, SurvivesEveryAllocationOfItsOwnFailing) {
  for (const auto failing : {FailingNew::Failing::once, FailingNew::Failing::from_there_on}) {
    const auto device = SimulatedDevice::create();
    const auto pool = Pool::create(device);
    const auto failures = testing::walk_allocation_failures(
        [&] {
          auto first = pool->acquire(1_MiB);
          auto second = pool->acquire(2_MiB);
          EXPECT_EQ(first.status().code(), first ? Code::ok : Code::memory_refused);
          pool->tick();
          if (second) pool->trim(1_B);
        },
        [&] {
          pool->validate();
          EXPECT_EQ(pool->stats().live_blocks, 0U);
          EXPECT_EQ(device->stats().live, pool->stats().idle);
          pool->release_unused();
          EXPECT_EQ(device->stats().live_blocks, 0U);
        },
        failing);
    EXPECT_GE(failures, 6U) << "two records and an address each";
  }
}

TEST(PoolRefusal, GivesBackWithoutAllocating) {
  const auto pool = Pool::create(SimulatedDevice::create(), {.max_retained = 3_MiB});
  Buffer first = pool->acquire(2_MiB).value();
  Buffer second = pool->acquire(2_MiB).value();
  Buffer third = pool->acquire(4_MiB).value();
  {
    const FailingNew failure{0, FailingNew::Failing::from_there_on};
    first.set_stream(Stream{99});
    first.reset();   // becomes idle on a stream that the pool has not seen
    second.reset();  // pushes the first one out
    third.reset();   // larger than what may be retained
    pool->release_unused();
    EXPECT_FALSE(FailingNew::has_failed());
  }
  EXPECT_EQ(pool->stats().live_blocks + pool->stats().idle_blocks, 0U);
  pool->validate();
}

}  // namespace
}  // namespace forebay
