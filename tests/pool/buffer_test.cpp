#include "forebay/buffer.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <stdexcept>
#include <type_traits>
#include <utility>

#include "support/failing_new.hpp"
#include "support/watched_resource.hpp"

namespace forebay {
namespace {

using namespace literals;
using testing::WatchedResource;

static_assert(!std::is_copy_constructible_v<Buffer> && !std::is_copy_assignable_v<Buffer>);
static_assert(std::is_nothrow_move_constructible_v<Buffer>);
static_assert(std::is_nothrow_move_assignable_v<Buffer>);

class BufferTest : public ::testing::Test {
 protected:
  Buffer make(Bytes size, Stream stream = {}) {
    return Buffer::allocate(resource_, size, 64_B, stream).value();
  }
  const std::shared_ptr<WatchedResource> resource_ = std::make_shared<WatchedResource>();
};
using ReleaseScopeTest = BufferTest;

TEST_F(BufferTest, IsEmptyByDefault) {
  const Buffer buffer;
  EXPECT_TRUE(buffer.empty());
  EXPECT_EQ(buffer.size(), 0_B);
  EXPECT_TRUE(buffer.bytes().empty());
}

TEST_F(BufferTest, OwnsAnAlignedBlockUntilItEnds) {
  {
    const Buffer buffer = make(1000_B);
    EXPECT_EQ(buffer.size(), 1000_B);
    EXPECT_EQ(buffer.bytes().size(), 1000U);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffer.data()) % 64, 0U);
    EXPECT_EQ(resource_->live(), 1000_B);
  }
  EXPECT_EQ(resource_->live_blocks(), 0U);
}

TEST_F(BufferTest, OfNoBytesIsEmptyAndChargesNothing) {
  const Buffer buffer = make(0_B);
  EXPECT_TRUE(buffer.empty());
  EXPECT_EQ(resource_->allocations(), 0U);
}

TEST_F(BufferTest, SaysWhyItCannotBeAllocated) {
  EXPECT_EQ(Buffer::allocate(resource_, 1_KiB, 3_B).status().code(), Code::invalid_argument);
  resource_->failing.fail_after(0);
  EXPECT_EQ(Buffer::allocate(resource_, 1_KiB).status().code(), Code::memory_refused);
  EXPECT_EQ(resource_->live_blocks(), 0U);
}

TEST_F(BufferTest, MovesItsBlockAndLeavesAnEmptyOne) {
  Buffer first = make(1_KiB);
  void* const data = first.data();
  Buffer second{std::move(first)};
  EXPECT_EQ(second.data(), data);
  EXPECT_TRUE(first.empty());  // NOLINT(bugprone-use-after-move): what a move leaves is promised
  EXPECT_EQ(first.size(), 0_B);
  EXPECT_EQ(resource_->live_blocks(), 1U);
}

TEST_F(BufferTest, GivesItsOwnBlockBackWhenAssignedTo) {
  Buffer first = make(1_KiB);
  first = make(2_KiB);
  EXPECT_EQ(resource_->live(), 2_KiB);
  EXPECT_EQ(resource_->freed(), std::vector<Bytes>{1_KiB});
  first = Buffer{};
  EXPECT_EQ(resource_->live_blocks(), 0U);
}

TEST_F(BufferTest, SurvivesBeingMovedToItself) {
  Buffer buffer = make(1_KiB);
  void* const data = buffer.data();
  Buffer& same = buffer;
  buffer = std::move(same);
  EXPECT_EQ(buffer.data(), data);
  EXPECT_EQ(buffer.size(), 1_KiB);
  EXPECT_EQ(resource_->live_blocks(), 1U);
}

TEST_F(BufferTest, GivesItsBlockBackOnceWhenReset) {
  Buffer buffer = make(1_KiB);
  buffer.reset();
  EXPECT_TRUE(buffer.empty());
  EXPECT_EQ(buffer.size(), 0_B);
  buffer.reset();
  EXPECT_EQ(resource_->freed().size(), 1U);
}

TEST_F(BufferTest, GivesItsBlockBackOnTheStreamOfItsLastUse) {
  const Stream first{7};
  const Stream last{9};
  { const Buffer buffer = make(1_KiB, first); }
  {
    Buffer buffer = make(1_KiB, first);
    EXPECT_EQ(buffer.stream(), first);
    buffer.set_stream(last);
    const Buffer moved = std::move(buffer);
    EXPECT_EQ(moved.stream(), last);
  }
  EXPECT_EQ(resource_->freed_on(), (std::vector<Stream>{first, last}));
}

TEST_F(BufferTest, KeepsItsResourceAlive) {
  auto resource = std::make_shared<WatchedResource>();
  const std::weak_ptr<WatchedResource> watch = resource;
  Buffer buffer = Buffer::allocate(std::move(resource), 1_KiB).value();
  EXPECT_FALSE(watch.expired());
  buffer.reset();
  EXPECT_TRUE(watch.expired());
}

TEST_F(ReleaseScopeTest, HoldsBuffersUntilItsEndLatestFirst) {
  {
    ReleaseScope scope;
    Buffer& first = scope.hold(make(1_KiB));
    for (int i = 0; i < 200; ++i) scope.hold(make(1_B));
    scope.hold(make(3_KiB));
    EXPECT_EQ(first.size(), 1_KiB) << "references outlive later holds";
    EXPECT_EQ(scope.size(), 202U);
    EXPECT_EQ(scope.bytes(), 4_KiB + 200_B);
  }
  EXPECT_EQ(resource_->live_blocks(), 0U);
  EXPECT_EQ(resource_->freed().front(), 3_KiB);
  EXPECT_EQ(resource_->freed().back(), 1_KiB);
}

TEST_F(ReleaseScopeTest, CanReleaseEarlyAndHoldAgain) {
  ReleaseScope scope;
  scope.hold(make(1_KiB));
  scope.release();
  EXPECT_EQ(scope.size(), 0U);
  EXPECT_EQ(scope.bytes(), 0_B);
  EXPECT_EQ(resource_->live_blocks(), 0U);
  scope.hold(make(2_KiB));
  EXPECT_EQ(resource_->live(), 2_KiB);
}

TEST_F(ReleaseScopeTest, NestsAsScopesDo) {
  ReleaseScope outer;
  outer.hold(make(1_KiB));
  {
    ReleaseScope inner;
    inner.hold(make(2_KiB));
    EXPECT_EQ(resource_->live(), 3_KiB);
  }
  EXPECT_EQ(resource_->live(), 1_KiB);
}

TEST_F(ReleaseScopeTest, LetsGoWhenAnExceptionPasses) {
  EXPECT_THROW(
      {
        ReleaseScope scope;
        scope.hold(make(1_KiB));
        throw std::runtime_error{"a step failed"};
      },
      std::runtime_error);
  EXPECT_EQ(resource_->live_blocks(), 0U);
}

TEST_F(ReleaseScopeTest, LosesNoBufferThatItCannotHold) {
  std::size_t held = 0;
  const auto failures = testing::walk_allocation_failures(
      [&] {
        held = 0;
        try {
          ReleaseScope scope;
          for (; held < 100; ++held) scope.hold(make(64_B));
        } catch (const std::bad_alloc&) {
        }
      },
      [&] { EXPECT_EQ(resource_->live_blocks(), 0U) << "after " << held << " holds"; });
  EXPECT_GT(failures, 100U);
}

}  // namespace
}  // namespace forebay
