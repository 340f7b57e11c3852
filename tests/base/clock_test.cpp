#include "forebay/clock.hpp"

#include <gtest/gtest.h>

#include <thread>

namespace forebay {
namespace {

using namespace std::chrono_literals;

TEST(ManualClock, StandsStillUntilMoved) {
  ManualClock clock;
  const auto start = clock.now();
  EXPECT_EQ(clock.now(), start);
  clock.advance(48h);
  EXPECT_EQ(clock.now() - start, 48h);
}

TEST(ManualClock, WaitEndsWhenTheDeadlineIsReached) {
  ManualClock clock;
  std::mutex mutex;
  std::condition_variable changed;
  const auto deadline = clock.now() + 1h;
  std::thread mover{[&] { clock.advance(2h); }};
  std::unique_lock lock{mutex};
  while (clock.now() < deadline) clock.wait_until(changed, lock, deadline);
  EXPECT_TRUE(lock.owns_lock());
  mover.join();
  EXPECT_GE(clock.now(), deadline);
}

TEST(SteadyClock, NeverRunsBackwards) {
  auto before = Clock::steady().now();
  for (int i = 0; i < 1000; ++i) {
    const auto after = Clock::steady().now();
    ASSERT_GE(after, before);
    before = after;
  }
}

TEST(SteadyClock, WaitReturnsAtAPastDeadline) {
  std::mutex mutex;
  std::condition_variable changed;
  std::unique_lock lock{mutex};
  Clock::steady().wait_until(changed, lock, Clock::steady().now());
  EXPECT_TRUE(lock.owns_lock());
}

}  // namespace
}  // namespace forebay
