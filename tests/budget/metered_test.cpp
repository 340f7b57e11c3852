#include <gtest/gtest.h>

#include "budget/store.hpp"
#include "forebay/budget.hpp"
#include "forebay/device.hpp"

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

}  // namespace
}  // namespace forebay
