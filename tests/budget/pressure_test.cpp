#include <gtest/gtest.h>

#include <vector>

#include "forebay/budget.hpp"

namespace forebay {
namespace {

using namespace forebay::literals;

// Remembers what it was told.
struct Told {
  std::vector<Pressure> pressures;
  PressureListener listener() {
    return [this](const BudgetStats& stats) { pressures.push_back(stats.pressure); };
  }
};

TEST(Pressure, RisesAtItsMarksAndCountsEachRise) {
  Budget budget{"b", {.limit = 100_B}};
  auto held = budget.reserve(84_B).value();
  EXPECT_EQ(budget.stats().pressure, Pressure::normal);
  ASSERT_TRUE(held.resize(85_B).ok());
  EXPECT_EQ(budget.stats().pressure, Pressure::high);
  ASSERT_TRUE(held.resize(95_B).ok());
  EXPECT_EQ(budget.stats().pressure, Pressure::critical);
  EXPECT_EQ(budget.stats().warnings, 2U);
}

TEST(Pressure, FallsOnlyFivePercentBelowAMark) {
  Budget budget{"b", {.limit = 1000_B, .soft = 0.5, .critical = 0.8}};
  auto held = budget.reserve(800_B).value();
  EXPECT_EQ(budget.stats().pressure, Pressure::critical);
  held.commit(761_B);
  EXPECT_EQ(budget.stats().pressure, Pressure::critical);
  held.commit(760_B);
  EXPECT_EQ(budget.stats().pressure, Pressure::high);
  held.commit(476_B);
  EXPECT_EQ(budget.stats().pressure, Pressure::high);
  held.commit(475_B);
  EXPECT_EQ(budget.stats().pressure, Pressure::normal);
}

TEST(Pressure, ListenerIsToldOncePerCrossing) {
  Budget budget{"b", {.limit = 100_B}};
  Told told;
  budget.set_pressure_listener(told.listener());
  auto held = budget.reserve(90_B).value();
  for (int i = 0; i < 10; ++i) {
    ASSERT_TRUE(held.resize(84_B).ok());
    ASSERT_TRUE(held.resize(86_B).ok());
  }
  EXPECT_EQ(told.pressures, std::vector{Pressure::high});
  held.release();
  EXPECT_EQ(told.pressures, (std::vector{Pressure::high, Pressure::normal}));
}

TEST(Pressure, ListenerOfAnAncestorHearsWhatHappensBelow) {
  Budget root{"root", {.limit = 100_B}};
  Budget child = root.child("child").value();
  Told told;
  root.set_pressure_listener(told.listener());
  auto held = child.reserve(100_B).value();
  EXPECT_EQ(told.pressures, std::vector{Pressure::critical});
}

TEST(Pressure, ListenerMayLookAndReleaseButNotReserve) {
  Budget budget{"b", {.limit = 100_B}};
  auto victim = budget.reserve(10_B).value();
  std::vector<Code> codes;
  int calls = 0;
  budget.set_pressure_listener([&](const BudgetStats& stats) {
    ++calls;
    EXPECT_EQ(stats.path, "b");
    EXPECT_EQ(stats.used, calls == 1 ? 90_B : 80_B);
    codes = {budget.reserve(1_B).status().code(), budget.try_reserve(1_B).status().code(),
             budget.child("x", {.guarantee = 1_B}).status().code()};
    victim.release();
  });
  auto held = budget.reserve(80_B).value();
  EXPECT_EQ(codes, (std::vector{Code::failed_precondition, Code::failed_precondition,
                                Code::failed_precondition}));
  EXPECT_EQ(calls, 2) << "its own release took the pressure down again: told, but not nested";
  EXPECT_EQ(budget.stats().used, 80_B);
  budget.set_pressure_listener({});
}

TEST(Pressure, ListenerMayRemoveItself) {
  Budget budget{"b", {.limit = 100_B}};
  int calls = 0;
  budget.set_pressure_listener([&](const BudgetStats&) {
    ++calls;
    budget.set_pressure_listener({});
  });
  auto held = budget.reserve(90_B).value();
  ASSERT_TRUE(held.resize(100_B).ok());
  EXPECT_EQ(calls, 1);
}

// What a listener captured may itself give back memory of the tree as it dies.
TEST(Pressure, AListenerMayOwnReservationsOfItsTree) {
  Budget root{"root", {.limit = 1_MiB}};
  auto owned = std::make_shared<Reservation>(root.reserve(10_KiB).value());
  root.set_pressure_listener([owned](const BudgetStats&) {});
  owned.reset();
  EXPECT_EQ(root.stats().used, 10_KiB);
  root.set_pressure_listener({});
  EXPECT_EQ(root.stats().used, 0_B);
}

TEST(Pressure, ABudgetMayEndInsideItsOwnListener) {
  auto root = std::make_unique<Budget>("root", BudgetOptions{.limit = 1_MiB});
  Reservation held = root->reserve(1000_KiB).value();
  int told = 0;
  root->set_pressure_listener([&](const BudgetStats& stats) {
    ++told;
    if (stats.used.is_zero()) root.reset();
  });
  held.release();
  EXPECT_EQ(told, 1);
  EXPECT_EQ(root, nullptr);
}

TEST(Pressure, ALimitChangeCrossesToo) {
  Budget budget{"b", {.limit = 1000_B}};
  Told told;
  budget.set_pressure_listener(told.listener());
  auto held = budget.reserve(90_B).value();
  ASSERT_TRUE(budget.set_limit(100_B).ok());
  EXPECT_EQ(told.pressures, std::vector{Pressure::high});
}

TEST(Pressure, NobodyIsWarnedForBytesInLeases) {
  Budget root{"root", {.limit = 64_MiB}};
  Budget a = root.child("a").value();
  Budget b = root.child("b").value();
  auto most = root.reserve(54_MiB).value();
  auto peak = root.reserve(256_KiB).value();
  peak.release();
  a.reserve(200_KiB).value().release();
  auto more = b.reserve(200_KiB).value();
  EXPECT_EQ(root.stats().pressure, Pressure::normal) << to_string(root.stats().charged);
  EXPECT_EQ(root.stats().warnings, 0U);
}

TEST(Pressure, UnlimitedBudgetsFeelNone) {
  Budget budget{"b"};
  auto held = budget.reserve(Bytes{1ULL << 62}).value();
  EXPECT_EQ(budget.stats().pressure, Pressure::normal);
}

TEST(Pressure, HasASpelling) {
  EXPECT_EQ(to_string(Pressure::normal), "normal");
  EXPECT_EQ(to_string(Pressure::high), "high");
  EXPECT_EQ(to_string(Pressure::critical), "critical");
}

}  // namespace
}  // namespace forebay
