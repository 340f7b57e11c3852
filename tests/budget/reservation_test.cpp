#include <gtest/gtest.h>

#include "forebay/budget.hpp"

namespace forebay {
namespace {

using namespace forebay::literals;

TEST(Reservation, EmptyOneIsOfNoBudget) {
  Reservation none;
  EXPECT_TRUE(none.empty());
  EXPECT_EQ(none.resize(1_B).code(), Code::failed_precondition);
  EXPECT_EQ(none.resize(0_B).code(), Code::failed_precondition);
  Budget budget{"b"};
  EXPECT_EQ(none.transfer(budget).code(), Code::failed_precondition);
  EXPECT_EQ(none.split(1_B).status().code(), Code::invalid_argument);
  none.commit(0_B);
  none.release();
}

TEST(Reservation, MoveLeavesTheSourceEmpty) {
  Budget budget{"b", {.limit = 100_B}};
  auto a = budget.reserve(60_B).value();
  Reservation b = std::move(a);
  EXPECT_TRUE(a.empty());  // NOLINT(bugprone-use-after-move): what this test is about
  auto c = budget.reserve(40_B).value();
  c = std::move(b);
  EXPECT_EQ(budget.stats().used, 60_B);
  EXPECT_EQ(c.bytes(), 60_B);
}

TEST(Reservation, ResizeGrowsShrinksAndARefusedGrowthChangesNothing) {
  Budget budget{"b", {.limit = 100_B}};
  auto held = budget.reserve(10_B).value();
  ASSERT_TRUE(held.resize(100_B).ok());
  EXPECT_EQ(held.resize(101_B).code(), Code::memory_refused);
  EXPECT_EQ(held.bytes(), 100_B);
  ASSERT_TRUE(held.resize(30_B).ok());
  EXPECT_EQ(budget.stats().used, 30_B);
  ASSERT_TRUE(held.resize(0_B).ok());
  EXPECT_EQ(budget.stats().used, 0_B);
  ASSERT_TRUE(held.resize(20_B).ok());
  EXPECT_EQ(budget.stats().used, 20_B);
}

TEST(Reservation, CommitKeepsTheActualAndReturnsTheSurplus) {
  Budget budget{"b", {.limit = 100_B}};
  auto held = budget.reserve(100_B).value();
  held.commit(40_B);
  EXPECT_EQ(held.bytes(), 40_B);
  EXPECT_EQ(budget.available(), 60_B);
  held.commit(40_B);
  EXPECT_EQ(budget.available(), 60_B);
}

TEST(ReservationDeathTest, CommitOfMoreThanReservedAborts) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  const auto overcommit = [] {
    Budget budget{"b", {.limit = 100_B}};
    auto held = budget.reserve(10_B).value();
    held.commit(11_B);
  };
  EXPECT_DEATH(overcommit(), "commit of more than was reserved");
}

TEST(Reservation, SplitAndMergeKeepTheSum) {
  Budget budget{"b", {.limit = 100_B}};
  auto whole = budget.reserve(100_B).value();
  auto part = whole.split(30_B).value();
  EXPECT_EQ(whole.bytes(), 70_B);
  EXPECT_EQ(part.bytes(), 30_B);
  EXPECT_EQ(budget.stats().used, 100_B);
  EXPECT_EQ(whole.split(71_B).status().code(), Code::invalid_argument);
  ASSERT_TRUE(whole.merge(std::move(part)).ok());
  EXPECT_EQ(whole.bytes(), 100_B);
  EXPECT_TRUE(part.empty());  // NOLINT(bugprone-use-after-move): what this test is about
}

TEST(Reservation, EmptyPartsStayOfTheirBudget) {
  Budget budget{"b", {.limit = 100_B}};
  auto whole = budget.reserve(100_B).value();
  auto nothing = whole.split(0_B).value();
  auto all = whole.split(100_B).value();
  EXPECT_TRUE(whole.empty());
  all.commit(60_B);
  ASSERT_TRUE(nothing.resize(40_B).ok());
  ASSERT_TRUE(whole.merge(std::move(nothing)).ok());
  ASSERT_TRUE(whole.merge(std::move(all)).ok());
  EXPECT_EQ(whole.bytes(), 100_B);
}

TEST(Reservation, MergeOfAnotherBudgetsChangesNothing) {
  Budget root{"root"};
  Budget child = root.child("child").value();
  auto a = root.reserve(1_B).value();
  auto b = child.reserve(2_B).value();
  EXPECT_EQ(a.merge(std::move(b)).code(), Code::failed_precondition);
  EXPECT_EQ(a.bytes(), 1_B);
  EXPECT_EQ(b.bytes(), 2_B);  // NOLINT(bugprone-use-after-move): what this test is about
}

TEST(Reservation, MergeWithItselfChangesNothing) {
  Budget budget{"b"};
  auto held = budget.reserve(7_B).value();
  Reservation& same = held;
  EXPECT_TRUE(held.merge(std::move(same)).ok());
  EXPECT_EQ(held.bytes(), 7_B);
}

TEST(Reservation, TransferIsUnseenByCommonAncestors) {
  Budget root{"root", {.limit = 100_B}};
  Budget from = root.child("from").value();
  Budget to = root.child("to", {.limit = 80_B}).value();
  auto held = from.reserve(80_B).value();
  auto rest = root.reserve(20_B).value();
  ASSERT_TRUE(held.transfer(to).ok());
  EXPECT_EQ(root.stats().charged, 100_B);
  EXPECT_EQ(root.stats().peak, 100_B);
  EXPECT_EQ(from.stats().charged, 0_B);
  EXPECT_EQ(to.stats().used, 80_B);
  held.release();
  EXPECT_EQ(to.stats().used, 0_B);
}

TEST(Reservation, TransferThatDoesNotFitChangesNothing) {
  Budget root{"root", {.limit = 100_B}};
  Budget from = root.child("from").value();
  Budget to = root.child("to", {.limit = 50_B}).value();
  auto held = from.reserve(60_B).value();
  const Status refused = held.transfer(to);
  EXPECT_EQ(refused.code(), Code::memory_refused);
  EXPECT_EQ(refused.refusal()->budget, "root/to");
  EXPECT_EQ(from.stats().used, 60_B);
  EXPECT_EQ(to.stats().charged, 0_B);
  EXPECT_EQ(to.stats().peak, 0_B);
  root.validate();
}

TEST(Reservation, TransferUnderAShrinkingParentIsNoGrowth) {
  Budget root{"root", {.limit = 100_B}};
  Budget from = root.child("from").value();
  Budget to = root.child("to").value();
  auto held = from.reserve(60_B).value();
  ASSERT_TRUE(root.set_limit(10_B).ok());
  EXPECT_TRUE(held.transfer(to).ok());
  EXPECT_EQ(to.stats().used, 60_B);
  root.validate();
}

TEST(Reservation, TransferOutOfAGuaranteeNeedsRoomAbove) {
  Budget root{"root", {.limit = 100_B}};
  Budget kept = root.child("kept", {.guarantee = 60_B}).value();
  Budget to = root.child("to").value();
  auto held = kept.reserve(60_B).value();
  EXPECT_EQ(held.transfer(to).refusal()->budget, "root");
  auto part = held.split(40_B).value();
  ASSERT_TRUE(part.transfer(to).ok());
  EXPECT_EQ(root.stats().charged, 100_B);
}

TEST(Reservation, TransferToAnAncestorOrItselfWorks) {
  Budget root{"root", {.limit = 100_B}};
  Budget child = root.child("child").value();
  auto held = child.reserve(100_B).value();
  ASSERT_TRUE(held.transfer(child).ok());
  ASSERT_TRUE(held.transfer(root).ok());
  EXPECT_EQ(child.stats().charged, 0_B);
  ASSERT_TRUE(held.transfer(child).ok());
  EXPECT_EQ(child.stats().used, 100_B);
}

TEST(Reservation, TransferToAnotherTreeIsRefused) {
  Budget a{"a"};
  Budget b{"b"};
  auto held = a.reserve(5_B).value();
  EXPECT_EQ(held.transfer(b).code(), Code::failed_precondition);
  EXPECT_EQ(a.stats().used, 5_B);
}

TEST(Reservation, EmptyOneMayOutliveItsBudget) {
  auto root = std::make_unique<Budget>("root");
  auto held = root->reserve(5_B).value();
  ASSERT_TRUE(held.resize(0_B).ok());
  root.reset();
  EXPECT_EQ(held.resize(5_B).code(), Code::failed_precondition);
}

}  // namespace
}  // namespace forebay
