// Every allocation, block and reservation below a cache is made to fail in turn: nothing is lost,
// nothing changes but for what was evicted, and the next try succeeds.

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <stdexcept>
#include <string>

#include "forebay/cache.hpp"
#include "support/failing_new.hpp"
#include "support/watched_resource.hpp"

namespace forebay {
namespace {

using namespace forebay::literals;
using testing::FailingNew;
using testing::walk_allocation_failures;
using testing::WatchedResource;

using Texts = Cache<EpochKey<int>, std::string>;

class CacheFailure : public ::testing::TestWithParam<const char*> {
 protected:
  CacheOptions options() {
    CacheOptions made;
    made.max_bytes = 64_KiB;
    made.policy = GetParam();
    made.shards = 1;
    made.memory = memory_;
    made.clock = &clock_;
    return made;
  }
  std::shared_ptr<WatchedResource> memory_ = std::make_shared<WatchedResource>();
  ManualClock clock_;
};

TEST_P(CacheFailure, OfAnAllocationWhileACacheIsMade) {
  int made = 0;
  EXPECT_GT(walk_allocation_failures(
                [&] {
                  try {
                    const Texts cache{options()};
                    ++made;
                  } catch (const std::bad_alloc&) {
                  } catch (const Failure&) {
                  }
                },
                [&] { EXPECT_EQ(memory_->live(), 0_B); }),
            0U);
  EXPECT_EQ(made, 1);
}

// A new cache for each failure, so that tables, wheels and lists of epochs are new too.
TEST_P(CacheFailure, OfAnAllocationInAPut) {
  const EntryOptions lives{.ttl = std::chrono::seconds{1}};
  for (const bool pinned : {false, true}) {
    bool done = false;
    for (std::size_t n = 0; !done; ++n) {
      ASSERT_LT(n, 500U);
      Texts cache{options()};
      ASSERT_TRUE(cache.put({1, 1}, "one"));
      auto held = cache.find({1, 1});
      if (!pinned) held.reset();
      const Bytes used = cache.stats().used;
      std::string first(100, 'n');
      std::string second(100, 'r');
      bool added = false;
      bool replaced = false;
      {
        const FailingNew failure{n};
        added = cache.put({2, 2}, std::move(first), lives).ok();
        replaced = cache.put({1, 1}, std::move(second), lives).ok();
        done = !FailingNew::has_failed();
      }
      EXPECT_TRUE(added || replaced);
      EXPECT_EQ(bool{cache.find({2, 2})}, added);
      EXPECT_EQ(cache.find({1, 1})->size(), replaced ? 100U : 3U);
      if (pinned) {
        EXPECT_EQ(*held, "one");
      }
      held.reset();
      EXPECT_EQ(cache.stats().used, used * (added ? 2 : 1));
      cache.validate();
      EXPECT_TRUE(cache.put({3, 3}, "three", lives));
    }
  }
  EXPECT_EQ(memory_->live(), 0_B);
}

TEST_P(CacheFailure, OfAnAllocationInALoad) {
  bool done = false;
  for (std::size_t n = 0; !done; ++n) {
    ASSERT_LT(n, 500U);
    Texts cache{options()};
    bool loaded = false;
    {
      const FailingNew failure{n};
      try {
        loaded = cache.get_or_compute({1, 1}, [](const auto&) { return std::string{"x"}; }).ok();
      } catch (const std::bad_alloc&) {
      }
      done = !FailingNew::has_failed();
    }
    cache.validate();
    EXPECT_EQ(**cache.get_or_compute({1, 1}, [](const auto&) { return std::string{"x"}; }), "x");
    EXPECT_TRUE(loaded || !done);
  }
  EXPECT_EQ(memory_->live(), 0_B);
}

TEST_P(CacheFailure, OfAnAllocationInASnapshot) {
  Texts cache{options()};
  for (int i = 0; i != 100; ++i) ASSERT_TRUE(cache.put({0, i}, "x"));
  EXPECT_GT(walk_allocation_failures(
                [&] {
                  try {
                    EXPECT_EQ(cache.snapshot().size(), 100U);
                  } catch (const std::bad_alloc&) {
                  }
                },
                [&] { cache.validate(); }),
            0U);
  cache.clear();
  EXPECT_EQ(cache.stats().used, 0_B);
}

TEST_P(CacheFailure, OfABlock) {
  Texts cache{options()};
  ASSERT_TRUE(cache.put({1, 1}, "one"));
  const Bytes used = cache.stats().used;
  memory_->failing.fail_after(0);
  const auto refused = cache.put({1, 1}, "two");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.status().code(), Code::memory_refused);
  EXPECT_EQ(*cache.find({1, 1}), "one");
  EXPECT_EQ(cache.stats().used, used);
  EXPECT_EQ(cache.stats().refused, 1U);
  // A value that was made is not lost for want of a place.
  EXPECT_EQ(**cache.get_or_compute({2, 2}, [](const auto&) { return std::string{"x"}; }), "x");
  EXPECT_FALSE(cache.find({2, 2}));
  memory_->failing.never_fail();
  EXPECT_TRUE(cache.put({1, 1}, "two"));
}

INSTANTIATE_TEST_SUITE_P(Policies, CacheFailure,
                         ::testing::Values("lru", "wtinylfu", "gdsf", "auto"),
                         [](const auto& policy) { return std::string{policy.param}; });

struct Throwing {
  explicit Throwing(int n) : number(n) {}
  Throwing(Throwing&& other) : number(other.number) {  // NOLINT: it is to throw
    if (number < 0) throw std::runtime_error{"will not move"};
  }
  int number;
};

TEST(CacheFailureOfUsers, AValueThatThrowsLeavesNothingBehind) {
  auto memory = std::make_shared<WatchedResource>();
  CacheOptions options;
  options.memory = memory;
  Cache<int, std::unique_ptr<Throwing>> pointers{options};
  Cache<int, std::optional<Throwing>> cache{options};
  std::optional<Throwing> bad;
  bad.emplace(-1);
  EXPECT_THROW(static_cast<void>(cache.put(1, std::move(bad))), std::runtime_error);
  EXPECT_EQ(cache.stats().used, 0_B);
  EXPECT_EQ(memory->live(), 0_B);
  EXPECT_TRUE(cache.put(1, std::optional<Throwing>{}));
}

}  // namespace
}  // namespace forebay
