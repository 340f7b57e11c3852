#include <gmock/gmock.h>

#include "forebay/telemetry.hpp"

// A user's function: the library's own names are left out of a report.
[[gnu::noinline]] static forebay::Status ask_for_too_much(forebay::Budget& budget) {
  const auto refused = budget.reserve(forebay::Bytes{8ULL << 20});
  asm volatile("");
  return refused.status();
}

namespace forebay::testing {
namespace {

using namespace forebay::literals;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

// Gives half of what it says.
class Boaster final : public Reclaimer {
 public:
  explicit Boaster(Reservation held) : held_(std::move(held)) {}
  Bytes reclaim(Bytes goal) noexcept override {
    held_.commit(held_.bytes() - std::min(goal / 2, held_.bytes()));
    return goal;
  }
  Bytes reclaimable() const noexcept override { return held_.bytes(); }
  std::string kept_because() const override { return "3 entries pinned by request-7 for 12 s"; }

 private:
  Reservation held_;
};

TEST(OutOfMemoryReport, SaysWhoAskedWhoHoldsWhoWasAskedAndWhatWouldHelp) {
  Budget budget{"process", {.limit = 10_MiB}};
  Budget cache = budget.child("cache").value();
  Budget weights = budget.child("weights").value();
  const auto held = weights.reserve(6_MiB).value();
  Boaster boaster{cache.reserve(2_MiB).value()};
  const auto registration = cache.add_reclaimer(boaster, {.name = "answers"});
  const TagScope tag{"decoder"};
  const OwnerScope owner{"request-9"};
  const std::string report = out_of_memory_report(ask_for_too_much(budget));
  EXPECT_THAT(report, HasSubstr("decoder for request-9 asked for 8 MiB"));
  EXPECT_THAT(report, HasSubstr("process has"));
  EXPECT_THAT(report, HasSubstr("of 10 MiB in use"));
  EXPECT_THAT(report, HasSubstr("ask_for_too_much"));
  EXPECT_THAT(report, HasSubstr("process/weights: 6 MiB"));
  EXPECT_THAT(report, HasSubstr("answers: asked for"));
  EXPECT_THAT(report, HasSubstr("keeps 3 entries pinned by request-7 for 12 s"));
  EXPECT_THAT(report, AllOf(HasSubstr("  1. "), HasSubstr("  2. "), HasSubstr("  3. ")));
}

TEST(OutOfMemoryReport, TellsWhatAReclaimerSaysFromWhatTheCountersSay) {
  Budget budget{"process", {.limit = 10_MiB}};
  Boaster boaster{budget.reserve(10_MiB).value()};
  const auto registration = budget.add_reclaimer(boaster, {.name = "boaster"});
  const auto refused = budget.reserve(20_MiB);
  EXPECT_TRUE(refused.status().refusal()->reclaimers.empty());  // it could never fit
  const auto second = budget.reserve(10_MiB);
  ASSERT_FALSE(second.ok() && second->empty());
  if (second.ok()) return;
  const auto& answers = second.status().refusal()->reclaimers;
  ASSERT_EQ(answers.size(), 1U);
  EXPECT_LT(answers[0].freed, answers[0].claimed);
}

TEST(OutOfMemoryReport, NamesPoolsAndTheirIdleMemory) {
  Budget budget{"process", {.limit = 16_MiB}};
  const auto pool = Pool::create(budget.meter(Device::host()),
                                 {.name = "tensors", .cleanup_interval = Duration{0}});
  const TagScope tag{"activations"};
  const Buffer kept = pool->acquire(2_MiB).value();
  { const Buffer idle = pool->acquire(4_MiB).value(); }
  const auto refused = budget.reserve(14_MiB);
  ASSERT_FALSE(refused.ok());
  const std::string report = out_of_memory_report(refused.status());
  EXPECT_THAT(report, HasSubstr("tensors over process: 6 MiB reserved, 2 MiB live, 4 MiB idle"));
  EXPECT_THAT(report, HasSubstr("activations: 2 MiB in 1 blocks"));
  EXPECT_THAT(report, HasSubstr("release what pool 'tensors' keeps idle (4 MiB)"));
}

TEST(OutOfMemoryReport, OfAnyOtherErrorIsItsMessage) {
  const std::string report =
      out_of_memory_report(Status{Code::memory_refused, "gpu0: asked 2 GiB, 1 GiB free of 40 GiB"});
  EXPECT_THAT(report, HasSubstr("gpu0: asked 2 GiB, 1 GiB free of 40 GiB"));
  EXPECT_THAT(report, Not(HasSubstr("held by")));
}

}  // namespace
}  // namespace forebay::testing
