#include <gtest/gtest.h>
#include <malloc.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "device/fail_point.hpp"
#include "device/mapping.hpp"
#include "device/memory_looks.hpp"
#include "forebay/buffer.hpp"
#include "forebay/device.hpp"
#include "support/failing_new.hpp"

namespace forebay {
namespace {

using namespace literals;

// Lets no scripted failure out of a test.
class HostMappings : public ::testing::Test {
 protected:
  void TearDown() override { detail::host_mappings().never_fail(); }
  const std::shared_ptr<Device> host_ = Device::host();
};

TEST(HostDevice, HasTheMachinesMemory) {
  const auto host = Device::host();
  EXPECT_EQ(host->name(), "host");
  EXPECT_TRUE(host->host_accessible());
  EXPECT_GT(host->capacity(), 64_MiB);
  EXPECT_GT(host->free(), 0_B);
  EXPECT_LE(host->free(), host->capacity());
}

TEST(HostDevice, GivesZeroedBlocksEvenWhereTheHeapReusesThem) {
  const auto host = Device::host();
  EXPECT_TRUE(host->allocates_zeroed());
  for (const Bytes bytes : {1_B, 100_B, 4096_B, 1_MiB - 1_B, 1_MiB, 3_MiB + 5_B}) {
    for (int round = 0; round < 3; ++round) {
      void* const block = host->allocate(bytes, 64_B).value();
      EXPECT_TRUE(all_zero(block, bytes)) << to_string(bytes);
      std::memset(block, 0xA5, bytes.count());
      host->deallocate(block, bytes, 64_B);
    }
  }
}

TEST(HostDevice, SaysWhatASmallBlockTakesFromTheHeap) {
  const auto host = Device::host();
  EXPECT_EQ(host->good_size(0_B, 16_B), 0_B);
  for (const Bytes bytes : {1_B, 24_B, 25_B, 1000_B, 100_KiB}) {
    void* const block = host->allocate(bytes).value();
    const Bytes usable{::malloc_usable_size(block)};
    EXPECT_GE(host->good_size(bytes, 16_B), bytes);
    // The heap may leave a remainder that is too small to be a block in the block.
    EXPECT_GE(host->good_size(bytes, 16_B) + 32_B, usable);
    host->deallocate(block, bytes);
  }
}

// An aligned block is cut out of a larger one: what lies between two of them is taken too.
TEST(HostDevice, GoodSizeCoversWhatAnAlignmentCosts) {
  const auto host = Device::host();
  for (const Bytes alignment : {64_B, 1_KiB, 4_KiB}) {
    std::vector<Buffer> blocks;
    std::uintptr_t low = UINTPTR_MAX;
    std::uintptr_t high = 0;
    for (int i = 0; i < 500; ++i) {
      blocks.push_back(Buffer::allocate(host, 64_B, alignment).value());
      const auto at = reinterpret_cast<std::uintptr_t>(blocks.back().data());
      low = std::min(low, at);
      high = std::max(high, at);
    }
    const Bytes spread{(high - low) / 499};
    // A heap that was used before may place them closer than a fresh one does, never wider.
    EXPECT_GE(host->good_size(64_B, alignment), std::min(spread, alignment + 64_B))
        << alignment.count();
  }
}

TEST(HostDevice, TakesWholePagesForLargeAndForPageAlignedBlocks) {
  const auto host = Device::host();
  const Bytes page = detail::system_page();
  EXPECT_EQ(host->good_size(1_MiB, 16_B), 1_MiB);
  EXPECT_EQ(host->good_size(1_MiB + 1_B, 16_B), 1_MiB + page);
  EXPECT_EQ(host->good_size(1_B, kMaxAlignment), page);
  EXPECT_TRUE(host->good_size(Bytes::unlimited(), 16_B).is_unlimited());
}

TEST(HostDevice, GivesALargeBlockBackToTheSystemAtOnce) {
  const auto host = Device::host();
  const Bytes bytes = 8_MiB;
  void* const block = host->allocate(bytes, kMaxAlignment).value();
  std::memset(block, 1, bytes.count());
  EXPECT_EQ(resident_pages(block, bytes), bytes / detail::system_page());
  host->deallocate(block, bytes, kMaxAlignment);
  std::vector<unsigned char> pages(bytes / detail::system_page());
  EXPECT_EQ(::mincore(block, bytes.count(), pages.data()), -1) << "still mapped";
}

TEST(HostDevice, RefusesMoreThanTheMachineHas) {
  const auto host = Device::host();
  const auto block = host->allocate(host->capacity() + 1_B);
  ASSERT_FALSE(block.ok());
  EXPECT_EQ(block.status().code(), Code::memory_refused);
  EXPECT_NE(block.status().message().find(to_string(host->capacity())), std::string::npos);
}

TEST(HostDevice, RefusesSmallBlocksWhenTheHeapIsExhausted) {
  const auto host = Device::host();
  for (const Bytes alignment : {16_B, 256_B}) {
    const auto failures = testing::walk_allocation_failures(
        [&] {
          const auto block = host->allocate(100_B, alignment);
          EXPECT_EQ(block.status().code(), block ? Code::ok : Code::memory_refused);
          if (block) host->deallocate(*block, 100_B, alignment);
        },
        [] {}, testing::FailingNew::Failing::from_there_on);
    EXPECT_EQ(failures, 1U);
  }
}

TEST_F(HostMappings, RefusalOfAMappingIsARefusalOfMemory) {
  detail::host_mappings().fail_after(1);
  void* const first = host_->allocate(2_MiB).value();
  EXPECT_EQ(host_->allocate(2_MiB).status().code(), Code::memory_refused);
  EXPECT_EQ(host_->reserve_address(2_MiB).status().code(), Code::memory_refused);
  detail::host_mappings().never_fail();
  host_->deallocate(first, 2_MiB);
  EXPECT_TRUE(host_->reserve_address(2_MiB).ok());
}

}  // namespace
}  // namespace forebay
