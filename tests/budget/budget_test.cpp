#include "forebay/budget.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <thread>

namespace forebay {
namespace {

using namespace forebay::literals;
using ::testing::HasSubstr;

TEST(Budget, RefusesTheLargestSizeAlsoWhileItShrinks) {
  Budget root{"root"};
  const Reservation held = root.reserve(100_B).value();
  ASSERT_TRUE(root.set_limit(50_B).ok());
  EXPECT_EQ(root.reserve(Bytes::unlimited()).status().code(), Code::memory_refused);
  EXPECT_EQ(root.try_reserve(1_B).status().code(), Code::memory_refused);
  root.validate();
}

TEST(Budget, GrantsUpToItsLimitExactly) {
  Budget budget{"b", {.limit = 100_B}};
  auto first = budget.reserve(60_B).value();
  auto second = budget.reserve(40_B).value();
  EXPECT_EQ(first.bytes(), 60_B);
  EXPECT_EQ(budget.stats().used, 100_B);
  EXPECT_EQ(budget.available(), 0_B);
  EXPECT_EQ(budget.reserve(1_B).status().code(), Code::memory_refused);
  second.release();
  EXPECT_EQ(budget.available(), 40_B);
  EXPECT_TRUE(budget.reserve(40_B).ok());
  budget.validate();
}

TEST(Budget, RefusalChangesNothing) {
  Budget root{"root", {.limit = 100_B}};
  Budget child = root.child("child").value();
  auto held = child.reserve(70_B).value();
  EXPECT_FALSE(child.reserve(31_B).ok());
  EXPECT_EQ(child.stats().used, 70_B);
  EXPECT_EQ(child.stats().charged, 70_B);
  EXPECT_EQ(root.stats().peak, 70_B);
  EXPECT_EQ(root.stats().denials, 1U);
  EXPECT_EQ(child.stats().denials, 0U);
  root.validate();
}

TEST(Budget, RefusalCarriesTheWholeAccount) {
  Budget process{"process", {.limit = 10_GiB}};
  Budget teacher = process.child("teacher").value();
  Budget student = process.child("student").value();
  auto weights = teacher.reserve(7_GiB).value();
  auto optimiser = student.reserve(2_GiB).value();
  const auto refused = student.reserve(3_GiB);
  ASSERT_FALSE(refused.ok());
  const Refusal* account = refused.status().refusal();
  ASSERT_NE(account, nullptr);
  EXPECT_EQ(account->budget, "process");
  EXPECT_EQ(account->asked, 3_GiB);
  EXPECT_EQ(account->used, 9_GiB);
  EXPECT_EQ(account->limit, 10_GiB);
  EXPECT_EQ(account->reclaimed, 0_B);
  ASSERT_EQ(account->holders.size(), 2U);
  EXPECT_EQ(account->holders[0].name, "process/teacher");
  EXPECT_EQ(account->holders[0].used, 7_GiB);
  EXPECT_EQ(account->holders[1].name, "process/student");
  EXPECT_THAT(account->advice,
              ::testing::ElementsAre("reserve at most 1 GiB",
                                     "release or shrink process/teacher, which holds 7 GiB",
                                     "raise the limit of process to at least 12 GiB"));
  EXPECT_THAT(refused.status().message(), HasSubstr("process: asked 3 GiB"));
}

TEST(Budget, AdviceIsEnoughWhenFollowed) {
  Budget root{"root", {.limit = 1'000'003_B}};
  Budget child = root.child("child", {.limit = 900'001_B}).value();
  auto held = child.reserve(500'009_B).value();
  const auto refused = child.reserve(600'011_B);
  ASSERT_FALSE(refused.ok());
  const auto& advice = refused.status().refusal()->advice;
  EXPECT_THAT(advice[0], HasSubstr("reserve at most 399992 B"));
  EXPECT_EQ(advice.back(),
            "raise the limit of root/child to at least 1100020 B and of root to at least "
            "1100020 B");
  ASSERT_TRUE(child.set_limit(1'100'020_B).ok());
  ASSERT_TRUE(root.set_limit(1'100'020_B).ok());
  EXPECT_TRUE(child.reserve(600'011_B).ok());
}

TEST(Budget, AdviceNamesTheLargestIdleGuarantee) {
  Budget root{"root", {.limit = 100_B}};
  Budget kept = root.child("kept", {.guarantee = 60_B}).value();
  auto held = kept.reserve(10_B).value();
  const auto refused = root.reserve(50_B);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.status().refusal()->used, 60_B) << "what counts against the limit";
  EXPECT_THAT(refused.status().refusal()->advice,
              ::testing::Contains("lower the guarantee of root/kept, of which 50 B is unused"));
}

TEST(Budget, ZeroBytesAlwaysSucceeds) {
  Budget budget{"b", {.limit = 0_B}};
  EXPECT_TRUE(budget.reserve(0_B).ok());
  EXPECT_TRUE(budget.try_reserve(0_B).ok());
  EXPECT_FALSE(budget.reserve(1_B).ok());
  EXPECT_EQ(budget.stats().pressure, Pressure::normal);
}

TEST(Budget, MinimumGrantsTheLargestAmountThatFits) {
  Budget budget{"b", {.limit = 100_B}};
  auto held = budget.reserve(30_B).value();
  EXPECT_EQ(budget.reserve(90_B, {.minimum = 10_B}).value().bytes(), 70_B);
  EXPECT_EQ(budget.reserve(50_B, {.minimum = 10_B}).value().bytes(), 50_B);
  EXPECT_FALSE(budget.reserve(90_B, {.minimum = 71_B}).ok());
  EXPECT_EQ(budget.reserve(1_B, {.minimum = 2_B}).status().code(), Code::invalid_argument);
}

TEST(Budget, MinimumOfZeroGrantsNothingRatherThanRefusing) {
  Budget budget{"b", {.limit = 10_B}};
  auto held = budget.reserve(10_B).value();
  auto none = budget.reserve(5_B, {.minimum = 0_B}).value();
  EXPECT_TRUE(none.empty());
  held.release();
  EXPECT_TRUE(none.resize(10_B).ok());
}

TEST(Budget, EveryLevelEnforcesItsLimit) {
  Budget a{"a", {.limit = 100_B}};
  Budget b = a.child("b", {.limit = 50_B}).value();
  Budget c = b.child("c", {.limit = 80_B}).value();
  Budget d = c.child("d").value();
  EXPECT_EQ(d.available(), 50_B);
  auto held = d.reserve(50_B).value();
  const auto refused = d.reserve(1_B);
  EXPECT_EQ(refused.status().refusal()->budget, "a/b");
  EXPECT_TRUE(a.reserve(50_B).ok());
}

TEST(Budget, HugeSizesAreRefusedNotWrapped) {
  Budget limited{"limited", {.limit = 100_B}};
  auto held = limited.reserve(100_B).value();
  EXPECT_FALSE(limited.reserve(Bytes::unlimited()).ok());
  EXPECT_FALSE(limited.try_reserve(Bytes{1ULL << 63}).ok());
  Budget endless{"endless"};
  auto much = endless.reserve(Bytes{1ULL << 63}).value();
  EXPECT_FALSE(endless.reserve(Bytes{1ULL << 63}).ok());
  EXPECT_TRUE(endless.reserve(Bytes{(1ULL << 63) - 1}).ok());
  endless.validate();
}

TEST(Budget, GuaranteeIsPaidWhenMadeAndUseInsideTouchesNoAncestor) {
  Budget root{"root", {.limit = 100_B}};
  Budget kept = root.child("kept", {.guarantee = 40_B}).value();
  EXPECT_EQ(root.stats().charged, 40_B);
  EXPECT_EQ(root.stats().used, 0_B);
  auto others = root.reserve(60_B).value();
  EXPECT_FALSE(root.reserve(1_B).ok());
  auto inside = kept.reserve(40_B).value();
  EXPECT_EQ(root.stats().charged, 100_B);
  EXPECT_EQ(kept.reserve(1_B).status().refusal()->budget, "root");
  inside.release();
  EXPECT_EQ(root.stats().charged, 100_B);
}

TEST(Budget, OnlyTheExcessOverAGuaranteeClimbs) {
  Budget root{"root", {.limit = 100_B}};
  Budget kept = root.child("kept", {.guarantee = 40_B}).value();
  auto more = kept.reserve(55_B).value();
  EXPECT_EQ(root.stats().charged, 55_B);
  EXPECT_EQ(kept.available(), 45_B);
  more.commit(10_B);
  EXPECT_EQ(root.stats().charged, 40_B);
  EXPECT_EQ(kept.available(), 90_B);
  EXPECT_EQ(root.available(), 60_B);
}

TEST(Budget, GuaranteeHoldsForGrandchildrenToo) {
  Budget root{"root", {.limit = 100_B}};
  Budget kept = root.child("kept", {.guarantee = 40_B}).value();
  Budget below = kept.child("below").value();
  auto others = root.reserve(60_B).value();
  EXPECT_EQ(below.available(), 40_B);
  EXPECT_TRUE(below.reserve(40_B).ok());
  EXPECT_FALSE(below.reserve(41_B).ok());
}

TEST(Budget, GuaranteeThatDoesNotFitIsRefusedAndLeavesNoChild) {
  Budget root{"root", {.limit = 100_B}};
  auto held = root.reserve(70_B).value();
  const auto refused = root.child("kept", {.guarantee = 31_B});
  EXPECT_EQ(refused.status().code(), Code::memory_refused);
  EXPECT_EQ(root.snapshot().size(), 1U);
  EXPECT_EQ(root.stats().charged, 70_B);
  EXPECT_TRUE(root.child("kept", {.guarantee = 30_B}).ok());
}

TEST(Budget, GuaranteeCanBeChanged) {
  Budget root{"root", {.limit = 100_B}};
  Budget kept = root.child("kept", {.limit = 80_B}).value();
  auto held = kept.reserve(20_B).value();
  ASSERT_TRUE(kept.set_guarantee(50_B).ok());
  EXPECT_EQ(root.stats().charged, 50_B);
  auto others = root.reserve(40_B).value();
  EXPECT_EQ(kept.set_guarantee(61_B).code(), Code::memory_refused);
  EXPECT_EQ(kept.stats().guarantee, 50_B);
  EXPECT_EQ(kept.set_guarantee(81_B).code(), Code::invalid_argument);
  ASSERT_TRUE(kept.set_guarantee(5_B).ok());
  EXPECT_EQ(root.stats().charged, 60_B);
  root.validate();
}

TEST(Budget, LimitCanBeSetBelowUseAndAdmitsNothingUntilItFits) {
  Budget root{"root", {.limit = 100_B}};
  Budget child = root.child("child").value();
  auto a = child.reserve(60_B).value();
  auto b = child.reserve(30_B).value();
  ASSERT_TRUE(root.set_limit(50_B).ok());
  EXPECT_TRUE(root.stats().shrinking);
  EXPECT_EQ(root.available(), 0_B);
  EXPECT_FALSE(child.reserve(1_B).ok());
  b.release();
  EXPECT_TRUE(root.stats().shrinking);
  EXPECT_FALSE(child.reserve(1_B).ok());
  root.validate();
  a.commit(49_B);
  EXPECT_FALSE(root.stats().shrinking);
  EXPECT_TRUE(child.reserve(1_B).ok());
  EXPECT_FALSE(child.reserve(2_B).ok());
}

TEST(Budget, UseWithinAGuaranteeGoesOnUnderAShrinkingAncestor) {
  Budget root{"root", {.limit = 100_B}};
  Budget kept = root.child("kept", {.guarantee = 40_B}).value();
  auto others = root.reserve(60_B).value();
  ASSERT_TRUE(root.set_limit(50_B).ok());
  EXPECT_TRUE(kept.reserve(40_B).ok());
  EXPECT_FALSE(kept.reserve(41_B).ok());
}

TEST(Budget, LimitBelowTheGuaranteeIsInvalid) {
  Budget root{"root"};
  Budget kept = root.child("kept", {.guarantee = 40_B}).value();
  EXPECT_EQ(kept.set_limit(39_B).code(), Code::invalid_argument);
  EXPECT_TRUE(kept.stats().limit.is_unlimited());
}

TEST(Budget, PeakIsTheHighestUseDespiteLeasesOfOneThread) {
  Budget root{"root", {.limit = 1_GiB}};
  Budget a = root.child("a").value();
  Budget b = root.child("b").value();
  a.reserve(600_KiB).value().release();
  b.reserve(700_KiB).value().release();
  EXPECT_EQ(root.stats().peak, 700_KiB);
  auto held = a.reserve(1_MiB).value();
  b.reserve(1_KiB).value().release();
  EXPECT_EQ(root.stats().peak, 1_MiB + 1_KiB);
  EXPECT_EQ(a.stats().peak, 1_MiB);
}

TEST(Budget, ResetPeakStartsAtThePresentUse) {
  Budget budget{"b", {.limit = 1_GiB}};
  auto held = budget.reserve(10_KiB).value();
  budget.reserve(90_KiB).value().release();
  EXPECT_EQ(budget.stats().peak, 100_KiB);
  budget.reset_peak();
  EXPECT_EQ(budget.stats().peak, 10_KiB);
}

TEST(Budget, LeasedBytesStayChargedButAreAvailable) {
  Budget root{"root", {.limit = 1_GiB}};
  Budget child = root.child("child").value();
  child.reserve(100_KiB).value().release();
  EXPECT_EQ(child.stats().used, 0_B);
  EXPECT_EQ(child.stats().charged, 100_KiB);
  EXPECT_EQ(child.available(), 1_GiB);
  EXPECT_EQ(root.available(), 1_GiB);
  auto everything = root.reserve(1_GiB);
  EXPECT_TRUE(everything.ok()) << "a lease is revoked before anyone is refused";
  EXPECT_EQ(child.stats().charged, 0_B);
  root.validate();
}

TEST(Budget, LeasesHoldAtMostAnEighthOfALimit) {
  Budget root{"root", {.limit = 16_MiB}};
  std::vector<Budget> children;
  for (int i = 0; i < 100; ++i) {
    children.push_back(root.child(std::string{"c"}.append(std::to_string(i))).value());
    children.back().reserve(64_KiB).value().release();
    // Held beside the leases, so that no peak revokes them.
  }
  auto held = root.reserve(8_MiB).value();
  for (Budget& child : children) {
    child.reserve(64_KiB).value().release();
    child.reserve(64_KiB).value().release();
  }
  EXPECT_LE(root.stats().charged, 10_MiB);
  root.validate();
}

TEST(Budget, SmallLimitsHaveNoLeases) {
  Budget budget{"b", {.limit = 100_KiB}};
  budget.reserve(100_B).value().release();
  EXPECT_EQ(budget.stats().charged, 0_B);
}

TEST(Budget, SnapshotIsParentsFirstAndAddsUp) {
  Budget root{"root", {.limit = 1_GiB}};
  Budget a = root.child("a", {.guarantee = 1_MiB}).value();
  Budget b = a.child("b").value();
  Budget c = root.child("c").value();
  auto in_a = a.reserve(3_MiB).value();
  auto in_b = b.reserve(2_MiB).value();
  auto in_c = c.reserve(1_MiB).value();
  auto in_root = root.reserve(5_MiB).value();
  const auto all = root.snapshot();
  ASSERT_EQ(all.size(), 4U);
  EXPECT_EQ(all[0].path, "root");
  EXPECT_EQ(all[1].path, "root/a");
  EXPECT_EQ(all[2].path, "root/a/b");
  EXPECT_EQ(all[3].path, "root/c");
  EXPECT_EQ(all[0].used, 11_MiB);
  EXPECT_EQ(all[1].used, 5_MiB);
  EXPECT_EQ(all[0].charged, all[0].used);
  EXPECT_EQ(a.snapshot().size(), 2U);
}

TEST(Budget, NameAndPathAreThoseGiven) {
  Budget root{"root"};
  Budget child = root.child("child").value();
  EXPECT_EQ(child.name(), "child");
  EXPECT_EQ(child.child("x").value().path(), "root/child/x");
}

TEST(Budget, ContradictoryOptionsAreRefused) {
  EXPECT_THROW((Budget{"b", {.soft = 0.9, .critical = 0.8}}), Failure);
  EXPECT_THROW((Budget{"b", {.soft = 0}}), Failure);
  EXPECT_THROW((Budget{"b", {.critical = 1.01}}), Failure);
  EXPECT_THROW((Budget{"b", {.soft = std::nan("")}}), Failure);
  EXPECT_THROW((Budget{"b", {.limit = 1_B, .guarantee = 2_B}}), Failure);
  EXPECT_THROW(Budget{""}, Failure);
  EXPECT_THROW(Budget{"a/b"}, Failure);
  Budget root{"root"};
  EXPECT_EQ(root.child("a/b").status().code(), Code::invalid_argument);
  EXPECT_EQ(root.child("x", {.soft = 2}).status().code(), Code::invalid_argument);
}

TEST(Budget, SiblingNamesAreUniqueWhileTheyLive) {
  Budget root{"root"};
  {
    Budget child = root.child("x").value();
    EXPECT_EQ(root.child("x").status().code(), Code::invalid_argument);
    EXPECT_TRUE(child.child("x").ok());
  }
  EXPECT_TRUE(root.child("x").ok());
}

TEST(Budget, EndOfAChildReturnsItsGuarantee) {
  Budget root{"root", {.limit = 100_B}};
  { Budget kept = root.child("kept", {.guarantee = 100_B}).value(); }
  EXPECT_EQ(root.available(), 100_B);
  EXPECT_EQ(root.snapshot().size(), 1U);
}

TEST(Budget, MovedBudgetKeepsItsNode) {
  Budget root{"root", {.limit = 100_B}};
  Budget child = root.child("child").value();
  auto held = child.reserve(10_B).value();
  Budget moved = std::move(child);
  EXPECT_EQ(moved.stats().used, 10_B);
  held.release();
  moved = root.child("other").value();
  EXPECT_EQ(root.snapshot().size(), 2U);
}

TEST(Budget, LeasesAreForEachThreadAndAllAreRevoked) {
  Budget budget{"b", {.limit = 1_GiB}};
  for (int i = 0; i < 4; ++i) {
    std::thread{[&] { budget.reserve(512_KiB).value().release(); }}.join();
  }
  EXPECT_EQ(budget.stats().used, 0_B);
  EXPECT_TRUE(budget.reserve(1_GiB).ok());
  budget.validate();
}

TEST(Budget, ReservationMayEndOnAnotherThread) {
  Budget budget{"b", {.limit = 100_KiB}};
  auto held = budget.reserve(100_KiB).value();
  std::thread{[held = std::move(held)]() mutable { held.release(); }}.join();
  EXPECT_EQ(budget.stats().used, 0_B);
}

#if defined(NDEBUG) && !defined(FOREBAY_PARANOID)
TEST(Budget, DeadBudgetIsKeptUntilItsBytesAreGone) {
  Budget root{"root", {.limit = 100_B}};
  auto kept = std::make_unique<Budget>(root.child("kept", {.guarantee = 50_B}).value());
  auto held = kept->reserve(30_B).value();
  ::testing::internal::CaptureStderr();
  kept.reset();
  EXPECT_THAT(::testing::internal::GetCapturedStderr(),
              HasSubstr("budget 'root/kept' was destroyed with 30 bytes reserved"));
  EXPECT_EQ(root.stats().charged, 30_B);
  root.validate();
  held.release();
  EXPECT_EQ(root.stats().charged, 0_B);
  EXPECT_EQ(root.snapshot().size(), 1U);
}

TEST(Budget, ChildrenOutliveADeadRoot) {
  auto root = std::make_unique<Budget>("root", BudgetOptions{.limit = 100_B});
  Budget child = root->child("child").value();
  ::testing::internal::CaptureStderr();
  root.reset();
  EXPECT_THAT(::testing::internal::GetCapturedStderr(), HasSubstr("1 children"));
  EXPECT_FALSE(child.reserve(101_B).ok());
  EXPECT_TRUE(child.reserve(100_B).ok());
}
#else
TEST(BudgetDeathTest, DebugBuildsNameTheOwnerOfBytesThatOutliveTheirBudget) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  const auto leak = [] {
    Reservation held;
    Budget root{"root", {.limit = 1_GiB}};
    Budget child = root.child("leaky").value();
    child.reserve(5_KiB).value().release();
    held = child.reserve(12_B).value();
  };
  EXPECT_DEATH(leak(), "budget 'root/leaky' was destroyed with 12 bytes reserved");
}
#endif

}  // namespace
}  // namespace forebay
