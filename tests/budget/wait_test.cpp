#include <gtest/gtest.h>

#include <atomic>
#include <set>
#include <thread>

#include "budget/store.hpp"

namespace forebay {
namespace {

using namespace forebay::literals;
using namespace std::chrono_literals;

// Lets other threads run until `condition` holds.
template <typename Condition>
void wait_until(Condition condition) {
  while (!condition()) std::this_thread::yield();
}

// A thread that reserves, and what it got.
class Asker {
 public:
  Asker(Budget& budget, Bytes bytes, ReserveOptions options, std::atomic<int>& turn)
      : thread_([this, &budget, bytes, options, &turn] {
          auto granted = budget.reserve(bytes, options);
          place = ++turn;
          status = granted.status();
          if (granted) held = std::move(*granted);
          done = true;
        }) {}
  ~Asker() { join(); }
  void join() {
    if (thread_.joinable()) thread_.join();
  }

  Reservation held;
  Status status;
  int place = 0;
  std::atomic<bool> done{false};

 private:
  std::thread thread_;
};

// A clock that tells how often, and on how many things, threads have begun to wait.
class CountingClock final : public Clock {
 public:
  TimePoint now() const noexcept override { return clock_.now(); }
  void wait_until(std::condition_variable& changed, std::unique_lock<std::mutex>& lock,
                  TimePoint deadline) override {
    ++waits;
    waited_on_.insert(&changed);  // the budget's lock is held
    waiters = static_cast<int>(waited_on_.size());
    clock_.wait_until(changed, lock, deadline);
  }
  void advance(Duration by) { clock_.advance(by); }
  std::atomic<int> waits{0};
  std::atomic<int> waiters{0};

