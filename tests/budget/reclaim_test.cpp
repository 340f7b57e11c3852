#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <latch>
#include <thread>

#include "budget/store.hpp"

namespace forebay {
namespace {

using namespace forebay::literals;
using testing::Store;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(Reclaim, MakesRoomForExactlyWhatIsMissing) {
  Budget budget{"b", {.limit = 100_B}};
  Store store{budget};
  store.put(budget.reserve(80_B).value());
  auto held = budget.reserve(50_B).value();
  EXPECT_THAT(store.goals, ElementsAre(30_B));
  EXPECT_EQ(budget.stats().used, 100_B);
  EXPECT_EQ(budget.stats().denials, 0U);
}

TEST(Reclaim, IsNotAskedWhileThereIsRoomAndNeverByTry) {
  Budget budget{"b", {.limit = 100_B}};
  Store store{budget};
  store.put(budget.reserve(80_B).value());
  EXPECT_TRUE(budget.reserve(20_B).ok());
  EXPECT_FALSE(budget.try_reserve(21_B).ok());
  EXPECT_THAT(store.goals, IsEmpty());
}

TEST(Reclaim, ARefusalSaysWhatWasFreedAndWhatCouldBe) {
  Budget budget{"b", {.limit = 100_B}};
  Budget user = budget.child("user").value();
  Store store{budget};
  store.put(budget.reserve(30_B).value());
  store.at_most = 10_B;
  store.on_reclaim = [&](Bytes) {
    if (!store.goals.empty()) store.at_most = 0_B;
  };
  auto held = user.reserve(70_B).value();
  const auto refused = user.reserve(25_B);
  ASSERT_FALSE(refused.ok());
  const Refusal& account = *refused.status().refusal();
  EXPECT_EQ(account.reclaimed, 10_B);
  EXPECT_EQ(account.used, 90_B);
  ASSERT_EQ(account.holders.size(), 2U);
  EXPECT_EQ(account.holders[1].used, 20_B);
  EXPECT_EQ(account.holders[1].reclaimable, 20_B);
  EXPECT_THAT(store.goals, ElementsAre(25_B, 15_B)) << "a round that frees nothing ends it";
}

TEST(Reclaim, AsksByStageThenByPriority) {
  Budget root{"root", {.limit = 100_B}};
  Budget child = root.child("child").value();
  Store cached_high{root, {.name = "high", .priority = 2}};
  Store cached_low{child, {.name = "low", .priority = 1}};
  Store idle{child, {.stage = ReclaimStage::idle, .priority = 9}};
  Store expired{root, {.stage = ReclaimStage::expired, .priority = 5}};
  std::vector<std::string> order;
  cached_high.on_reclaim = [&](Bytes) { order.emplace_back("high"); };
  cached_low.on_reclaim = [&](Bytes) { order.emplace_back("low"); };
  idle.on_reclaim = [&](Bytes) { order.emplace_back("idle"); };
  expired.on_reclaim = [&](Bytes) { order.emplace_back("expired"); };
  idle.put(child.reserve(10_B).value());
  expired.put(root.reserve(10_B).value());
  cached_low.put(child.reserve(10_B).value());
  cached_high.put(root.reserve(70_B).value());
  auto held = root.reserve(45_B).value();
  EXPECT_THAT(order, ElementsAre("idle", "expired", "low", "high"));
  EXPECT_THAT(cached_high.goals, ElementsAre(15_B));
}

TEST(Reclaim, EqualPrioritiesShareInProportion) {
  Budget root{"root", {.limit = 400_B}};
  Store a{root};
  Store b{root};
  a.put(root.reserve(300_B).value());
  b.put(root.reserve(100_B).value());
  auto held = root.reserve(40_B).value();
  EXPECT_EQ(a.bytes() + b.bytes(), 360_B);
  EXPECT_NEAR(static_cast<double>(a.bytes().count()), 270, 1);
}

TEST(Reclaim, EqualsThatOverestimatedAreAskedAgainBeforeHigherOnes) {
  Budget root{"root", {.limit = 100_B}};
  Store a{root};
  Store b{root};
  Store dear{root, {.priority = 1}};
  a.put(root.reserve(10_B).value());
  b.put(root.reserve(50_B).value());
  dear.put(root.reserve(40_B).value());
  a.estimates = 1000_B;
  auto held = root.reserve(60_B).value();
  EXPECT_EQ(dear.bytes(), 40_B);
  EXPECT_EQ(a.bytes() + b.bytes(), 0_B);
}

TEST(Reclaim, ClaimsAreNotBelieved) {
  Budget budget{"b", {.limit = 100_B}};
  Store liar{budget};
  liar.put(budget.reserve(100_B).value());
  liar.at_most = 0_B;
  liar.claims = 100_B;
  const auto refused = budget.reserve(1_B);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.status().refusal()->reclaimed, 0_B);
  EXPECT_EQ(liar.goals.size(), 1U);
}

TEST(Reclaim, SlowGiversAreAskedUntilItFits) {
  Budget budget{"b", {.limit = 100_B}};
  Store store{budget};
  store.put(budget.reserve(100_B).value());
  store.at_most = 5_B;
  EXPECT_TRUE(budget.reserve(20_B).ok());
  EXPECT_THAT(store.goals, ElementsAre(20_B, 15_B, 10_B, 5_B));
}

TEST(Reclaim, OnlyTheSubtreeOfTheFullNodeIsAsked) {
  Budget root{"root", {.limit = 100_B}};
  Budget a = root.child("a", {.limit = 50_B}).value();
  Budget b = root.child("b").value();
  Store in_a{a};
  Store in_b{b};
  in_a.put(a.reserve(50_B).value());
  in_b.put(b.reserve(10_B).value());
  EXPECT_TRUE(a.reserve(20_B).ok());
  EXPECT_THAT(in_b.goals, IsEmpty());
}

TEST(Reclaim, BytesInsideAnothersGuaranteeStay) {
  Budget root{"root", {.limit = 100_B}};
  Budget kept = root.child("kept", {.guarantee = 60_B}).value();
  Store store{kept};
  store.put(kept.reserve(80_B).value());
  EXPECT_TRUE(root.reserve(40_B).ok());
  EXPECT_EQ(store.bytes(), 60_B);
  auto held = root.reserve(40_B).value();
  EXPECT_FALSE(root.reserve(1_B).ok());
  EXPECT_EQ(store.bytes(), 60_B);
}

TEST(Reclaim, TheRequestersOwnGuaranteeMayBeReclaimedForItself) {
  Budget root{"root", {.limit = 100_B}};
  Budget kept = root.child("kept", {.guarantee = 60_B}).value();
  Store store{kept};
  store.put(kept.reserve(60_B).value());
  auto others = root.reserve(40_B).value();
  EXPECT_TRUE(kept.reserve(25_B).ok());
  EXPECT_EQ(store.bytes(), 35_B);
}

TEST(Reclaim, WorksForGuaranteesGrowthAndTransfers) {
  Budget root{"root", {.limit = 100_B}};
  Budget user = root.child("user").value();
  Store store{root};
  store.put(root.reserve(100_B).value());
  Budget kept = root.child("kept", {.guarantee = 20_B}).value();
  EXPECT_EQ(store.bytes(), 80_B);
  ASSERT_TRUE(kept.set_guarantee(30_B).ok());
  EXPECT_EQ(store.bytes(), 70_B);
  auto held = kept.reserve(10_B).value();
  ASSERT_TRUE(held.resize(40_B).ok());
  EXPECT_EQ(store.bytes(), 60_B);
  ASSERT_TRUE(held.transfer(user).ok());
  EXPECT_EQ(store.bytes(), 30_B) << "the guarantee stays charged";
  root.validate();
}

TEST(Reclaim, ANodeIsNotEmptiedForItsOwnGuarantee) {
  Budget root{"root", {.limit = 100_B}};
  Budget kept = root.child("kept").value();
  Store store{kept};
  store.put(kept.reserve(40_B).value());
  auto others = root.reserve(50_B).value();
  EXPECT_FALSE(kept.set_guarantee(60_B).ok());
  EXPECT_THAT(store.goals, IsEmpty());
}

TEST(Reclaim, AMinimumIsReclaimedForButNotMore) {
  Budget budget{"b", {.limit = 100_B}};
  Store store{budget};
  store.put(budget.reserve(90_B).value());
  EXPECT_EQ(budget.reserve(50_B, {.minimum = 10_B}).value().bytes(), 10_B);
  EXPECT_EQ(budget.reserve(50_B, {.minimum = 20_B}).value().bytes(), 20_B);
  EXPECT_EQ(store.bytes(), 80_B);
}

TEST(Reclaim, AReclaimerMayNotReserve) {
  Budget budget{"b", {.limit = 100_B}};
  Store store{budget};
  store.put(budget.reserve(100_B).value());
  std::vector<Code> codes;
  auto other = Reservation{};
  store.on_reclaim = [&](Bytes) {
    codes = {budget.reserve(1_B).status().code(), budget.try_reserve(1_B).status().code(),
             budget.child("c").status().code(), budget.set_guarantee(1_B).code()};
    EXPECT_TRUE(budget.reserve(0_B).ok());
  };
  EXPECT_TRUE(budget.reserve(10_B).ok());
  EXPECT_THAT(codes, ::testing::Each(Code::failed_precondition));
}

TEST(Reclaim, AReclaimerOfALargeBudgetMayNotReserveFromItsLease) {
  Budget budget{"b", {.limit = 1_GiB}};
  budget.reserve(100_KiB).value().release();
  Store store{budget};
  store.put(budget.reserve(1_GiB - 1_MiB).value());
  auto rest = budget.reserve(512_KiB).value();
  rest.commit(256_KiB);
  Code code = Code::ok;
  store.on_reclaim = [&](Bytes) { code = budget.reserve(1_KiB).status().code(); };
  EXPECT_TRUE(budget.reserve(10_MiB).ok());
  EXPECT_EQ(code, Code::failed_precondition);
}

TEST(Reclaim, UnregisteringEndsIt) {
  Budget budget{"b", {.limit = 100_B}};
  Store store{budget};
  store.put(budget.reserve(100_B).value());
  store.unregister();
  EXPECT_FALSE(budget.reserve(1_B).ok());
  EXPECT_THAT(store.goals, IsEmpty());
}

TEST(Reclaim, AReclaimerMayUnregisterItselfWhileAsked) {
  Budget budget{"b", {.limit = 100_B}};
  Store store{budget};
  store.put(budget.reserve(100_B).value());
  store.on_reclaim = [&](Bytes) { store.unregister(); };
  EXPECT_TRUE(budget.reserve(40_B).ok());
  EXPECT_FALSE(budget.reserve(50_B).ok());
}

TEST(Reclaim, ARegistrationMayOutliveItsBudget) {
  auto budget = std::make_unique<Budget>("b", BudgetOptions{.limit = 100_B});
  Store store{*budget};
  budget.reset();
  store.unregister();
}

TEST(Reclaim, UnregisteringWaitsForACallOnAnotherThread) {
  Budget budget{"b", {.limit = 100_B}};
  auto store = std::make_unique<Store>(budget);
  store->put(budget.reserve(100_B).value());
  std::latch inside{1};
  std::atomic<bool> left{false};
  std::atomic<bool> unregistering{false};
  store->on_reclaim = [&](Bytes) {
    inside.count_down();
    while (!unregistering) std::this_thread::yield();
    for (int i = 0; i < 1000; ++i) std::this_thread::yield();
    left = true;
  };
  std::thread asker{[&] { EXPECT_TRUE(budget.reserve(10_B).ok()); }};
  inside.wait();
  unregistering = true;
  store->unregister();
  EXPECT_TRUE(left);
  asker.join();
}

TEST(Reclaim, ABusyReclaimerIsWaitedForNotCalledTwiceAtOnce) {
  Budget budget{"b", {.limit = 100_B}};
  Store store{budget};
  store.put(budget.reserve(100_B).value());
  std::atomic<int> inside{0};
  std::atomic<int> most{0};
  store.on_reclaim = [&](Bytes) {
    most = std::max(most.load(), ++inside);
    for (int i = 0; i < 100; ++i) std::this_thread::yield();
    --inside;
  };
  std::vector<std::thread> threads;
  std::vector<Reservation> held(4);
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] {
      held[static_cast<std::size_t>(i)] = budget.reserve(25_B).value();
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(most, 1);
  EXPECT_EQ(store.bytes(), 0_B);
}

TEST(Reclaim, PressureThatAReclaimerRelievesIsToldAfterIt) {
  Budget root{"root", {.limit = 100_B}};
  Budget side = root.child("side", {.limit = 50_B}).value();
  Store store{side};
  store.put(side.reserve(50_B).value());
  std::vector<Pressure> told;
  bool in_reclaim = false;
  side.set_pressure_listener([&](const BudgetStats& stats) {
    EXPECT_FALSE(in_reclaim);
    told.push_back(stats.pressure);
  });
  store.on_reclaim = [&](Bytes) { in_reclaim = true; };
  auto held = root.reserve(50_B).value();
  store.on_reclaim = nullptr;
  in_reclaim = false;
  EXPECT_TRUE(root.reserve(30_B).ok());
  EXPECT_THAT(told, ElementsAre(Pressure::normal));
}

}  // namespace
}  // namespace forebay
