// Every allocation of every operation of a budget is made to fail: nothing may change.

#include <gtest/gtest.h>

#include <optional>

#include "budget/store.hpp"
#include "support/failing_new.hpp"

namespace forebay {
namespace {

using namespace forebay::literals;
using testing::FailingNew;
using testing::Store;
using testing::walk_allocation_failures;

class BudgetFailure : public ::testing::Test {
 protected:
  // Runs `operation` with its 1st, 2nd, ... allocation failing; the figures must stay.
  template <typename Operation>
  void expect_nothing_changes(Operation operation) {
    const Bytes used = root.stats().used;
    const Bytes charged = root.stats().charged;
    const std::size_t failures = walk_allocation_failures(
        [&] {
          try {
            operation();
          } catch (const std::bad_alloc&) {
          }
        },
        [&] {
          root.validate();
          EXPECT_EQ(root.stats().used, used);
          EXPECT_EQ(root.stats().charged, charged);
          EXPECT_EQ(root.available(), 200_B - charged);
        });
    EXPECT_GT(failures, 0U) << "the walk proved nothing";
  }

  Budget root{"root-with-a-name-that-is-on-the-heap", {.limit = 200_B}};
  Budget child = root.child("child-with-a-name-that-is-on-the-heap").value();
  Reservation held = child.reserve(100_B).value();
};

TEST_F(BudgetFailure, Refusals) {
  expect_nothing_changes([&] { EXPECT_FALSE(child.reserve(101_B).ok()); });
  expect_nothing_changes([&] { EXPECT_FALSE(child.try_reserve(101_B).ok()); });
  expect_nothing_changes([&] { EXPECT_FALSE(held.resize(201_B).ok()); });
  EXPECT_EQ(held.bytes(), 100_B);
}

TEST_F(BudgetFailure, RefusalsAfterReclaiming) {
  Store a{root};
  Store b{root};
  a.at_most = b.at_most = 0_B;
  a.estimates = b.estimates = 10_B;
  a.goals.reserve(1000);
  b.goals.reserve(1000);
  expect_nothing_changes([&] { EXPECT_FALSE(child.reserve(101_B).ok()); });
}

TEST_F(BudgetFailure, RefusalsAfterWaiting) {
  expect_nothing_changes(
      [&] { EXPECT_FALSE(child.reserve(101_B, {.timeout = Duration{1}}).ok()); });
}

TEST_F(BudgetFailure, Children) {
  expect_nothing_changes([&] { (void)root.child("a-new-child-with-a-name-on-the-heap"); });
  expect_nothing_changes([&] { (void)root.child("another", {.guarantee = 101_B}); });
  std::optional<Budget> grown;
  walk_allocation_failures(
      [&] {
        try {
          if (auto made = root.child("kept", {.guarantee = 50_B})) grown.emplace(std::move(*made));
        } catch (const std::bad_alloc&) {
        }
      },
      [&] {
        root.validate();
        EXPECT_EQ(root.stats().charged, grown ? 150_B : 100_B);
      });
}

TEST_F(BudgetFailure, GuaranteesAndTransfers) {
  Budget other = root.child("other", {.limit = 50_B}).value();
  expect_nothing_changes([&] { EXPECT_FALSE(child.set_guarantee(201_B).ok()); });
  expect_nothing_changes([&] { EXPECT_FALSE(held.transfer(other).ok()); });
}

TEST_F(BudgetFailure, RegistrationsAndListeners) {
  Store store{root};
  expect_nothing_changes([&] {
    (void)root.add_reclaimer(store, {.name = "a name of a reclaimer that is on the heap"});
  });
  int calls = 0;
  expect_nothing_changes([&] {
    std::array<char, 64> large{};
    child.set_pressure_listener([&calls, large](const BudgetStats&) { calls += large[0] + 1; });
  });
  child.set_pressure_listener({});
}

TEST_F(BudgetFailure, Looking) {
  expect_nothing_changes([&] { (void)root.stats(); });
  expect_nothing_changes([&] { (void)root.snapshot(); });
  expect_nothing_changes([&] { (void)child.path(); });
}

TEST_F(BudgetFailure, MeteredResources) {
  auto device = SimulatedDevice::create();
  expect_nothing_changes([&] { (void)child.meter(device); });
  auto metered = child.meter(device);
  expect_nothing_changes([&] { (void)metered->allocate(1_KiB); });
}

// Giving back is noexcept: a listener that cannot be told for want of memory is told by the
// next operation.
TEST_F(BudgetFailure, AListenerIsToldLaterIfMemoryIsShort) {
  int calls = 0;
  Pressure last = Pressure::normal;
  root.set_pressure_listener([&](const BudgetStats& stats) {
    ++calls;
    last = stats.pressure;
  });
  auto more = child.reserve(90_B).value();
  EXPECT_EQ(calls, 1);
  {
    const FailingNew failure{0, FailingNew::Failing::from_there_on};
    more.release();
    ASSERT_TRUE(FailingNew::has_failed());
  }
  EXPECT_EQ(calls, 1);
  held.commit(99_B);
  EXPECT_EQ(calls, 2);
  EXPECT_EQ(last, Pressure::normal);
}

}  // namespace
}  // namespace forebay
