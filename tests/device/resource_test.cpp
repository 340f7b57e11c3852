#include <gtest/gtest.h>

#include <limits>

#include "forebay/device.hpp"
#include "support/failing_new.hpp"

namespace forebay {
namespace {

using namespace literals;

// Counts what gets past the checks of MemoryResource.
class CountingResource final : public MemoryResource {
 public:
  std::string_view name() const noexcept override { return "counting"; }
  bool host_accessible() const noexcept override { return false; }
  int allocations = 0;
  int deallocations = 0;

 private:
  Result<void*> do_allocate(Bytes, Bytes, Stream) override {
    ++allocations;
    return static_cast<void*>(this);
  }
  void do_deallocate(void*, Bytes, Bytes, Stream) noexcept override { ++deallocations; }
};

// Refuses in the ways that an upstream's code may choose.
class ThrowingResource final : public MemoryResource {
 public:
  std::string_view name() const noexcept override { return "throwing"; }
  bool host_accessible() const noexcept override { return false; }

 private:
  Result<void*> do_allocate(Bytes bytes, Bytes, Stream) override {
    if (bytes == 1_B) throw std::bad_alloc{};
    throw MemoryRefused{Status{Code::memory_refused, "throwing: full"}};
  }
  void do_deallocate(void*, Bytes, Bytes, Stream) noexcept override {}
};

TEST(MemoryResource, GivesNullForZeroBytesWithoutAsking) {
  CountingResource resource;
  const auto block = resource.allocate(0_B);
  ASSERT_TRUE(block.ok());
  EXPECT_EQ(*block, nullptr);
  resource.deallocate(*block, 0_B);
  EXPECT_EQ(resource.allocations, 0);
  EXPECT_EQ(resource.deallocations, 0);
}

TEST(MemoryResource, RefusesAlignmentsThatAreNoPowerOfTwoUpToTwoMebibytes) {
  CountingResource resource;
  for (const Bytes alignment : {0_B, 3_B, 24_B, 4_MiB, Bytes::unlimited()}) {
    for (const Bytes bytes : {0_B, 64_B}) {
      const auto block = resource.allocate(bytes, alignment);
      ASSERT_FALSE(block.ok()) << to_string(alignment);
      EXPECT_EQ(block.status().code(), Code::invalid_argument);
    }
  }
  EXPECT_EQ(resource.allocate(64_B, 24_B).status().message(),
            "counting: alignment 24 B is not allowed; it must be a power of two from 1 B to 2 MiB");
  EXPECT_EQ(resource.allocations, 0);
  EXPECT_TRUE(resource.allocate(64_B, 1_B).ok());
  EXPECT_TRUE(resource.allocate(64_B, kMaxAlignment).ok());
}

TEST(MemoryResource, RefusesSizesNearTheEndOfTheNumbersBeforeAnyRounding) {
  CountingResource resource;
  const std::uint64_t last = std::numeric_limits<std::uint64_t>::max();
  for (const std::uint64_t bytes : {last, last - 1, last - 2'000'000, last / 2 + 1}) {
    const auto block = resource.allocate(Bytes{bytes}, kMaxAlignment);
    ASSERT_FALSE(block.ok()) << bytes;
    EXPECT_EQ(block.status().code(), Code::memory_refused);
    EXPECT_NE(block.status().message().find(std::to_string(bytes)), std::string::npos);
  }
  EXPECT_EQ(resource.allocations, 0);
}

TEST(MemoryResource, TakesARequestAsItIsUnlessAResourceRounds) {
  const CountingResource resource;
  EXPECT_EQ(resource.good_size(0_B, 16_B), 0_B);
  EXPECT_EQ(resource.good_size(1001_B, 64_B), 1001_B);
}

TEST(MemoryResource, TurnsThrownRefusalsIntoStatuses) {
  ThrowingResource resource;
  EXPECT_EQ(resource.allocate(1_B).status().code(), Code::memory_refused);
  EXPECT_EQ(resource.allocate(2_B).status().message(), "throwing: full");
}

TEST(MemoryResource, RefusesWithAStatusEvenIfItsMessageCannotBeAllocated) {
  CountingResource resource;
  const auto refusals = [&](Bytes bytes, Bytes alignment) {
    return testing::walk_allocation_failures(
        [&] { EXPECT_FALSE(resource.allocate(bytes, alignment).ok()); }, [] {},
        testing::FailingNew::Failing::from_there_on);
  };
  EXPECT_GT(refusals(Bytes::unlimited(), 16_B), 0U);
  EXPECT_GT(refusals(64_B, 3_B), 0U);
}

TEST(MemoryResourceDeathTest, AbortsWhenABlockIsGivenBackAsNoBytes) {
  CountingResource resource;
  EXPECT_DEATH(resource.deallocate(&resource, 0_B), "zero bytes is nullptr");
}

}  // namespace
}  // namespace forebay
