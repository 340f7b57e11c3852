#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "trace/replay.hpp"

namespace forebay::trace {
namespace {

using testing::Eq;
using testing::HasSubstr;

ReplayRun run_of(std::string name, double ns, std::uint64_t reserved, std::uint64_t refused = 0) {
  ReplayRun run;
  run.name = std::move(name);
  run.ns_per_operation = ns;
  run.peak_reserved = Bytes{reserved};
  run.refused = refused;
  run.served = 1;
  return run;
}

std::string best(const std::vector<ReplayRun>& runs) {
  return runs[recommend(runs).run.value()].name;
}

TEST(Recommend, TakesTheFastestOfThoseNearTheLeastReserved) {
  const std::vector<ReplayRun> runs{run_of("fast but wide", 5, 1200), run_of("fast", 10, 1140),
                                    run_of("small", 100, 1000)};
  EXPECT_EQ(best(runs), "fast");
  EXPECT_THAT(recommend(runs).reason, Eq("fastest of those that reserve at most 15 % more than the "
                                         "least of a pool, 1000 B by small"));
}

TEST(Recommend, TakesTheSmallestOfThoseThatAreAlike) {
  EXPECT_EQ(best({run_of("a", 10, 1100), run_of("b", 10.4, 1000)}), "b");
  EXPECT_EQ(best({run_of("a", 10, 1100), run_of("b", 10.6, 1000)}), "a");
}

TEST(Recommend, PutsThoseThatRefuseLeastFirst) {
  const std::vector<ReplayRun> runs{run_of("refuses", 1, 10, 3), run_of("serves", 1000, 10000, 2)};
  EXPECT_EQ(best(runs), "serves");
  EXPECT_THAT(recommend(runs).reason, HasSubstr("none refused fewer than its 2"));
}

TEST(Recommend, CountsTheTimeOfASimulatedDevice) {
  ReplayRun direct = run_of("direct", 1, 1000);
  direct.device_ns_per_operation = 10000;
  EXPECT_EQ(best({direct, run_of("pool", 50, 1010)}), "pool");
}

TEST(Recommend, NeedsNoPoolToReserveAsLittleAsNone) {
  ReplayRun direct = run_of("direct", 100, 1000);
  direct.direct = true;
  EXPECT_EQ(best({direct, run_of("pool", 10, 1300)}), "pool");
  direct.ns_per_operation = 5;
  EXPECT_EQ(best({direct, run_of("pool", 10, 1300)}), "direct");
}

TEST(Recommend, SaysOnlyWhatItFound) {
  ReplayRun direct = run_of("direct", 100, 900);
  direct.direct = true;
  // The smallest pool; less is reserved without one, and another is faster by less than 5 %.
  EXPECT_EQ(recommend({{direct, run_of("a", 10, 1100), run_of("b", 10.4, 1000)}}).reason,
            "reserves least of the pools, 1000 B, and nothing within 15 % of that is more than "
            "5 % faster");
  // Neither the fastest nor the smallest of all.
  EXPECT_EQ(
      recommend({{run_of("a", 10, 1120), run_of("b", 10.4, 1100), run_of("c", 50, 1000)}}).reason,
      "within 5 % of the fastest, and reserves less, of those that reserve at most 15 % more than "
      "the least of a pool, 1000 B by c");
}

TEST(Recommend, TakesNoneThatServedNothing) {
  ReplayRun nothing = run_of("a", 1, 0, 2);
  nothing.served = 0;
  EXPECT_EQ(best({nothing, run_of("b", 100, 1000, 2)}), "b");
  EXPECT_FALSE(recommend({{nothing, nothing}}).run.has_value());
  EXPECT_EQ(recommend({{nothing, nothing}}).reason, "none served an allocation");
}

TEST(Recommend, TakesTheOnlyOne) { EXPECT_EQ(best({run_of("a", 0, 0)}), "a"); }

}  // namespace
}  // namespace forebay::trace
