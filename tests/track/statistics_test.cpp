#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <stdexcept>
#include <thread>

#include "conformance/fork.hpp"
#include "forebay/tracker.hpp"
#include "support/failing_new.hpp"

namespace forebay {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

StatisticsRegistration::Collect counter(std::string name, double value) {
  return [name = std::move(name), value](std::vector<Statistic>& statistics) {
    statistics.push_back({name, value});
  };
}

// Those that the tests register; there may be others.
std::vector<std::string> test_groups() {
  std::vector<std::string> names;
  for (const StatisticsGroup& group : collect_statistics()) {
    if (group.kind == "test") names.push_back(group.name);
  }
  return names;
}

TEST(Statistics, AreCollectedFromEachSourceInTheOrderOfRegistration) {
  const StatisticsRegistration a{"test", "a", counter("used_bytes", 4096)};
  const StatisticsRegistration b{"test", "b", counter("hits_total", 2)};
  const auto groups = collect_statistics();
  ASSERT_GE(groups.size(), 2U);
  EXPECT_THAT(test_groups(), ElementsAre("a", "b"));
  const StatisticsGroup& last = groups.back();
  EXPECT_EQ(last.kind, "test");
  ASSERT_EQ(last.statistics.size(), 1U);
  EXPECT_EQ(last.statistics[0].name, "hits_total");
  EXPECT_EQ(last.statistics[0].value, 2);
}

TEST(Statistics, EndWithTheirRegistration) {
  StatisticsRegistration kept;
  {
    StatisticsRegistration a{"test", "a", counter("x", 1)};
    const StatisticsRegistration b{"test", "b", counter("x", 1)};
    kept = std::move(a);
  }
  EXPECT_THAT(test_groups(), ElementsAre("a"));
  kept = StatisticsRegistration{"test", "c", counter("x", 1)};
  EXPECT_THAT(test_groups(), ElementsAre("c"));
  const StatisticsRegistration d{"test", "d", counter("x", 1)};
  kept = StatisticsRegistration{};
  EXPECT_THAT(test_groups(), ElementsAre("d"));
}

TEST(Statistics, OfASourceThatSaysNothingAreAnEmptyGroup) {
  const StatisticsRegistration a{"test", "quiet", {}};
  EXPECT_THAT(test_groups(), ElementsAre("quiet"));
}

// The end of a registration waits for a call under way: what the source reads is still there.
TEST(Statistics, AreNotAskedForAfterTheEndOfARegistration) {
  std::atomic<bool> done{false};
  std::atomic<std::uint64_t> dead_calls{0};
  std::thread collector{[&] {
    while (!done.load()) static_cast<void>(collect_statistics());
  }};
  for (int i = 0; i < 500; ++i) {
    auto alive = std::make_unique<std::atomic<bool>>(true);
    const StatisticsRegistration source{"test", "source", [&](std::vector<Statistic>& into) {
                                          if (!alive->load()) dead_calls.fetch_add(1);
                                          into.push_back({"x", 1});
                                        }};
    std::this_thread::yield();
  }
  done = true;
  collector.join();
  EXPECT_EQ(dead_calls.load(), 0U);
  EXPECT_THAT(test_groups(), IsEmpty());
}

TEST(Statistics, ASourceThatThrowsLeavesTheListUsable) {
  {
    const StatisticsRegistration bad{
        "test", "bad", [](std::vector<Statistic>&) { throw std::runtime_error{"no"}; }};
    EXPECT_THROW(static_cast<void>(collect_statistics()), std::runtime_error);
  }
  const StatisticsRegistration good{"test", "good", counter("x", 1)};
  EXPECT_THAT(test_groups(), ElementsAre("good"));
}

TEST(Statistics, ARegistrationWithoutMemoryRegistersNothing) {
  const auto failures = forebay::testing::walk_allocation_failures(
      [] {
        try {
          const StatisticsRegistration a{"test", "a name too long to be kept in the string itself",
                                         counter("used_bytes", 1)};
        } catch (const std::bad_alloc&) {
        }
      },
      [] { EXPECT_THAT(test_groups(), IsEmpty()); });
  EXPECT_GT(failures, 0U);
}

TEST(Statistics, AreCollectedInTheChildOfAFork) {
  const StatisticsRegistration a{"test", "a", counter("x", 1)};
  conformance::in_child([] {
    const StatisticsRegistration b{"test", "b", counter("x", 1)};
    EXPECT_THAT(test_groups(), ElementsAre("a", "b"));
  });
}

#if !defined(__SANITIZE_THREAD__)  // forks of several threads are beyond it
TEST(Statistics, AForkDuringACollectionLeavesTheChildUnblocked) {
  std::atomic<int> stage{0};
  const StatisticsRegistration slow{"test", "slow", [&](std::vector<Statistic>&) {
                                      if (stage.load() != 0) return;
                                      stage = 1;
                                      while (stage.load() != 2) std::this_thread::yield();
                                    }};
  std::thread collector{[] { static_cast<void>(collect_statistics()); }};
  while (stage.load() != 1) std::this_thread::yield();
  conformance::in_child([] { EXPECT_THAT(test_groups(), ElementsAre("slow")); });
  stage = 2;
  collector.join();
}
#endif

}  // namespace
}  // namespace forebay
