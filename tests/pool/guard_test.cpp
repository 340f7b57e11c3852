// Blocks that end at a page that faults, and what the fault says.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "device/fail_point.hpp"
#include "forebay/budget.hpp"
#include "forebay/pool.hpp"
#include "support/watched_resource.hpp"

namespace forebay {
namespace {

using namespace literals;

// The modes here are those that each test asks for.
[[maybe_unused]] const bool g_as_asked = ::unsetenv("FOREBAY_PARANOID") == 0;

std::shared_ptr<Pool> guarded_pool(std::uint32_t every = 1,
                                   std::shared_ptr<MemoryResource> upstream = Device::host()) {
  return Pool::create(std::move(upstream),
                      {.name = "kv", .cleanup_interval = Duration::zero(), .guard_every = every});
}

volatile std::byte* bytes_of(const Buffer& buffer) {
  return static_cast<volatile std::byte*>(buffer.data());
}

TEST(GuardDeathTest, AnAccessPastTheEndFaultsAndIsNamed) {
  const auto pool = guarded_pool();
  const Buffer buffer = pool->acquire(40_KiB).value();
  volatile std::byte* const bytes = bytes_of(buffer);
  bytes[0] = std::byte{1};
  bytes[40960 - 1] = std::byte{1};
  EXPECT_DEATH(bytes[40960] = std::byte{1},
               "forebay: pool 'kv': access 1 B past the end of block 0x[0-9a-f]+ of 40 KiB");
  EXPECT_DEATH(static_cast<void>(bytes[40960 + 2]), "access 3 B past the end of block");
  EXPECT_DEATH(bytes[40960 + 4095] = std::byte{1}, "access 4096 B past the end of block");
}

TEST(GuardDeathTest, TheEndIsRoundedToTheAlignment) {
  const auto pool = guarded_pool();
  for (const std::uint64_t alignment : {16U, 64U, 1024U, 4096U}) {
    const std::uint64_t size = 40000 + 7;
    const Buffer buffer = pool->acquire(Bytes{size}, {.alignment = Bytes{alignment}}).value();
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffer.data()) % alignment, 0U);
    const std::uint64_t end = (size + alignment - 1) / alignment * alignment;
    EXPECT_EQ(pool->usable_size(buffer.data()), Bytes{end});
    std::memset(buffer.data(), 1, end);
    EXPECT_DEATH(bytes_of(buffer)[end] = std::byte{1}, "of 40007 B");
  }
}

TEST(Guard, BlocksAlignedBeyondAPageHaveTheirsBehindTheLastPage) {
  const auto pool = guarded_pool();
  const Buffer buffer = pool->acquire(40007_B, {.alignment = 2_MiB}).value();
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffer.data()) % kMaxAlignment.count(), 0U);
  EXPECT_EQ(pool->usable_size(buffer.data()), 40_KiB);
  std::memset(buffer.data(), 1, 40960);
}

TEST(Guard, OneInSoManyLargeBlocksHasOne) {
  const auto pool = guarded_pool(10);
  int guarded = 0;
  for (int i = 0; i != 1000; ++i) {
    const Buffer large = pool->acquire(40001_B).value();
    const Buffer small = pool->acquire(100_B).value();
    if (reinterpret_cast<std::uintptr_t>(large.data()) % 4096 != 0) ++guarded;
  }
  EXPECT_EQ(guarded, 100);
}

TEST(Guard, NoneUnlessAskedFor) {
  const auto pool = guarded_pool(0);
  for (int i = 0; i != 100; ++i) {
    EXPECT_EQ(pool->usable_size(pool->acquire(40001_B).value().data()), 40_KiB);
  }
}

TEST(Guard, NoneWhereMemoryIsNotThePoolsToProtect) {
  const auto segments = guarded_pool(1, std::make_shared<testing::WatchedResource>());
  EXPECT_EQ(segments->usable_size(segments->acquire(40001_B).value().data()), 40_KiB);
  const auto device = guarded_pool(1, SimulatedDevice::create());
  EXPECT_EQ(device->usable_size(device->acquire(40001_B).value().data()), 40_KiB);
}

TEST(Guard, ThePageIsMemoryAgainAfterwards) {
  const auto pool = guarded_pool(2);
  std::vector<Buffer> buffers;
  for (int round = 0; round != 50; ++round) {
    for (const std::uint64_t size : {40001U, 65536U, 100000U, 300000U}) {
      buffers.push_back(pool->acquire(Bytes{size}).value());
      std::memset(buffers.back().data(), round, size);
    }
    pool->validate();
    if (round % 3 == 2) buffers.clear();
    if (round % 7 == 6) pool->release_unused();
  }
  buffers.clear();
  pool->validate();
  EXPECT_EQ(pool->stats().live_blocks, 0U);
  pool->release_unused();
  EXPECT_EQ(pool->stats().reserved, Bytes{});
}

