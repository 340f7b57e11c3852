#include "forebay/buffer.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "support/failing_new.hpp"
#include "support/watched_resource.hpp"

namespace forebay {
namespace {

using namespace literals;
using testing::WatchedResource;

static_assert(!std::is_copy_constructible_v<Buffer> && !std::is_copy_assignable_v<Buffer>);
static_assert(std::is_nothrow_move_constructible_v<Buffer>);
static_assert(std::is_nothrow_move_assignable_v<Buffer>);
static_assert(std::is_nothrow_copy_constructible_v<SharedBuffer>);
static_assert(std::is_nothrow_move_constructible_v<SharedBuffer>);
static_assert(std::is_nothrow_move_assignable_v<SharedBuffer>);
static_assert(sizeof(SharedBuffer) == sizeof(void*));
static_assert(!std::is_copy_constructible_v<ReleaseScope> &&
              !std::is_move_constructible_v<ReleaseScope>);

class BufferTest : public ::testing::Test {
 protected:
  Buffer make(Bytes size, Stream stream = {}) {
    return Buffer::allocate(resource_, size, 64_B, stream).value();
  }
  const std::shared_ptr<WatchedResource> resource_ = std::make_shared<WatchedResource>();
};
using SharedBufferTest = BufferTest;
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

// As a pool's buffers, which must not outlive it.
TEST_F(BufferTest, OfARawResourceGivesItsBlockBackThere) {
  void* const data = resource_->allocate(1_KiB, 64_B, Stream{3}).value();
  const auto owners = resource_.use_count();
  {
    Buffer buffer{resource_.get(), data, 1_KiB, 64_B, Stream{3}};
    EXPECT_EQ(resource_.use_count(), owners) << "it keeps nothing alive";
    const Buffer moved = std::move(buffer);
    EXPECT_EQ(moved.data(), data);
    EXPECT_EQ(moved.alignment(), 64_B);
    EXPECT_EQ(resource_->live_blocks(), 1U);
  }
  EXPECT_EQ(resource_->live_blocks(), 0U);
  EXPECT_EQ(resource_->freed_on(), std::vector<Stream>{Stream{3}});
}

TEST_F(BufferTest, OfASharedResourceKeepsItAlive) {
  auto resource = std::make_shared<WatchedResource>();
  const std::weak_ptr<WatchedResource> watch = resource;
  Buffer buffer = Buffer::allocate(std::move(resource), 1_KiB).value();
  Buffer moved = std::move(buffer);
  EXPECT_FALSE(watch.expired());
  moved = Buffer{};
  EXPECT_TRUE(watch.expired());
}

TEST_F(BufferTest, ExchangesARawResourceForASharedOne) {
  auto shared = std::make_shared<WatchedResource>();
  const std::weak_ptr<WatchedResource> watch = shared;
  void* const data = resource_->allocate(1_KiB).value();
  Buffer buffer{resource_.get(), data, 1_KiB, kDefaultAlignment, Stream{}};
  buffer = Buffer::allocate(shared, 2_KiB).value();
  EXPECT_EQ(resource_->live_blocks(), 0U);
  shared.reset();
  EXPECT_FALSE(watch.expired());
  buffer = make(3_KiB);
  EXPECT_TRUE(watch.expired());
  EXPECT_EQ(resource_->live(), 3_KiB);
}

TEST_F(SharedBufferTest, IsEmptyByDefault) {
  SharedBuffer none;
  EXPECT_TRUE(none.empty());
  EXPECT_EQ(none.data(), nullptr);
  EXPECT_EQ(none.size(), 0_B);
  EXPECT_TRUE(none.bytes().empty());
  EXPECT_EQ(none.ref_count(), 0U);
  const SharedBuffer copy = none;
  EXPECT_EQ(copy.ref_count(), 0U);
  none.reset();
  none = copy;
  EXPECT_TRUE(none.empty());
}

TEST_F(SharedBufferTest, TakesTheBlockOverFromItsBuffer) {
  Buffer buffer = make(1_KiB);
  void* const data = buffer.data();
  const SharedBuffer shared = SharedBuffer::share(std::move(buffer)).value();
  EXPECT_TRUE(buffer.empty());  // NOLINT(bugprone-use-after-move): what a move leaves is promised
  EXPECT_EQ(shared.data(), data);
  EXPECT_EQ(shared.size(), 1_KiB);
  EXPECT_EQ(shared.bytes().size(), 1024U);
  EXPECT_EQ(shared.ref_count(), 1U);
}

TEST_F(SharedBufferTest, MayShareABufferOfNoBytes) {
  const SharedBuffer shared = SharedBuffer::share(make(0_B)).value();
  EXPECT_TRUE(shared.empty());
  EXPECT_EQ(shared.ref_count(), 1U);
}

TEST_F(SharedBufferTest, GivesTheBlockBackWithItsLastOwner) {
  SharedBuffer first = SharedBuffer::share(make(1_KiB)).value();
  {
    const SharedBuffer second = first;
    EXPECT_EQ(second.data(), first.data());
    EXPECT_EQ(first.ref_count(), 2U);
    const SharedBuffer third{second};
    EXPECT_EQ(first.ref_count(), 3U);
    first.reset();
    EXPECT_EQ(first.ref_count(), 0U);
    EXPECT_TRUE(first.empty());
    EXPECT_EQ(third.ref_count(), 2U);
    EXPECT_EQ(resource_->live_blocks(), 1U);
  }
  EXPECT_EQ(resource_->live_blocks(), 0U);
  EXPECT_EQ(resource_->freed().size(), 1U);
}

TEST_F(SharedBufferTest, MovesItsOwnership) {
  SharedBuffer first = SharedBuffer::share(make(1_KiB)).value();
  SharedBuffer second{std::move(first)};
  EXPECT_EQ(second.ref_count(), 1U);
  EXPECT_EQ(first.ref_count(), 0U);  // NOLINT(bugprone-use-after-move): is promised
  first = std::move(second);
  EXPECT_EQ(first.ref_count(), 1U);
  EXPECT_TRUE(second.empty());  // NOLINT(bugprone-use-after-move): is promised
  EXPECT_EQ(resource_->live_blocks(), 1U);
}

TEST_F(SharedBufferTest, LetsGoOfItsBlockWhenAssignedTo) {
  SharedBuffer first = SharedBuffer::share(make(1_KiB)).value();
  const SharedBuffer second = SharedBuffer::share(make(2_KiB)).value();
  first = second;
  EXPECT_EQ(resource_->live(), 2_KiB);
  EXPECT_EQ(second.ref_count(), 2U);
  first = SharedBuffer{};
  EXPECT_EQ(second.ref_count(), 1U);
}

TEST_F(SharedBufferTest, SurvivesBeingAssignedToItself) {
  SharedBuffer shared = SharedBuffer::share(make(1_KiB)).value();
  SharedBuffer& same = shared;
  shared = same;
  EXPECT_EQ(shared.ref_count(), 1U);
  shared = std::move(same);
  EXPECT_EQ(shared.ref_count(), 1U);
  EXPECT_EQ(shared.size(), 1_KiB);
  EXPECT_EQ(resource_->live_blocks(), 1U);
}

TEST_F(SharedBufferTest, GivesTheBlockBackOnTheStreamOfItsBuffer) {
  const Stream last{9};
  Buffer buffer = make(1_KiB, Stream{7});
  buffer.set_stream(last);
  SharedBuffer::share(std::move(buffer)).value().reset();
  EXPECT_EQ(resource_->freed_on(), std::vector<Stream>{last});
}

TEST_F(SharedBufferTest, LeavesTheBufferAsItWasWhereTheHostHasNoMemoryLeft) {
  Buffer buffer = make(1_KiB);
  void* const data = buffer.data();
  Result<SharedBuffer> shared = Status{Code::memory_refused, "not asked yet"};
  const auto failures =
      testing::walk_allocation_failures([&] { shared = SharedBuffer::share(std::move(buffer)); },
                                        [&] {
                                          EXPECT_EQ(resource_->live_blocks(), 1U);
                                          if (shared) return;
                                          EXPECT_EQ(shared.status().code(), Code::memory_refused);
                                          EXPECT_EQ(buffer.data(), data);
                                          EXPECT_EQ(buffer.size(), 1_KiB);
                                        });
  EXPECT_EQ(failures, 1U);
  EXPECT_EQ(shared->data(), data);
}

// The last owner must see what every other one wrote: it gives the block to someone else.
TEST_F(SharedBufferTest, IsGivenBackOnceByWhicheverThreadIsLast) {
  constexpr int kOwners = 4;
  for (int round = 0; round < 200; ++round) {
    SharedBuffer shared = SharedBuffer::share(make(64_B)).value();
    std::atomic<int> ready{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < kOwners; ++i) {
      threads.emplace_back([mine = shared, &ready, i]() mutable {
        mine.bytes()[static_cast<std::size_t>(i)] = std::byte{1};
        const SharedBuffer copy = mine;
        mine.reset();
        ready.fetch_add(1);
      });
    }
    shared.reset();
    for (std::thread& thread : threads) thread.join();
    ASSERT_EQ(ready.load(), kOwners);
    ASSERT_EQ(resource_->live_blocks(), 0U);
  }
  EXPECT_EQ(resource_->allocations(), 200U);
}

TEST_F(SharedBufferTest, KeepsARawPoolsBlockOutOfItUntilTheLastOwnerEnds) {
  void* const data = resource_->allocate(1_KiB).value();
  SharedBuffer shared =
      SharedBuffer::share(Buffer{resource_.get(), data, 1_KiB, kDefaultAlignment, Stream{}})
          .value();
  std::thread{[copy = shared]() mutable { copy.reset(); }}.join();
  EXPECT_EQ(resource_->live_blocks(), 1U);
  shared.reset();
  EXPECT_EQ(resource_->live_blocks(), 0U);
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

TEST_F(ReleaseScopeTest, LetsGoOfInnerScopesFirstWhenAnExceptionPasses) {
  try {
    ReleaseScope outer;
    outer.hold(make(1_KiB));
    ReleaseScope inner;
    inner.hold(make(2_KiB));
    outer.hold(make(3_KiB));
    throw std::runtime_error{"a step failed"};
  } catch (const std::runtime_error&) {
    EXPECT_EQ(resource_->freed(), (std::vector<Bytes>{2_KiB, 3_KiB, 1_KiB}));
  }
}

TEST_F(ReleaseScopeTest, MayLetGoOfOneBufferEarly) {
  ReleaseScope scope;
  Buffer& logits = scope.hold(make(1_KiB));
  Buffer& hidden = scope.hold(make(2_KiB));
  logits.reset();
  EXPECT_EQ(resource_->live(), 2_KiB);
  EXPECT_EQ(scope.bytes(), 2_KiB);
  const Buffer kept = std::move(hidden);
  scope.release();
  EXPECT_EQ(kept.size(), 2_KiB) << "what was moved out stays";
  EXPECT_EQ(resource_->live(), 2_KiB);
}

TEST_F(ReleaseScopeTest, HoldsEmptyBuffersToo) {
  ReleaseScope scope;
  EXPECT_TRUE(scope.hold(Buffer{}).empty());
  scope.hold(make(0_B));
  EXPECT_EQ(scope.size(), 2U);
  scope.release();
  scope.release();
  EXPECT_EQ(resource_->freed().size(), 0U);
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