 private:
  std::set<std::condition_variable*> waited_on_;
  ManualClock clock_;
};

TEST(Wait, IsGrantedWhenOthersGiveBack) {
  CountingClock clock;
  std::atomic<int> turn{0};
  Budget budget{"b", {.limit = 100_B}, clock};
  auto held = budget.reserve(80_B).value();
  Asker asker{budget, 50_B, {.timeout = 1h}, turn};
  wait_until([&] { return clock.waits > 0; });
  EXPECT_FALSE(asker.done);
  held.release();
  asker.join();
  EXPECT_TRUE(asker.status.ok());
  EXPECT_EQ(asker.held.bytes(), 50_B);
}

TEST(Wait, EndsInARefusalAtTheDeadlineOfTheInjectedClock) {
  CountingClock clock;
  std::atomic<int> turn{0};
  Budget budget{"b", {.limit = 100_B}, clock};
  auto held = budget.reserve(80_B).value();
  Asker asker{budget, 50_B, {.timeout = 1h}, turn};
  wait_until([&] { return clock.waits > 0; });
  clock.advance(59min);
  EXPECT_FALSE(asker.done);
  clock.advance(1min);
  asker.join();
  EXPECT_EQ(asker.status.code(), Code::memory_refused);
  EXPECT_EQ(budget.stats().denials, 1U);
  EXPECT_TRUE(budget.reserve(20_B).ok()) << "no trace of the waiter is left";
  budget.validate();
}

TEST(Wait, IsInOrderOfArrivalAndLaterOnesDoNotPass) {
  CountingClock clock;
  std::atomic<int> turn{0};
  Budget budget{"b", {.limit = 100_B}, clock};
  auto held = budget.reserve(90_B).value();
  Asker large{budget, 60_B, {.timeout = 1h}, turn};
  wait_until([&] { return clock.waits > 0; });
  Asker small{budget, 5_B, {.timeout = 1h}, turn};
  wait_until([&] { return clock.waiters == 2; });
  EXPECT_FALSE(small.done) << "it would fit, but it is not its turn";
  EXPECT_TRUE(budget.try_reserve(5_B).ok()) << "try_reserve may pass: it cannot wait";
  held.release();
  large.join();
  small.join();
  EXPECT_TRUE(large.status.ok());
  EXPECT_TRUE(small.status.ok());
}

TEST(Wait, WhatFitsIsNotRefusedAtTheDeadlineThoughNotItsTurn) {
  CountingClock clock;
  std::atomic<int> turn{0};
  Budget budget{"b", {.limit = 100_B}, clock};
  auto held = budget.reserve(90_B).value();
  Asker large{budget, 60_B, {.timeout = 1h}, turn};
  wait_until([&] { return clock.waits > 0; });
  Asker small{budget, 5_B, {.timeout = 1min}, turn};
  wait_until([&] { return clock.waiters == 2; });
  clock.advance(1min);
  small.join();
  EXPECT_TRUE(small.status.ok());
  clock.advance(1h);
}

TEST(Wait, RequestsWithinAGuaranteePass) {
  CountingClock clock;
  std::atomic<int> turn{0};
  Budget root{"root", {.limit = 100_B}, clock};
  Budget kept = root.child("kept", {.guarantee = 40_B}).value();
  auto held = root.reserve(60_B).value();
  Asker waiting{root, 10_B, {.timeout = 1h}, turn};
  wait_until([&] { return clock.waits > 0; });
  EXPECT_TRUE(kept.reserve(40_B, {.timeout = 1h}).ok());
  held.release();
}

TEST(Wait, EveryReleaseBelowReachesTheWaiter) {
  CountingClock clock;
  std::atomic<int> turn{0};
  Budget root{"root", {.limit = 1_GiB}, clock};
  Budget child = root.child("child").value();
  child.reserve(64_KiB).value().release();
  auto held = child.reserve(1_GiB).value();
  std::vector<Reservation> small;
  for (int i = 0; i < 4; ++i) small.push_back(held.split(1_KiB).value());
  Asker waiting{root, 4_KiB, {.timeout = 1h}, turn};
  wait_until([&] { return clock.waits > 0; });
  for (Reservation& part : small) {
    EXPECT_FALSE(waiting.done);
    part.release();
  }
  waiting.join();
  EXPECT_TRUE(waiting.status.ok());
}

TEST(Wait, AHigherLimitServesTheWaiter) {
  CountingClock clock;
  std::atomic<int> turn{0};
  Budget budget{"b", {.limit = 100_B}, clock};
  auto held = budget.reserve(100_B).value();
  Asker waiting{budget, 10_B, {.timeout = 1h}, turn};
  wait_until([&] { return clock.waits > 0; });
  ASSERT_TRUE(budget.set_limit(110_B).ok());
  waiting.join();
  EXPECT_TRUE(waiting.status.ok());
}

TEST(Wait, TheEndOfAGuaranteeServesTheWaiter) {
  CountingClock clock;
  std::atomic<int> turn{0};
  Budget root{"root", {.limit = 100_B}, clock};
  auto kept = std::make_unique<Budget>(root.child("kept", {.guarantee = 50_B}).value());
  Asker waiting{root, 80_B, {.timeout = 1h}, turn};
  wait_until([&] { return clock.waits > 0; });
  kept.reset();
  waiting.join();
  EXPECT_TRUE(waiting.status.ok());
}

TEST(Wait, MovesToTheNextFullNodeWithoutLosingItsPlace) {
  CountingClock clock;
  std::atomic<int> turn{0};
  Budget root{"root", {.limit = 100_B}, clock};
  Budget child = root.child("child", {.limit = 50_B}).value();
  auto in_child = child.reserve(50_B).value();
  auto in_root = root.reserve(50_B).value();
  Asker waiting{child, 20_B, {.timeout = 1h}, turn};
  wait_until([&] { return clock.waits > 0; });
  auto taken = in_child.split(20_B).value();
  ASSERT_TRUE(taken.transfer(root).ok());
  EXPECT_FALSE(waiting.done) << "the child has room now, the root has none";
  in_root.commit(30_B);
  waiting.join();
  EXPECT_TRUE(waiting.status.ok());
  root.validate();
}

TEST(Wait, GrantsAMinimumWhileItLasts) {
  CountingClock clock;
  std::atomic<int> turn{0};
  Budget budget{"b", {.limit = 100_B}, clock};
  auto held = budget.reserve(100_B).value();
  Asker waiting{budget, 50_B, {.minimum = 10_B, .timeout = 1h}, turn};
  wait_until([&] { return clock.waits > 0; });
  held.commit(85_B);
  waiting.join();
  EXPECT_EQ(waiting.held.bytes(), 15_B);
}

TEST(Wait, ReclaimsBeforeItWaits) {
  CountingClock clock;
  Budget budget{"b", {.limit = 100_B}, clock};
  testing::Store store{budget};
  store.put(budget.reserve(100_B).value());
  EXPECT_TRUE(budget.reserve(10_B, {.timeout = 1h}).ok());
  EXPECT_EQ(clock.waits, 0);
}

TEST(Wait, WhatCanNeverFitIsRefusedAtOnceAndStopsNobody) {
  Budget root{"root", {.limit = 100_B}};
  const auto refused = root.reserve(200_B, {.timeout = 1h});  // the clock stands for no one
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.status().code(), Code::memory_refused);
  EXPECT_TRUE(root.reserve(100_B, {.timeout = 1h}).ok());
}

TEST(Wait, TheLongestTimeoutDoesNotWrap) {
  CountingClock clock;
  clock.advance(1h);
  std::atomic<int> turn{0};
  Budget budget{"b", {.limit = 100_B}, clock};
  auto held = budget.reserve(100_B).value();
  Asker waiting{budget, 10_B, {.timeout = Duration::max()}, turn};
  wait_until([&] { return clock.waits > 2; });
  EXPECT_FALSE(waiting.done);
  held.release();
}

}  // namespace
}  // namespace forebay
