// The examples of docs/pools.md, word for word.
#include <gtest/gtest.h>

#include <cstring>

#include "forebay/forebay.hpp"

namespace {

using namespace forebay::literals;
using namespace std::chrono_literals;

void run_step(void* data) { std::memset(data, 1, 64); }

TEST(PoolsPage, BlocksFromADevice) {
  const auto host = forebay::Device::host();
  auto block = host->allocate(64_KiB, 4_KiB);
  if (!block) FAIL() << block.status().message();
  run_step(*block);
  host->deallocate(*block, 64_KiB, 4_KiB);
}

TEST(PoolsPage, AddressesThatGrow) {
  auto range = forebay::Device::host()->reserve_address(1_GiB).value();
  const forebay::Status grown = range->commit(0_B, 2_MiB);
  ASSERT_TRUE(grown.ok()) << grown.message();
  run_step(range->data());
  range->decommit(1_MiB, 1_MiB);
  EXPECT_EQ(range->committed(), 1_MiB);
}

TEST(PoolsPage, AnA100OnALaptop) {
  auto gpu = forebay::SimulatedDevice::create({.name = "a100", .capacity = 40_GiB});
  auto teacher = forebay::Buffer::allocate(gpu, 7_GiB).value();
  auto student = forebay::Buffer::allocate(gpu, 34_GiB);
  EXPECT_EQ(student.status().message(), "a100: asked 34 GiB, 33 GiB free of 40 GiB");
  gpu->fail_after(2);  // two more succeed, then each is refused
}

TEST(PoolsPage, AStepOverAPool) {
  auto pool = forebay::Pool::create(forebay::Device::host(), {.name = "tensors", .ttl = 60s});
  for (int step = 0; step < 100; ++step) {
    forebay::ReleaseScope scope;
    auto& logits = scope.hold(pool->acquire(64_KiB).value());
    auto& hidden =
        scope.hold(pool->acquire(16_KiB, {.contents = forebay::Contents::zeroed}).value());
    run_step(logits.data());
    run_step(hidden.data());
  }
  EXPECT_EQ(pool->stats().misses, 2U);
  EXPECT_EQ(pool->stats().hits, 198U);
  pool->tick();            // gives back what was idle for more than 60 s
  pool->release_unused();  // or everything idle, now
}

TEST(PoolsPage, WeightsThatMove) {
  const auto pool = forebay::Pool::create(forebay::Device::host());
  auto weights = pool->acquire_relocatable(64_MiB).value();
  {
    const auto pin = weights.pin();  // stays where it is while a pin lives
    run_step(pin.data());
  }
  pool->consolidate();  // may be elsewhere from here on
  EXPECT_EQ(weights.size(), 64_MiB);
}

}  // namespace
