#include <gtest/gtest.h>

#include <cstring>
#include <thread>
#include <vector>

#include "budget/store.hpp"
#include "device/fail_point.hpp"
#include "forebay/budget.hpp"
#include "forebay/device.hpp"
#include "support/failing_new.hpp"

namespace forebay {
namespace {

using namespace forebay::literals;

TEST(Metered, ChargesTheGoodSizeAndReturnsIt) {
  Budget budget{"b", {.limit = 1_MiB}};
  auto device = SimulatedDevice::create({.granularity = 512_B});
  auto metered = budget.meter(device);
  void* block = metered->allocate(100_B).value();
  EXPECT_EQ(budget.stats().used, 512_B);
  EXPECT_EQ(device->stats().live, 512_B);
  metered->deallocate(block, 100_B);
  EXPECT_EQ(budget.stats().used, 0_B);
  EXPECT_EQ(device->stats().live, 0_B);
}

TEST(Metered, RefusesBeforeTheDeviceIsAsked) {
  Budget budget{"b", {.limit = 1000_B}};
  auto device = SimulatedDevice::create({.granularity = 512_B});
  auto metered = budget.meter(device);
  const auto refused = metered->allocate(600_B);
  EXPECT_EQ(refused.status().code(), Code::memory_refused);
  EXPECT_NE(refused.status().refusal(), nullptr);
  EXPECT_EQ(device->stats().allocations, 0U);
}

TEST(Metered, AFailedDeviceLeavesTheBudgetAsItWas) {
  Budget budget{"b", {.limit = 1_MiB}};
  auto device = SimulatedDevice::create();
  auto metered = budget.meter(device);
  device->fail_after(0);
  EXPECT_FALSE(metered->allocate(100_B).ok());
  EXPECT_EQ(budget.stats().used, 0_B);
  device->never_fail();
  void* block = metered->allocate(100_B).value();
  metered->deallocate(block, 100_B);
  EXPECT_EQ(budget.stats().used, 0_B);
}

TEST(Metered, ReclaimsToMakeRoom) {
  Budget budget{"b", {.limit = 1_MiB}};
  testing::Store store{budget};
  store.put(budget.reserve(1_MiB).value());
  auto metered = budget.meter(SimulatedDevice::create());
  void* block = metered->allocate(1_KiB).value();
  EXPECT_EQ(store.bytes(), 1_MiB - 1_KiB);
  metered->deallocate(block, 1_KiB);
}

TEST(Metered, ZeroBytesChargeNothing) {
  Budget budget{"b", {.limit = 0_B}};
  auto metered = budget.meter(SimulatedDevice::create());
  EXPECT_EQ(metered->allocate(0_B).value(), nullptr);
  metered->deallocate(nullptr, 10_B);
  EXPECT_EQ(budget.stats().used, 0_B);
}

TEST(Metered, LooksLikeItsUpstream) {
  Budget root{"root"};
  Budget budget = root.child("b").value();
  auto host = budget.meter(Device::host());
  EXPECT_TRUE(host->host_accessible());
  EXPECT_EQ(host->name(), "root/b");
  EXPECT_EQ(host->good_size(100_B, 16_B), Device::host()->good_size(100_B, 16_B));
  EXPECT_FALSE(budget.meter(SimulatedDevice::create())->host_accessible());
}

TEST(Metered, AfterItsBudgetItRefuses) {
  std::shared_ptr<MemoryResource> metered;
  {
    Budget budget{"b"};
    metered = budget.meter(SimulatedDevice::create());
  }
  EXPECT_EQ(metered->allocate(1_B).status().code(), Code::failed_precondition);
}

TEST(Metered, PassesOnWhatConcernsStreamsAndContents) {
  Budget budget{"b"};
  const auto device = SimulatedDevice::create({.stream_ordered = true});
  const auto gpu = budget.meter(device);
  EXPECT_TRUE(gpu->stream_ordered());
  gpu->stream_wait(Stream{1}, Stream{2});
  EXPECT_EQ(device->stats().stream_waits, 1U);
  void* const block = gpu->allocate(1_KiB).value();
  gpu->zero(block, 1_KiB, {});  // the default of a resource would touch it
  gpu->copy(block, static_cast<std::byte*>(block) + 512, 512_B, {});
  gpu->deallocate(block, 1_KiB);

  const auto host = budget.meter(Device::host());
  EXPECT_FALSE(host->stream_ordered());
  char text[8] = "abcdefg";
  host->zero(text, 2_B, {});
  host->copy(text + 4, text + 2, 2_B, {});
  EXPECT_EQ(std::memcmp(text, "\0\0cdcdg", 8), 0);
}

TEST(MeteredRange, ReservesWhatIsMissingBeforeTheDeviceIsAsked) {
  Budget budget{"b", {.limit = 6_MiB}};
  const auto device = SimulatedDevice::create();
  const auto range = budget.meter(device)->reserve_address(1_GiB).value();
  EXPECT_EQ(budget.stats().used, 0_B);
  ASSERT_TRUE(range->commit(0_B, 4_MiB).ok());
  ASSERT_TRUE(range->commit(0_B, 6_MiB).ok());
  EXPECT_EQ(budget.stats().used, 6_MiB);
  const Status refused = range->commit(4_MiB, 4_MiB);
  EXPECT_EQ(refused.code(), Code::memory_refused);
  ASSERT_NE(refused.refusal(), nullptr);
  EXPECT_EQ(device->stats().refusals, 0U);
  EXPECT_EQ(device->stats().live, 6_MiB);
  range->decommit(0_B, 1_GiB);
  EXPECT_EQ(budget.stats().used, 0_B);
}

TEST(MeteredRange, AFailedDeviceLeavesTheBudgetAsItWas) {
  Budget budget{"b", {.limit = 64_MiB}};
  const auto device = SimulatedDevice::create();
  const auto range = budget.meter(device)->reserve_address(64_MiB).value();
  ASSERT_TRUE(range->commit(0_B, 2_MiB).ok());
  device->fail_after(0);
  EXPECT_EQ(range->commit(0_B, 8_MiB).code(), Code::memory_refused);
  EXPECT_EQ(budget.stats().used, 2_MiB);
  EXPECT_EQ(range->committed(), 2_MiB);
  device->never_fail();
  EXPECT_TRUE(range->commit(0_B, 64_MiB).ok());
}

TEST(MeteredRange, ReclaimsToMakeRoom) {
  Budget budget{"b", {.limit = 8_MiB}};
  testing::Store store{budget};
  store.put(budget.reserve(8_MiB).value());
  const auto range = budget.meter(SimulatedDevice::create())->reserve_address(8_MiB).value();
  ASSERT_TRUE(range->commit(0_B, 2_MiB).ok());
  EXPECT_EQ(store.bytes(), 6_MiB);
}

TEST(MeteredRange, ChargesNothingForPagesThatMove) {
  Budget budget{"b", {.limit = 8_MiB}};
  const auto metered = budget.meter(SimulatedDevice::create());
  const auto first = metered->reserve_address(8_MiB).value();
  auto second = metered->reserve_address(8_MiB).value();
  ASSERT_TRUE(first->commit(0_B, 8_MiB).ok());
  ASSERT_TRUE(second->adopt(0_B, *first, 2_MiB, 6_MiB).ok());
  EXPECT_EQ(budget.stats().used, 8_MiB);
  second.reset();
  EXPECT_EQ(budget.stats().used, 2_MiB);
}

// Their charges are not the same budget's, or could not be told apart if they were.
TEST(MeteredRange, AdoptsNothingFromAnotherResource) {
  Budget root{"root"};
  Budget a = root.child("a").value();
  Budget b = root.child("b").value();
  const auto device = SimulatedDevice::create();
  const auto mine = a.meter(device);
  const auto range = mine->reserve_address(8_MiB).value();
  const auto other = b.meter(device)->reserve_address(8_MiB).value();
  const auto bare = device->reserve_address(8_MiB).value();
  const std::vector<AddressRange*> sources{other.get(), bare.get()};
  for (AddressRange* const source : sources) {
    ASSERT_TRUE(source->commit(0_B, 8_MiB).ok());
    EXPECT_EQ(range->adopt(0_B, *source, 0_B, 2_MiB).code(), Code::invalid_argument);
    EXPECT_EQ(source->committed(), 8_MiB);
  }
  EXPECT_EQ(a.stats().used, 0_B);
  EXPECT_EQ(b.stats().used, 8_MiB);
}

TEST(MeteredRange, KeepsWhatItNeedsAndRefusesAfterItsBudget) {
  std::unique_ptr<AddressRange> range;
  {
    Budget budget{"b"};
    range = budget.meter(SimulatedDevice::create())->reserve_address(8_MiB).value();
    ASSERT_TRUE(range->commit(0_B, 2_MiB).ok());
    range->decommit(0_B, 2_MiB);
  }
  EXPECT_EQ(range->commit(0_B, 2_MiB).code(), Code::failed_precondition);
  EXPECT_EQ(range->committed(), 0_B);
}

TEST(MeteredRange, HoldsTheLineUnderThreads) {
  Budget budget{"b", {.limit = 16_MiB}};
  const auto device = SimulatedDevice::create({.capacity = 1_GiB});
  const auto range = budget.meter(device)->reserve_address(64_MiB).value();
  const auto work = [&](std::uint64_t thread) {
    for (std::uint64_t i = 0; i < 2000; ++i) {
      const Bytes offset = 16_MiB * thread + 2_MiB * (i % 6);
      if (range->commit(offset, 6_MiB).ok()) range->decommit(offset, 6_MiB);
    }
  };
  std::vector<std::thread> threads;
  for (std::uint64_t thread = 0; thread < 4; ++thread) threads.emplace_back(work, thread);
  for (std::thread& thread : threads) thread.join();
  EXPECT_LE(device->stats().peak, 16_MiB);
  EXPECT_EQ(device->stats().live, 0_B);
  EXPECT_EQ(budget.stats().used, 0_B);
}

TEST(MeteredRange, SurvivesEveryAllocationFailing) {
  Budget budget{"b", {.limit = 4_MiB}};
  const auto device = SimulatedDevice::create();
  const auto metered = budget.meter(device);
  const auto failures = testing::walk_allocation_failures(
      [&] {
        const auto range = metered->reserve_address(64_MiB);
        if (!range) {
          EXPECT_EQ(range.status().code(), Code::memory_refused);
          return;
        }
        AddressRange& pages = **range;
        EXPECT_EQ(pages.commit(0_B, 6_MiB).code(), Code::memory_refused);
        EXPECT_EQ(pages.committed(), 0_B);
        const Bytes expected = pages.commit(0_B, 4_MiB).ok() ? 4_MiB : 0_B;
        EXPECT_EQ(pages.committed(), expected);
        EXPECT_FALSE(pages.commit(1_B, 2_MiB).ok());
        EXPECT_FALSE(pages.adopt(8_MiB, pages, 16_MiB, 2_MiB).ok());
      },
      [&] {
        EXPECT_EQ(budget.stats().used, 0_B);
        EXPECT_EQ(device->stats().live, 0_B);
      });
  EXPECT_GE(failures, 5U) << "three for the range, and the messages";
}

TEST(MeteredRange, RefusesWhenTheHostHasNoAddresses) {
  Budget budget{"b"};
  const auto metered = budget.meter(Device::host());
  detail::host_mappings().fail_after(0);
  EXPECT_EQ(metered->reserve_address(8_MiB).status().code(), Code::memory_refused);
  detail::host_mappings().never_fail();
  EXPECT_TRUE(metered->reserve_address(8_MiB).ok());
}

}  // namespace
}  // namespace forebay
