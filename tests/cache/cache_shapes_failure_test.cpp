// Every allocation below the special shapes is made to fail in turn.

#include <gtest/gtest.h>

#include <memory>
#include <new>
#include <optional>
#include <string>
#include <vector>

#include "forebay/cache_shapes.hpp"
#include "forebay/cache_streams.hpp"
#include "support/failing_new.hpp"
#include "support/watched_resource.hpp"

namespace forebay {
namespace {

using namespace forebay::literals;
using testing::FailingNew;
using testing::walk_allocation_failures;
using testing::WatchedResource;

// Makes something, with each allocation failing in turn; nothing is left of what was begun.
template <typename Make>
void walk_construction(Budget& budget, Make make) {
  int made = 0;
  EXPECT_GT(walk_allocation_failures(
                [&] {
                  try {
                    make();
                    ++made;
                  } catch (const std::bad_alloc&) {
                  } catch (const Failure&) {
                  }
                },
                [&] { EXPECT_EQ(budget.stats().used, 0_B); }),
            0U);
  EXPECT_GE(made, 1);  // some of what fails can be done without
}

TEST(ShapesFailure, OfAnAllocationWhileTheyAreMade) {
  Budget budget{"line", {.limit = 16_MiB}};
  walk_construction(budget, [&] {
    StreamRingOptions options;
    options.budget = &budget;
    const StreamRing<std::string> ring{options};
  });
  walk_construction(budget, [&] {
    TelemetryBufferOptions options;
    options.budget = &budget;
    const TelemetryBuffer<std::string> buffer{options};
  });
  walk_construction(budget, [&] {
    CacheOptions options;
    options.max_bytes = 64_KiB;
    options.budget = &budget;
    const PairCache<int, int> pairs{options};
  });
  walk_construction(budget, [&] {
    TensorCacheOptions options;
    options.host.max_bytes = 64_KiB;
    options.host.budget = &budget;
    options.device_budget = &budget;
    const TensorCache<int, Buffer> tensors{options};
  });
}

// From an empty ring over the growth of its index.
TEST(ShapesFailure, OfAnAllocationInAnAppend) {
  auto memory = std::make_shared<WatchedResource>();
  Budget budget{"line", {.limit = 1_MiB}};
  bool done = false;
  for (std::size_t n = 0; !done; ++n) {
    ASSERT_LT(n, 1000U);
    StreamRingOptions options;
    options.max_bytes = 64_KiB;
    options.memory = memory;
    options.budget = &budget;
    StreamRing<std::string> ring{options, [](const std::string& s) { return Bytes{s.size()}; }};
    std::uint64_t appended = 0;
    {
      const FailingNew failure{n};
      for (int i = 0; i != 100; ++i) appended += ring.append("short").ok() ? 1U : 0U;
      done = !FailingNew::has_failed();
    }
    EXPECT_GE(appended, 99U);
    EXPECT_EQ(ring.next_sequence(), appended);
    EXPECT_EQ(ring.stats().refused, 100 - appended);
    EXPECT_EQ(budget.stats().used, ring.stats().used);
    ring.validate();
  }
  EXPECT_EQ(budget.stats().used, 0_B);
  EXPECT_EQ(memory->live(), 0_B);
}

TEST(ShapesFailure, OfABlockInAnAppend) {
  auto memory = std::make_shared<WatchedResource>();
  StreamRingOptions options;
  options.memory = memory;
  StreamRing<std::string> ring{options};
  ASSERT_TRUE(ring.append("one"));
  const Bytes used = ring.stats().used;
  memory->failing.fail_after(0);
  EXPECT_EQ(ring.append("two").status().code(), Code::memory_refused);
  EXPECT_EQ(ring.stats().used, used);
  memory->failing.never_fail();
  EXPECT_EQ(*ring.append("two"), 1U);
  ring.validate();
}

// The ring aborts at its end if a reader has not let go of its place.
TEST(ShapesFailure, OfAnAllocationInARead) {
  StreamRing<std::string> ring;
  for (int i = 0; i != 10; ++i) ASSERT_TRUE(ring.append(std::string(100, 'x')));
  EXPECT_GT(walk_allocation_failures(
                [&] {
                  try {
                    EXPECT_EQ(ring.latest(10).values.size(), 10U);
                  } catch (const std::bad_alloc&) {
                  }
                },
                [&] { ring.validate(); }),
            0U);
}

TEST(ShapesFailure, OfAnAllocationInAPairsLife) {
  auto memory = std::make_shared<WatchedResource>();
  bool done = false;
  for (std::size_t n = 0; !done; ++n) {
    ASSERT_LT(n, 1000U);
    CacheOptions options;
    options.max_bytes = 64_KiB;
    options.shards = 1;
    options.memory = memory;
    PairCache<std::string, std::string> pairs{options};
    const std::string a(40, 'a');
    const std::string b(40, 'b');
    ASSERT_TRUE(pairs.put(a, a, "kept"));
    bool put = false;
    bool erased = false;
    bool loaded = false;
    {
      const FailingNew failure{n};
      try {
        put = pairs.put(a, b, std::string(40, 'v')).ok();
      } catch (const std::bad_alloc&) {
      }
      try {
        erased = pairs.erase_all_of(a) != 0;
      } catch (const std::bad_alloc&) {
      }
      try {
        const auto load = [](const auto&, const auto&) { return std::string{"x"}; };
        loaded = pairs.get_or_compute(b, b, load).ok();
      } catch (const std::bad_alloc&) {
      }
      done = !FailingNew::has_failed();
    }
    EXPECT_GE(put + erased + loaded, done ? 3 : 2);
    pairs.validate();
    // Nothing that is in has been lost to its lists.
    static_cast<void>(pairs.erase_all_of(a));
    static_cast<void>(pairs.erase_all_of(b));
    EXPECT_EQ(pairs.stats().entries, 0U);
    pairs.validate();
  }
  EXPECT_EQ(memory->live(), 0_B);
}

TEST(ShapesFailure, OfAnAllocationInATensorsPut) {
  auto pool = Pool::create(SimulatedDevice::create());
  Budget gpu{"gpu", {.limit = 1_MiB}};
  bool done = false;
  for (std::size_t n = 0; !done; ++n) {
    ASSERT_LT(n, 1000U);
    TensorCacheOptions options;
    options.host.max_bytes = 64_KiB;
    options.max_device_bytes = 128_KiB;
    options.device_budget = &gpu;
    options.resource = pool;
    TensorCache<int, Buffer> cache{options};
    std::vector<Buffer> buffers;
    for (int i = 0; i != 3; ++i) buffers.push_back(pool->acquire(64_KiB).value());
    {
      const FailingNew failure{n};
      try {
        for (int i = 0; i != 3; ++i) {
          static_cast<void>(cache.put(i, std::move(buffers[static_cast<std::size_t>(i)])));
        }
        static_cast<void>(cache.get_or_compute(4, [](int) {
          return Result<Buffer>{Status{Code::io_error, "none"}};
        }));
      } catch (const std::bad_alloc&) {
      }
      done = !FailingNew::has_failed();
    }
    buffers.clear();
    cache.validate();
    EXPECT_EQ(cache.stats().device_used, pool->stats().live);
    EXPECT_EQ(gpu.stats().used, pool->stats().live);
    EXPECT_TRUE(cache.put(5, pool->acquire(64_KiB).value(), {.utility = 9}));
  }
  EXPECT_EQ(gpu.stats().used, 0_B);
  EXPECT_EQ(pool->stats().live, 0_B);
}

// A push takes no memory at all.
TEST(ShapesFailure, APushNeedsNoMemory) {
  TelemetryBuffer<std::string> buffer{{.max_records = 8}};
  const FailingNew failure{0, FailingNew::Failing::from_there_on};
  for (int i = 0; i != 20; ++i) EXPECT_TRUE(buffer.push("short"));
  EXPECT_FALSE(FailingNew::has_failed());
}

}  // namespace
}  // namespace forebay
