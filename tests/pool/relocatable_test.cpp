// Blocks that move: when, where to, and that nobody notices.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include "forebay/budget.hpp"
#include "forebay/pool.hpp"
#include "support/failing_new.hpp"
#include "support/watched_resource.hpp"

namespace forebay {
namespace {

using namespace literals;
using testing::FailingNew;
using testing::WatchedResource;

std::shared_ptr<Pool> make_pool(std::shared_ptr<MemoryResource> upstream, bool checked = false) {
  return Pool::create(std::move(upstream),
                      {.name = "kv", .cleanup_interval = Duration::zero(), .checked = checked});
}

void fill(const RelocatableBuffer& buffer, int value) {
  std::memset(buffer.pin().data(), value, buffer.size().count());
}

bool holds(const RelocatableBuffer& buffer, int value) {
  const auto pin = buffer.pin();
  const auto* const bytes = static_cast<const unsigned char*>(pin.data());
  for (std::uint64_t i = 0; i != buffer.size().count(); ++i) {
    if (bytes[i] != static_cast<unsigned char>(value)) return false;
  }
  return true;
}

// `count` blocks in a row, filled with their number; then only each `step`-th of them.
std::vector<RelocatableBuffer> sparse_blocks(Pool& pool, int count, int step, Bytes size) {
  std::vector<RelocatableBuffer> all;
  for (int i = 0; i != count; ++i) {
    all.push_back(pool.acquire_relocatable(size).value());
    fill(all.back(), i);
  }
  std::vector<RelocatableBuffer> kept;
  for (int i = 0; i != count; i += step)
    kept.push_back(std::move(all[static_cast<std::size_t>(i)]));
  return kept;
}

void expect_content(const std::vector<RelocatableBuffer>& blocks, int step) {
  for (std::size_t i = 0; i != blocks.size(); ++i) {
    EXPECT_TRUE(holds(blocks[i], static_cast<int>(i) * step)) << i;
  }
}

class Consolidation : public ::testing::TestWithParam<bool> {
 protected:
  const bool checked_ = GetParam();
};

TEST_P(Consolidation, SparseSegmentsGoUpstream) {
  const auto upstream = std::make_shared<WatchedResource>();
  const auto pool = make_pool(upstream, checked_);
  auto blocks = sparse_blocks(*pool, 64, 4, 60_KiB);
  pool->release_unused();
  const Bytes before = upstream->live();
  const std::size_t segments = upstream->live_blocks();
  ASSERT_GE(segments, 4U);
  const Bytes given = pool->consolidate();
  EXPECT_EQ(before - upstream->live(), given);
  EXPECT_LE(upstream->live_blocks(), 2U);
  EXPECT_EQ(pool->stats().reserved, upstream->live());
  pool->validate();
  expect_content(blocks, 4);
  EXPECT_EQ(pool->consolidate(), Bytes{});
  blocks.clear();
  pool->release_unused();
  EXPECT_EQ(upstream->live_blocks(), 0U);
}

TEST_P(Consolidation, SparseSegmentsOfSmallBlocksGoUpstream) {
  const auto upstream = std::make_shared<WatchedResource>();
  const auto pool = make_pool(upstream, checked_);
  const auto blocks = sparse_blocks(*pool, 4000, 100, 1000_B);
  pool->release_unused();
  const Bytes before = upstream->live();
  const Bytes given = pool->consolidate();
  EXPECT_GT(given, Bytes{});
  EXPECT_EQ(before - upstream->live(), given);
  pool->validate();
  expect_content(blocks, 100);
}

TEST_P(Consolidation, SparseSlabsGoUpstreamPageByPage) {
  const auto pool = make_pool(Device::host(), checked_);
  const auto blocks = sparse_blocks(*pool, 4000, 100, 1000_B);
  pool->release_unused();
  const Bytes before = pool->stats().reserved;
  const Bytes given = pool->consolidate();
  EXPECT_GE(given * 2, before);  // nearly all of it, and a slab of 40 blocks stays
  EXPECT_EQ(pool->stats().reserved, before - given);
  pool->validate();
  expect_content(blocks, 100);
  EXPECT_EQ(pool->consolidate(), Bytes{});
}

TEST_P(Consolidation, WhatIsPinnedStaysAndHoldsItsSegment) {
  const auto upstream = std::make_shared<WatchedResource>();
  const auto pool = make_pool(upstream, checked_);
  const auto blocks = sparse_blocks(*pool, 64, 4, 60_KiB);
  pool->release_unused();
  {
    std::vector<RelocatableBuffer::Pin> pins;
    std::vector<void*> places;
    for (const auto& block : blocks) {
      pins.push_back(block.pin());
      places.push_back(pins.back().data());
    }
    EXPECT_EQ(pool->consolidate(), Bytes{});
    for (std::size_t i = 0; i != blocks.size(); ++i) EXPECT_EQ(blocks[i].pin().data(), places[i]);
  }
  EXPECT_GT(pool->consolidate(), Bytes{});
  expect_content(blocks, 4);
}

TEST_P(Consolidation, OrdinaryBlocksNeverMoveAndHoldTheirSegment) {
  const auto upstream = std::make_shared<WatchedResource>();
  const auto pool = make_pool(upstream, checked_);
  std::vector<RelocatableBuffer> movable;
  std::vector<Buffer> fixed;
  for (int i = 0; i != 64; ++i) {
    movable.push_back(pool->acquire_relocatable(60_KiB).value());
    if (i % 8 == 0) fixed.push_back(pool->acquire(60_KiB).value());
  }
  for (const Buffer& buffer : fixed) std::memset(buffer.data(), 7, buffer.size().count());
  movable.resize(8);
  pool->release_unused();
  const std::size_t segments = upstream->live_blocks();
  pool->consolidate();
  EXPECT_EQ(upstream->live_blocks(), segments);
  for (const Buffer& buffer : fixed) {
    for (const std::byte byte : buffer.bytes()) ASSERT_EQ(byte, std::byte{7});
  }
  pool->validate();
}

TEST_P(Consolidation, WithoutRoomEverythingStaysWhereItWas) {
  const auto upstream = std::make_shared<WatchedResource>();
  const auto pool = make_pool(upstream, checked_);
  const RelocatableBuffer only = pool->acquire_relocatable(100_KiB).value();
  fill(only, 3);
  pool->release_unused();
  const void* const place = only.pin().data();
  EXPECT_EQ(pool->consolidate(), Bytes{});
  EXPECT_EQ(only.pin().data(), place);
  EXPECT_TRUE(holds(only, 3));
  EXPECT_EQ(upstream->live_blocks(), 1U);
  pool->validate();
  // What was free is still to be had.
  EXPECT_TRUE(pool->try_acquire(200_KiB).ok());
}

TEST_P(Consolidation, ABudgetUpstreamIsGivenBackTo) {
  Budget budget{"line", {.limit = 64_MiB}};
  const auto pool = make_pool(budget.meter(std::make_shared<WatchedResource>()), checked_);
  const auto blocks = sparse_blocks(*pool, 64, 4, 60_KiB);
  pool->release_unused();
  const Bytes before = budget.stats().used;
  const Bytes given = pool->consolidate();
  EXPECT_GT(given, Bytes{});
  EXPECT_GT(before, budget.stats().used);
  expect_content(blocks, 4);
}

TEST_P(Consolidation, BlocksKeepTheirTenant) {
  const auto upstream = std::make_shared<WatchedResource>();
  const auto pool = make_pool(upstream, checked_);
  std::vector<RelocatableBuffer> blocks;
  for (int i = 0; i != 64; ++i) {
    blocks.push_back(pool->acquire_relocatable(60_KiB, {.tenant = Tenant{3}}).value());
    fill(blocks.back(), 0x5a);
  }
  for (std::size_t i = 0; i != 16; ++i) blocks[i] = std::move(blocks[4 * i]);
  blocks.resize(16);
  pool->release_unused();
  EXPECT_GT(pool->consolidate(), Bytes{});
  for (const auto& block : blocks) EXPECT_TRUE(holds(block, 0x5a));
  blocks.clear();
  pool->trim(Bytes{});
  for (int i = 0; i != 40; ++i) {
    const Buffer other = pool->acquire(60_KiB, {.tenant = Tenant{4}}).value();
    for (const std::byte byte : other.bytes()) ASSERT_EQ(byte, std::byte{0});
  }
}

TEST_P(Consolidation, ARefusalOfHostMemoryAtAnyStepLeavesAllBlocksWhole) {
  std::uint64_t steps = 0;
  for (bool failed = true; failed; ++steps) {
    const auto upstream = std::make_shared<WatchedResource>();
    const auto pool = make_pool(upstream, checked_);
    const auto blocks = sparse_blocks(*pool, 64, 4, 60_KiB);
    pool->release_unused();
    {
      const FailingNew failure{steps, FailingNew::Failing::from_there_on};
      pool->consolidate();
      failed = FailingNew::has_failed();
    }
    pool->validate();
    expect_content(blocks, 4);
  }
  EXPECT_GT(steps, 1U);
}

TEST_P(Consolidation, ThreadsMayPinUseAndEndBlocksMeanwhile) {
  for (const bool segments : {true, false}) {
    std::shared_ptr<MemoryResource> upstream = Device::host();
    if (segments) upstream = std::make_shared<WatchedResource>();
    const auto pool = make_pool(upstream, checked_);
    constexpr int kThreads = 3;
    std::atomic<int> running{kThreads};
    std::atomic<bool> wrong{false};
    std::vector<std::thread> threads;
    for (int t = 0; t != kThreads; ++t) {
      threads.emplace_back([&, t] {
        std::vector<RelocatableBuffer> mine;
        std::uint32_t random = static_cast<std::uint32_t>(t) + 1;
        for (int i = 0; i != 400; ++i) {
          random = random * 1664525U + 1013904223U;
          const Bytes size = (random >> 8) % 2 == 0 ? 1000_B : 50_KiB;
          mine.push_back(pool->acquire_relocatable(size).value());
          fill(mine.back(), t + 1);
          if (mine.size() > 40) {
            mine[random % mine.size()] = std::move(mine.back());
            mine.pop_back();
          }
          if (!holds(mine[random % mine.size()], t + 1)) wrong = true;
          if (i % 100 == 99) mine.resize(5);
        }
        for (const auto& block : mine) {
          if (!holds(block, t + 1)) wrong = true;
        }
        --running;
      });
    }
    while (running != 0) {
      pool->consolidate();
      pool->validate();
    }
    for (auto& thread : threads) thread.join();
    EXPECT_FALSE(wrong);
    pool->release_unused();
    EXPECT_EQ(pool->stats().live_blocks, 0U);
    EXPECT_EQ(pool->stats().reserved, Bytes{});
  }
}

INSTANTIATE_TEST_SUITE_P(Each, Consolidation, ::testing::Values(false, true),
                         [](const auto& with) { return with.param ? "Checked" : "Normal"; });

TEST(Relocatable, IsAnOwnerLikeOthers) {
  const auto pool = make_pool(Device::host());
  RelocatableBuffer none;
  EXPECT_TRUE(none.empty());
  EXPECT_EQ(none.size(), Bytes{});
  EXPECT_EQ(none.pin().data(), nullptr);
  EXPECT_TRUE(pool->acquire_relocatable(0_B).value().empty());
  RelocatableBuffer block = pool->acquire_relocatable(1_MiB, {.alignment = 4_KiB}).value();
  EXPECT_EQ(block.size(), 1_MiB);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(block.pin().data()) % 4096, 0U);
  none = std::move(block);
  EXPECT_EQ(pool->stats().live_blocks, 1U);
  RelocatableBuffer& self = none;
  none = std::move(self);
  EXPECT_FALSE(none.empty());
  none.reset();
  EXPECT_EQ(pool->stats().live_blocks, 0U);
}

TEST(Relocatable, ARefusalAtAnyStepChangesNothing) {
  const auto upstream = std::make_shared<WatchedResource>();
  const auto pool = make_pool(upstream);
  EXPECT_FALSE(pool->acquire_relocatable(1_KiB, {.alignment = 3_B}).ok());
  upstream->failing.fail_after(0);
  EXPECT_EQ(pool->acquire_relocatable(1_MiB).status().code(), Code::memory_refused);
  upstream->failing.never_fail();
  EXPECT_EQ(pool->stats().live_blocks, 0U);
  const auto failures = testing::walk_allocation_failures(
      [&] { static_cast<void>(pool->acquire_relocatable(1_MiB)); },
      [&] {
        EXPECT_EQ(pool->stats().live_blocks, 0U);
        pool->release_unused();
      });
  EXPECT_GT(failures, 0U);
}

TEST(Relocatable, PinsOverlap) {
  const auto pool = make_pool(Device::host());
  const RelocatableBuffer block = pool->acquire_relocatable(1_KiB).value();
  auto first = block.pin();
  auto second = block.pin();
  EXPECT_EQ(first.data(), second.data());
  const auto third = std::move(first);
  EXPECT_EQ(third.data(), second.data());
}

TEST(RelocatableDeathTest, TheEndOfAPinnedBlockAborts) {
  const auto pool = make_pool(Device::host());
  EXPECT_DEATH(
      {
        RelocatableBuffer block = pool->acquire_relocatable(1_KiB).value();
        const auto pin = block.pin();
        block.reset();
      },
      "a relocatable buffer ended while it was pinned");
}

TEST(RelocatableDeathTest, APoolThatEndsBeforeOneAborts) {
  EXPECT_DEATH(
      {
        auto pool = make_pool(Device::host());
        const RelocatableBuffer block = pool->acquire_relocatable(1_KiB).value();
        pool.reset();
      },
      "pool 'kv' ended with 1 live blocks");
}

TEST(Relocatable, MovesOnADeviceWithoutTouchingIt) {
  const auto device = SimulatedDevice::create({.capacity = 1_GiB});
  const auto pool = make_pool(device);
  std::vector<RelocatableBuffer> blocks;
  for (int i = 0; i != 40000; ++i) blocks.push_back(pool->acquire_relocatable(1000_B).value());
  for (std::size_t i = 0; i != 200; ++i) blocks[i] = std::move(blocks[200 * i]);
  blocks.resize(200);
  pool->release_unused();
  const Bytes before = device->stats().live;
  const Bytes given = pool->consolidate();
  EXPECT_GE(given * 4, before * 3);
  EXPECT_EQ(before - device->stats().live, given);
  pool->validate();
}

// Memory of the host that says of each copy on which stream it was.
class Streamed final : public MemoryResource {
 public:
  std::vector<Stream> copies;
  std::string_view name() const noexcept override { return "streamed"; }
  bool host_accessible() const noexcept override { return true; }
  bool stream_ordered() const noexcept override { return true; }
  void copy(void* to, const void* from, Bytes bytes, Stream stream) noexcept override {
    std::memcpy(to, from, bytes.count());
    copies.push_back(stream);
  }

 private:
  Result<void*> do_allocate(Bytes bytes, Bytes alignment, Stream stream) override {
    return Device::host()->allocate(bytes, alignment, stream);
  }
  void do_deallocate(void* block, Bytes bytes, Bytes alignment, Stream stream) noexcept override {
    Device::host()->deallocate(block, bytes, alignment, stream);
  }
};

TEST(Relocatable, IsCopiedOnItsStream) {
  const auto upstream = std::make_shared<Streamed>();
  upstream->copies.reserve(100);
  const auto pool = make_pool(upstream);
  std::vector<RelocatableBuffer> blocks;
  for (int i = 0; i != 64; ++i) {
    blocks.push_back(pool->acquire_relocatable(60_KiB, {.stream = Stream{5}}).value());
  }
  for (std::size_t i = 0; i != 16; ++i) blocks[i] = std::move(blocks[4 * i]);
  blocks.resize(16);
  pool->release_unused();
  EXPECT_GT(pool->consolidate(), Bytes{});
  ASSERT_FALSE(upstream->copies.empty());
  for (const Stream stream : upstream->copies) EXPECT_EQ(stream, Stream{5});
}

}  // namespace
}  // namespace forebay
