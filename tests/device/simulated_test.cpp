#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "forebay/device.hpp"
#include "support/failing_new.hpp"

namespace forebay {
namespace {

using namespace literals;
using namespace std::chrono_literals;

TEST(SimulatedDevice, IsWhatItsOptionsSay) {
  const auto device = SimulatedDevice::create({.name = "a100", .capacity = 40_GiB});
  EXPECT_EQ(device->name(), "a100");
  EXPECT_EQ(device->kind(), DeviceKind::simulated);
  EXPECT_FALSE(device->host_accessible());
  EXPECT_EQ(device->capacity(), 40_GiB);
  EXPECT_EQ(device->free(), 40_GiB);
}

TEST(SimulatedDevice, RefusesAGranularityThatIsNoPowerOfTwo) {
  EXPECT_THROW(SimulatedDevice::create({.granularity = 0_B}), Failure);
  EXPECT_THROW(SimulatedDevice::create({.granularity = 768_B}), Failure);
}

TEST(SimulatedDevice, TakesMultiplesOfItsGranularity) {
  const auto device = SimulatedDevice::create({.granularity = 512_B});
  EXPECT_EQ(device->good_size(1_B, 16_B), 512_B);
  EXPECT_EQ(device->good_size(513_B, 16_B), 1_KiB);
  EXPECT_TRUE(device->good_size(Bytes::unlimited(), 16_B).is_unlimited());
  void* const block = device->allocate(513_B).value();
  EXPECT_EQ(device->stats().live, 1_KiB);
  device->deallocate(block, 513_B);
}

TEST(SimulatedDevice, CanBeFilledToTheLastByteWhateverTheHoles) {
  const auto device = SimulatedDevice::create({.capacity = 16_MiB});
  std::vector<void*> blocks;
  for (int i = 0; i < 16; ++i) blocks.push_back(device->allocate(1_MiB).value());
  EXPECT_EQ(device->free(), 0_B);
  EXPECT_EQ(device->allocate(1_B).status().code(), Code::memory_refused);
  for (std::size_t i = 0; i < 16; i += 2) device->deallocate(blocks[i], 1_MiB);
  void* const large = device->allocate(8_MiB, kMaxAlignment).value();
  EXPECT_EQ(device->free(), 0_B);
  device->deallocate(large, 8_MiB, kMaxAlignment);
  for (std::size_t i = 1; i < 16; i += 2) device->deallocate(blocks[i], 1_MiB);
  EXPECT_EQ(device->free(), 16_MiB);
}

TEST(SimulatedDevice, RefusesWithTheNumbers) {
  const auto device = SimulatedDevice::create({.name = "gpu0", .capacity = 2_GiB});
  void* const block = device->allocate(1_GiB).value();
  EXPECT_EQ(device->allocate(2_GiB).status().message(), "gpu0: asked 2 GiB, 1 GiB free of 2 GiB");
  EXPECT_EQ(device->stats().refusals, 1U);
  device->deallocate(block, 1_GiB);
}

TEST(SimulatedDevice, FailsAsScripted) {
  const auto device = SimulatedDevice::create();
  device->fail_after(2);
  void* const first = device->allocate(1_KiB).value();
  void* const second = device->allocate(1_KiB).value();
  for (int i = 0; i < 3; ++i) {
    const auto refused = device->allocate(1_KiB);
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.status().code(), Code::memory_refused);
    EXPECT_EQ(refused.status().message(), "simulated: asked 1 KiB, refused by fail_after()");
  }
  EXPECT_EQ(device->stats().refusals, 3U);
  EXPECT_EQ(device->stats().live, 2_KiB);
  device->never_fail();
  void* const third = device->allocate(1_KiB).value();
  for (void* const block : {first, second, third}) device->deallocate(block, 1_KiB);
}

TEST(SimulatedDevice, TellsItsLatencyWithNoLockHeld) {
  ManualClock clock;
  const auto start = clock.now();
  SimulatedDevice* self = nullptr;
  std::uint64_t seen = 0;
  const auto device = SimulatedDevice::create(
      {.allocate_latency = 10us, .deallocate_latency = 3us, .on_latency = [&](Duration latency) {
         clock.advance(latency);
         seen += self->stats().live_blocks;  // would deadlock
       }});
  self = device.get();
  void* const block = device->allocate(1_KiB).value();
  EXPECT_EQ(clock.now() - start, 10us);
  device->deallocate(block, 1_KiB);
  EXPECT_EQ(clock.now() - start, 13us);
  const auto range = device->reserve_address(2_MiB).value();
  ASSERT_TRUE(range->commit(0_B, 2_MiB).ok());
  range->decommit(0_B, 2_MiB);
  EXPECT_EQ(clock.now() - start, 26us);
  EXPECT_EQ(seen, 0U);
}

TEST(SimulatedDevice, CanLoseCapacityBelowItsUse) {
  const auto device = SimulatedDevice::create({.capacity = 8_MiB});
  void* const block = device->allocate(6_MiB).value();
  device->set_capacity(4_MiB);
  EXPECT_EQ(device->capacity(), 4_MiB);
  EXPECT_EQ(device->free(), 0_B);
  EXPECT_EQ(device->allocate(1_B).status().code(), Code::memory_refused);
  device->deallocate(block, 6_MiB);
  EXPECT_EQ(device->free(), 4_MiB);
  device->set_capacity(64_MiB);
  void* const larger = device->allocate(64_MiB).value();
  device->deallocate(larger, 64_MiB);
}

TEST(SimulatedDevice, CountsWhatStreamsWaitFor) {
  EXPECT_FALSE(SimulatedDevice::create()->stream_ordered());
  const auto device = SimulatedDevice::create({.stream_ordered = true});
  EXPECT_TRUE(device->stream_ordered());
  EXPECT_EQ(device->stats().stream_waits, 0U);
  device->stream_wait(Stream{1}, Stream{2});
  device->stream_wait(Stream{2}, Stream{1});
  EXPECT_EQ(device->stats().stream_waits, 2U);
}

TEST(SimulatedDevice, TouchesNothingWhenItZeroesOrCopies) {
  const auto device = SimulatedDevice::create();
  void* const block = device->allocate(1_MiB).value();
  device->zero(block, 1_MiB, Stream{1});  // would fault
  device->copy(block, static_cast<std::byte*>(block) + 1000, 1000_B, Stream{1});
  EXPECT_EQ(device->stats().live, 1_MiB);
  device->deallocate(block, 1_MiB);
}

TEST(SimulatedDevice, CountsWhatHappened) {
  const auto device = SimulatedDevice::create({.capacity = 1_GiB});
  void* const first = device->allocate(1_MiB).value();
  void* const second = device->allocate(2_MiB).value();
  device->deallocate(first, 1_MiB);
  EXPECT_FALSE(device->allocate(2_GiB).ok());
  const auto stats = device->stats();
  EXPECT_EQ(stats.live, 2_MiB);
  EXPECT_EQ(stats.peak, 3_MiB);
  EXPECT_EQ(stats.live_blocks, 1U);
  EXPECT_EQ(stats.allocations, 2U);
  EXPECT_EQ(stats.deallocations, 1U);
  EXPECT_EQ(stats.refusals, 1U);
  device->deallocate(second, 2_MiB);
}

TEST(SimulatedDevice, IsExactUnderThreads) {
  const auto device = SimulatedDevice::create({.capacity = 1_MiB});
  const auto work = [&] {
    for (int i = 0; i < 2000; ++i) {
      auto block = device->allocate(400_KiB, 4_KiB);  // two fit, a third does not
      if (block) device->deallocate(*block, 400_KiB, 4_KiB);
    }
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) threads.emplace_back(work);
  for (std::thread& thread : threads) thread.join();
  const auto stats = device->stats();
  EXPECT_EQ(stats.live, 0_B);
  EXPECT_LE(stats.peak, 1_MiB);
  EXPECT_EQ(stats.allocations + stats.refusals, 8000U);
  EXPECT_EQ(stats.allocations, stats.deallocations);
}

TEST(SimulatedDevice, SurvivesEveryAllocationFailing) {
  const auto device = SimulatedDevice::create();
  void* const first = device->allocate(512_B).value();
  const auto failures = testing::walk_allocation_failures(
      [&] {
        const auto block = device->allocate(1_MiB, 64_KiB);
        if (block) device->deallocate(*block, 1_MiB, 64_KiB);
        const auto range = device->reserve_address(4_MiB);
        if (range && !(*range)->commit(0_B, 4_MiB).ok()) ADD_FAILURE();
      },
      [&] {
        EXPECT_EQ(device->stats().live, 512_B);
        EXPECT_EQ(device->stats().live_blocks, 1U);
      });
  EXPECT_EQ(failures, 4U) << "two for the block, two for the range";
  device->deallocate(first, 512_B);
}

TEST(SimulatedRange, ChargesWhatIsCommittedOnce) {
  const auto device = SimulatedDevice::create({.capacity = 8_MiB});
  const auto range = device->reserve_address(64_MiB + 1_B).value();
  EXPECT_EQ(range->page(), 2_MiB);
  EXPECT_EQ(range->size(), 66_MiB);
  EXPECT_EQ(device->stats().live, 0_B);
  ASSERT_TRUE(range->commit(0_B, 4_MiB).ok());
  ASSERT_TRUE(range->commit(2_MiB, 4_MiB).ok());
  EXPECT_EQ(range->committed(), 6_MiB);
  EXPECT_EQ(device->stats().live, 6_MiB);
  EXPECT_EQ(device->stats().live_blocks, 0U);
  EXPECT_EQ(range->commit(8_MiB, 4_MiB).code(), Code::memory_refused);
  EXPECT_EQ(range->committed(), 6_MiB);
  range->decommit(0_B, 66_MiB);
  EXPECT_EQ(device->free(), 8_MiB);
}

TEST(SimulatedRange, FailsAsScriptedAndChangesNothing) {
  const auto device = SimulatedDevice::create();
  const auto range = device->reserve_address(8_MiB).value();
  device->fail_after(1);
  ASSERT_TRUE(range->commit(0_B, 2_MiB).ok());
  EXPECT_EQ(range->commit(0_B, 4_MiB).code(), Code::memory_refused);
  EXPECT_EQ(range->committed(), 2_MiB);
  EXPECT_EQ(device->stats().live, 2_MiB);
  device->never_fail();
  EXPECT_EQ(range->commit(1_MiB, 2_MiB).code(), Code::invalid_argument);
}

TEST(SimulatedRange, GivesItsPagesBackWhenItEndsAndKeepsItsDevice) {
  auto device = SimulatedDevice::create();
  auto range = device->reserve_address(8_MiB).value();
  ASSERT_TRUE(range->commit(0_B, 8_MiB).ok());
  range.reset();
  EXPECT_EQ(device->stats().live, 0_B);
  range = device->reserve_address(8_MiB).value();
  device.reset();
  EXPECT_TRUE(range->commit(0_B, 8_MiB).ok());
}

TEST(SimulatedRange, HasPagesOfAHugePageAtLeast) {
  const auto device = SimulatedDevice::create({.granularity = 8_MiB});
  EXPECT_EQ(device->reserve_address(1_MiB).value()->page(), 8_MiB);
  const auto fine = SimulatedDevice::create()->reserve_address(1_MiB, {.page = 4_KiB}).value();
  EXPECT_EQ(fine->page(), 2_MiB);
}

TEST(SimulatedRange, AdoptsWithoutAskingTheDevice) {
  const auto device = SimulatedDevice::create({.capacity = 8_MiB});
  const auto first = device->reserve_address(8_MiB).value();
  const auto second = device->reserve_address(8_MiB).value();
  ASSERT_TRUE(first->commit(0_B, 8_MiB).ok());
  device->fail_after(0);
  ASSERT_TRUE(second->adopt(0_B, *first, 2_MiB, 4_MiB).ok());
  EXPECT_EQ(first->committed(), 4_MiB);
  EXPECT_EQ(second->committed(), 4_MiB);
  EXPECT_EQ(device->stats().live, 8_MiB);
  EXPECT_EQ(device->stats().refusals, 0U);
  device->never_fail();
}

TEST(SimulatedRange, AdoptsNothingFromAnotherDevice) {
  const auto device = SimulatedDevice::create({.name = "gpu0"});
  const auto range = device->reserve_address(8_MiB).value();
  const auto other = SimulatedDevice::create({.name = "gpu1"})->reserve_address(8_MiB).value();
  ASSERT_TRUE(other->commit(0_B, 8_MiB).ok());
  const Status refused = range->adopt(0_B, *other, 0_B, 2_MiB);
  EXPECT_EQ(refused.code(), Code::invalid_argument);
  EXPECT_EQ(refused.message(), "gpu0: adopts pages of its own ranges only");
  EXPECT_EQ(device->stats().live, 0_B);
}

TEST(SimulatedRange, RefusesMoreAddressesThanAProcessHas) {
  const auto device = SimulatedDevice::create();
  EXPECT_EQ(device->reserve_address(Bytes{1ULL << 62}).status().code(), Code::memory_refused);
  EXPECT_EQ(device->reserve_address(Bytes::unlimited()).status().code(), Code::memory_refused);
  EXPECT_EQ(device->reserve_address(0_B).value()->size(), 0_B);
}

TEST(SimulatedDeviceDeathTest, AbortsWhenABlockIsGivenBackTwiceOrWithAnotherSize) {
  const auto device = SimulatedDevice::create();
  void* const block = device->allocate(1_KiB).value();
  EXPECT_DEATH(device->deallocate(block, 2_KiB), "another size");
  device->deallocate(block, 1_KiB);
  EXPECT_DEATH(device->deallocate(block, 1_KiB), "not that of a live block");
}

TEST(SimulatedDeviceDeathTest, NamesItselfWhenItEndsBeforeItsBlocks) {
  EXPECT_DEBUG_DEATH(
      {
        const auto device = SimulatedDevice::create({.name = "a100"});
        static_cast<void>(device->allocate(1_KiB).value());
      },
      "device 'a100' ended with 1 KiB live in 1 blocks");
}

}  // namespace
}  // namespace forebay