TEST(Guard, TheNextOfItsSizeFindsItStillUp) {
  const auto pool = guarded_pool();
  for (int i = 0; i != 20; ++i) {
    const Buffer buffer =
        pool->acquire(40001_B, {.contents = Contents::zeroed, .tenant = Tenant{1}}).value();
    for (const std::byte byte : buffer.bytes()) ASSERT_EQ(byte, std::byte{0});
    EXPECT_EQ(pool->usable_size(buffer.data()), 40016_B);
    std::memset(buffer.data(), 0x5a, 40016);
    pool->validate();
  }
  // Another offset, the same pages; then other pages.
  EXPECT_EQ(pool->usable_size(pool->acquire(37000_B).value().data()), 37008_B);
  const Buffer other = pool->acquire(50000_B, {.tenant = Tenant{2}}).value();
  for (const std::byte byte : other.bytes()) ASSERT_EQ(byte, std::byte{0});
  pool->validate();
  EXPECT_EQ(pool->stats().live_blocks, 1U);
  pool->tick();
  pool->validate();
}

TEST(Guard, RawBlocksComeBackWithAndWithoutTheirSize) {
  const auto pool = guarded_pool();
  pool->deallocate(pool->allocate(40001_B).value(), 40001_B);
  pool->deallocate_unsized(pool->allocate(40001_B).value());
  EXPECT_EQ(pool->stats().live_blocks, 0U);
}

TEST(GuardDeathTest, MisuseOfAGuardedBlockIsFound) {
  const auto pool = guarded_pool();
  auto* const block = static_cast<std::byte*>(pool->allocate(40001_B).value());
  auto* const page = block - reinterpret_cast<std::uintptr_t>(block) % 4096;
  EXPECT_DEATH(pool->deallocate_unsized(block + 16), "is not the start of a block");
  EXPECT_DEATH(pool->deallocate_unsized(page), "is not the start of a block");
  EXPECT_DEATH(pool->deallocate(block, 40002_B), "another size or alignment");
  pool->deallocate(block, 40001_B);
  EXPECT_DEATH(pool->deallocate(block, 40001_B), "block 0x.*is");
}

TEST(Guard, NoTenantSeesAnothersData) {
  const auto pool = guarded_pool(2);
  for (int i = 0; i != 40; ++i) {
    const AcquireOptions options{.tenant = Tenant{static_cast<std::uint8_t>(i % 2)}};
    const Buffer buffer = pool->acquire(40001_B, options).value();
    const Bytes usable = pool->usable_size(buffer.data());
    auto* const bytes = static_cast<std::uint8_t*>(buffer.data());
    for (std::uint64_t at = 0; at != usable.count(); ++at) {
      ASSERT_TRUE(bytes[at] == 0 || bytes[at] == i % 2 + 1) << i << " at " << at;
    }
    std::memset(bytes, i % 2 + 1, usable.count());
  }
}

TEST(Guard, IsGivenUpWhereItDoesNotFit) {
  Budget budget{"line", {.limit = 1_MiB}};
  const auto pool = guarded_pool(1, budget.meter(Device::host()));
  auto whole = pool->acquire(1_MiB);
  ASSERT_TRUE(whole.ok()) << whole.status().message();
  EXPECT_EQ(pool->usable_size(whole->data()), 1_MiB);
}

TEST(Guard, IsGivenUpWhereTheSystemHasNoMappingsLeft) {
  const auto pool = guarded_pool();
  pool->acquire(400_KiB).value().reset();
  detail::host_mappings().fail_after(0);
  const auto buffer = pool->acquire(40001_B);
  detail::host_mappings().never_fail();
  ASSERT_TRUE(buffer.ok());
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffer->data()) % 4096, 0U);
  pool->validate();
}

[[noreturn]] void leave(int /*signal*/) {
  static_cast<void>(!::write(STDERR_FILENO, "mine\n", 5));
  ::_exit(3);
}

// In a process of its own: the first pool that asks for guards settles who comes after it.
TEST(GuardDeathTest, WhoeverHandledFaultsBeforeStillDoes) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        std::signal(SIGSEGV, leave);
        const auto pool = guarded_pool();
        const Buffer buffer = pool->acquire(40_KiB).value();
        bytes_of(buffer)[40960] = std::byte{1};
      },
      ::testing::ExitedWithCode(3), "access 1 B past the end.*\nmine");
}

TEST(GuardDeathTest, FaultsElsewhereArePassedOnInSilence) {
  const auto pool = guarded_pool();
  EXPECT_DEATH(::raise(SIGSEGV), ::testing::Not(::testing::HasSubstr("past the end")));
}

}  // namespace
}  // namespace forebay
