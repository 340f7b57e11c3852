// Failure walks: each call of upstream, each mapping and each allocation of the pool's own fails
// once, and nothing is lost or changed by it.
#include <gtest/gtest.h>

#include <functional>
#include <vector>

#include "device/fail_point.hpp"
#include "forebay/pool.hpp"
#include "support/failing_new.hpp"
#include "support/watched_ranges.hpp"
#include "support/watched_resource.hpp"

namespace forebay {
namespace {

using namespace literals;
using testing::FailingNew;
using testing::WatchedRanges;
using testing::WatchedResource;

struct Request {
  Bytes size;
  AcquireOptions options{};
};
const Request kRequests[] = {
    {100_B},
    {30_KiB, {.contents = Contents::zeroed}},
    {100_KiB},
    {3_MiB, {.contents = Contents::zeroed, .tenant = {3}}},
    {5_MiB, {.alignment = 2_MiB}},
    {100_B, {.alignment = 64_KiB}},
};

// What a refusal must leave as it was. (Idle memory may have gone, that is its purpose.)
void expect_unchanged(const PoolStats& before, const PoolStats& after) {
  EXPECT_EQ(after.live, before.live);
  EXPECT_EQ(after.live_blocks, before.live_blocks);
  EXPECT_EQ(after.acquires, before.acquires);
  EXPECT_EQ(after.requested_total, before.requested_total);
  EXPECT_EQ(after.peak_live, before.peak_live);
  EXPECT_EQ(after.refused, before.refused + 1);
}

// Holes of all sizes, so that a growth plans moves, extensions and purges.
std::vector<Buffer> make_holes(Pool& pool) {
  std::vector<Buffer> buffers;
  for (std::uint64_t i = 0; i < 24; ++i) {
    buffers.push_back(pool.acquire(2_MiB + Bytes{i * 300'000}).value());
  }
  for (std::size_t i = 0; i < buffers.size(); i += 2) buffers[i].reset();
  return buffers;
}

// `fail_after(n)` for n = 0, 1, ... until the request gets through.
template <typename Upstream, typename FailAfter, typename NeverFail>
void walk(const Upstream& upstream, const Request& request, bool holes, FailAfter fail_after,
          NeverFail never_fail) {
  for (std::uint64_t n = 0;; ++n) {
    ASSERT_LT(n, 200U) << "never got through";
    const auto pool = Pool::create(upstream);
    {
      const std::vector<Buffer> held = holes ? make_holes(*pool) : std::vector<Buffer>{};
      const PoolStats before = pool->stats();
      fail_after(n);
      const auto got = pool->acquire(holes ? request.size + 40_MiB : request.size, request.options);
      never_fail();
      pool->validate();
      if (got) {
        EXPECT_TRUE(n > 0 || holes);
        return;
      }
      ASSERT_EQ(got.status().code(), Code::memory_refused);
      expect_unchanged(before, pool->stats());
      for (const Request& again : kRequests) {
        EXPECT_TRUE(pool->acquire(again.size, again.options).ok());
      }
      pool->validate();
    }
    pool->release_unused();
    ASSERT_EQ(pool->stats().reserved, 0_B);
    ASSERT_EQ(upstream->live(), 0_B);
  }
}

TEST(PoolFailures, EveryCallOfARangeMayFail) {
  for (const Request& request : kRequests) {
    for (const bool holes : {false, true}) {
      const auto upstream = std::make_shared<WatchedRanges>();
      walk(
          upstream, request, holes, [&](std::uint64_t n) { upstream->failing.fail_after(n); },
          [&] { upstream->failing.never_fail(); });
    }
  }
}

TEST(PoolFailures, WhereNothingCanBeMovedMemoryIsGivenBackAndTakenAgain) {
  const auto upstream = std::make_shared<WatchedRanges>();
  const auto pool = Pool::create(upstream);
  upstream->failing_adoptions.fail_after(0);
  const std::vector<Buffer> held = make_holes(*pool);
  const Buffer large = pool->acquire(40_MiB).value();
  EXPECT_EQ(upstream->seen().adoptions, 0U);
  pool->validate();
  EXPECT_EQ(pool->stats().reserved, upstream->live());
}

TEST(PoolFailures, EverySegmentMayBeRefused) {
  for (const Request& request : kRequests) {
    const auto upstream = std::make_shared<WatchedResource>();
    walk(
        upstream, request, false, [&](std::uint64_t n) { upstream->failing.fail_after(n); },
        [&] { upstream->failing.never_fail(); });
  }
}

TEST(PoolFailures, EveryMappingOfTheHostMayFail) {
  for (const Request& request : kRequests) {
    const auto upstream = std::make_shared<WatchedRanges>();
    walk(
        upstream, request, true, [&](std::uint64_t n) { detail::host_mappings().fail_after(n); },
        [&] { detail::host_mappings().never_fail(); });
  }
}

TEST(PoolFailures, EveryMappingThatAPoolIsMadeOfMayFail) {
  for (std::uint64_t n = 0;; ++n) {
    ASSERT_LT(n, 100U);
    const auto upstream = std::make_shared<WatchedRanges>();
    upstream->failing.fail_after(n);
    bool made = false;
    try {
      made = Pool::create(upstream)->acquire(1_KiB).ok();
    } catch (const MemoryRefused& refused) {
      EXPECT_EQ(refused.status().code(), Code::memory_refused);
    }
    EXPECT_EQ(upstream->live(), 0_B);
    if (made) break;
  }
}

// The pool's own allocations, on the way out and when it is made.
template <typename MakeUpstream>
void walk_allocations(MakeUpstream make_upstream) {
  for (const auto failing : {FailingNew::Failing::once, FailingNew::Failing::from_there_on}) {
    const auto upstream = make_upstream();
    const auto failures = testing::walk_allocation_failures(
        [&] {
          try {
            const auto pool = Pool::create(upstream, {.cleanup_interval = Duration{0}});
            for (const Request& request : kRequests) {
              const PoolStats before = pool->stats();
              AcquireOptions options = request.options;
              options.stream = Stream{request.size.count()};
              const auto got = pool->acquire(request.size, options);
              if (!got) expect_unchanged(before, pool->stats());
              pool->validate();
            }
            pool->tick();
            pool->trim(1_MiB);
          } catch (const MemoryRefused& refused) {
            EXPECT_EQ(refused.status().code(), Code::memory_refused);
          }
        },
        [&] { EXPECT_EQ(upstream->live(), 0_B); }, failing);
    EXPECT_GE(failures, 4U);
  }
}

TEST(PoolFailures, EveryAllocationOfItsOwnMayFail) {
  walk_allocations([] { return std::make_shared<WatchedRanges>(Device::host(), true); });
}

TEST(PoolFailures, EveryAllocationOfItsOwnMayFailInSegments) {
  walk_allocations([] { return std::make_shared<WatchedResource>(); });
}

TEST(PoolFailures, GivingBackAllocatesNothing) {
  const auto device = SimulatedDevice::create({.stream_ordered = true});
  const auto pool = Pool::create(device, {.max_retained = 3_MiB});
  Buffer small = pool->acquire(100_B).value();
  Buffer first = pool->acquire(2_MiB).value();
  Buffer second = pool->acquire(2_MiB).value();
  Buffer third = pool->acquire(4_MiB).value();
  {
    const FailingNew failure{0, FailingNew::Failing::from_there_on};
    small.set_stream(Stream{98});
    small.reset();
    first.set_stream(Stream{99});
    first.reset();   // on a stream that the pool has not seen
    second.reset();  // pushes the first one out
    third.reset();   // larger than what may be retained
    pool->tick();
    pool->trim(1_MiB);
    pool->release_unused();
    EXPECT_FALSE(FailingNew::has_failed());
  }
  EXPECT_EQ(pool->stats().reserved, 0_B);
  pool->validate();
}

}  // namespace
}  // namespace forebay
