#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "forebay/tracker.hpp"
#include "track/loads.hpp"

namespace forebay {
namespace {

using namespace literals;
using std::chrono::hours;
using std::chrono::minutes;
using ::testing::IsEmpty;
using testing::Load;
using testing::Minute;
using testing::SimulatedLoad;
using ::testing::SizeIs;

constexpr double kMiB = SimulatedLoad::kMiB;
constexpr int kDay = 24 * 60;
constexpr StackId kLeakingPlace = 7;

// Runs of each load; FOREBAY_GROWTH_RUNS=100 for figures.
unsigned runs_of_each(unsigned otherwise) {
  const char* const wanted = std::getenv("FOREBAY_GROWTH_RUNS");
  return wanted == nullptr ? otherwise : static_cast<unsigned>(std::strtoul(wanted, nullptr, 10));
}

// ---- Series made by hand

class GrowthDetectorTest : public ::testing::Test {
 protected:
  void observe(std::vector<Observation> seen) {
    detector_.observe(clock_.now(), seen);
    clock_.advance(minutes{1});
  }
  template <typename Series>
  void observe_for(int many, Series series) {
    for (int i = 0; i < many; ++i) observe({{"budget", "b", 0, series(i), -1}});
  }
  ManualClock clock_;
  GrowthDetector detector_;
};

TEST_F(GrowthDetectorTest, SeesNothingInNothing) {
  EXPECT_THAT(detector_.growing(), IsEmpty());
  observe({});
  EXPECT_THAT(detector_.growing(), IsEmpty());
}

TEST_F(GrowthDetectorTest, NamesALineOnceItHasSeenAWindowTwice) {
  observe_for(129, [](int i) { return (1 + i) * kMiB; });
  EXPECT_THAT(detector_.growing(), IsEmpty());
  observe_for(1, [](int) { return 130 * kMiB; });
  const auto growing = detector_.growing();
  ASSERT_THAT(growing, SizeIs(1));
  EXPECT_EQ(growing[0].name, "b");
  EXPECT_EQ(growing[0].bytes, 130 * kMiB);
  EXPECT_NEAR(growing[0].bytes_per_hour, 60 * kMiB, 1);
  EXPECT_LT(growing[0].p_value, 1e-8);
  EXPECT_LT(growing[0].until_line, Duration::zero());
}

TEST_F(GrowthDetectorTest, TellsWhenTheLineIsReached) {
  observe_for(130, [](int i) { return (1 + i) * kMiB; });
  EXPECT_EQ(std::chrono::round<minutes>(detector_.growing(180_MiB).at(0).until_line), hours{3});
  EXPECT_EQ(detector_.growing(Bytes{0}).at(0).until_line, Duration::zero());
  EXPECT_LT(detector_.growing(Bytes{1ULL << 62}).at(0).until_line, Duration::zero());  // never
}

TEST_F(GrowthDetectorTest, NamesStepsThatNeverGoBack) {
  observe_for(140, [](int i) { return (1 + i / 20) * kMiB; });
  EXPECT_THAT(detector_.growing(), SizeIs(1));
}

TEST_F(GrowthDetectorTest, AFewStepsAreNone) {
  observe_for(120, [](int i) { return 1000 * kMiB + i / 40 * kMiB; });
  EXPECT_THAT(detector_.growing(), IsEmpty());
}

TEST_F(GrowthDetectorTest, GrowthBelowTheLeastIsNone) {
  observe_for(300, [](int i) { return i * 4096.0; });
  EXPECT_THAT(detector_.growing(), IsEmpty());
}

TEST_F(GrowthDetectorTest, GrowthThatEndedIsForgotten) {
  observe_for(200, [](int i) { return std::min(i, 135) * kMiB; });
  EXPECT_THAT(detector_.growing(), IsEmpty());
}

TEST_F(GrowthDetectorTest, DropToWhereItWasEndsTheAlarm) {
  observe_for(135, [](int i) { return i * kMiB; });
  EXPECT_THAT(detector_.growing(), SizeIs(1));
  observe_for(10, [](int) { return 0.0; });
  EXPECT_THAT(detector_.growing(), IsEmpty());
}

TEST_F(GrowthDetectorTest, ASeriesThatIsMissingIsAtZero) {
  observe_for(130, [](int i) { return i * kMiB; });
  observe({});
  EXPECT_THAT(detector_.growing(), IsEmpty());
}

TEST_F(GrowthDetectorTest, ObservationsOfAStepAreMergedToTheLeast) {
  for (int i = 0; i < 130 * 4; ++i) {
    const double swing = i % 4 == 3 ? 0 : (i * 7919 % 31) * kMiB;
    detector_.observe(clock_.now(), {{"budget", "b", 0, (1 + i / 4) * kMiB + swing, -1}});
    clock_.advance(std::chrono::seconds{15});
  }
  ASSERT_THAT(detector_.growing(), SizeIs(1));
  EXPECT_NEAR(detector_.growing()[0].bytes_per_hour, 60 * kMiB, kMiB);
}

TEST_F(GrowthDetectorTest, RarerObservationsHoldUntilTheNext) {
  for (int i = 0; i <= 60; ++i) {
    detector_.observe(clock_.now(), {{"budget", "b", 0, i * 5 * kMiB, -1}});
    clock_.advance(minutes{5});
  }
  ASSERT_THAT(detector_.growing(), SizeIs(1));
  EXPECT_NEAR(detector_.growing()[0].bytes_per_hour, 60 * kMiB, kMiB);
}

TEST_F(GrowthDetectorTest, KnowsNothingAfterAGapOfAWindow) {
  observe_for(140, [](int i) { return i * kMiB; });
  clock_.advance(hours{3});
  observe_for(1, [](int) { return 500 * kMiB; });
  EXPECT_THAT(detector_.growing(), IsEmpty());
}

TEST_F(GrowthDetectorTest, AnObservationOfThePastIsLeftOut) {
  observe_for(130, [](int i) { return (1 + i) * kMiB; });
  detector_.observe(Clock::TimePoint{}, {});
  EXPECT_THAT(detector_.growing(), SizeIs(1));
}

TEST_F(GrowthDetectorTest, WhatAPoolHoldsExplainsItsBudget) {
  for (int i = 0; i < 130; ++i) {
    observe({{"budget", "b", 0, (1 + i) * kMiB, -1}, {"pool", "p", 0, (1 + i) * kMiB, -1}});
  }
  EXPECT_THAT(detector_.growing(), IsEmpty());
}

TEST_F(GrowthDetectorTest, ReservationsThatNoPoolHoldsAreNamed) {
  for (int i = 0; i < 130; ++i) {
    observe({{"budget", "b", 0, 900 * kMiB + i * kMiB, -1}, {"pool", "p", 0, 900 * kMiB, -1}});
  }
  ASSERT_THAT(detector_.growing(), SizeIs(1));
  EXPECT_EQ(detector_.growing()[0].kind, "budget");
}

TEST_F(GrowthDetectorTest, ReservationsThatNoPoolHoldsAreNamedBeneathPoolsThatSwing) {
  for (int i = 0; i < 130; ++i) {
    const double swing = i * 7919 % 310 * kMiB;
    observe({{"budget", "b", 0, 900 * kMiB + swing + (1 + i) * kMiB, -1},
             {"pool", "p", 0, 900 * kMiB + swing, -1}});
  }
  ASSERT_THAT(detector_.growing(), SizeIs(1));
  EXPECT_EQ(detector_.growing()[0].name, "b");
  EXPECT_EQ(detector_.growing()[0].stack, 0U);
  EXPECT_NEAR(detector_.growing()[0].bytes_per_hour, 60 * kMiB, kMiB);
}

TEST_F(GrowthDetectorTest, PoolsThatShrinkBesideABudgetOfOthersAreNoGrowth) {
  for (int i = 0; i < 130; ++i) {
    observe({{"budget", "b", 0, 900 * kMiB, -1}, {"pool", "p", 0, (900 - i) * kMiB, -1}});
  }
  EXPECT_THAT(detector_.growing(), IsEmpty());
}

TEST_F(GrowthDetectorTest, IdleBytesCountWhereThePoolGrowsWithThem) {
  for (int i = 0; i < 130; ++i) {
    observe({{"fragmentation", "grows", 0, (1 + i) * kMiB, -1},
             {"pool", "grows", 0, 500 * kMiB + i * kMiB, -1},
             {"fragmentation", "is load", 0, (1 + i) * kMiB, -1},
             {"pool", "is load", 0, 500 * kMiB + 4 * i * kMiB, -1},
             {"fragmentation", "is let go of", 0, (1 + i) * kMiB, -1},
             {"pool", "is let go of", 0, 500 * kMiB, -1}});
  }
  ASSERT_THAT(detector_.growing(), SizeIs(1));
  EXPECT_EQ(detector_.growing()[0].name, "grows");
}

TEST_F(GrowthDetectorTest, FastestComesFirstAndATagNamesItsPlace) {
  for (int i = 0; i < 200; ++i) {
    const double old = std::max(0, i - 60);
    observe({{"tag", "slow", 0, i * kMiB, old * kMiB},
             {"tag", "fast", 0, i * 3 * kMiB, old * 3 * kMiB},
             {"site", "fast", 5, 50 * kMiB, 0},
             {"site", "fast", 6, i * 3 * kMiB, old * 3 * kMiB}});
  }
  const auto growing = detector_.growing();
  ASSERT_THAT(growing, SizeIs(3));
  EXPECT_EQ(growing[2].name, "slow");
  EXPECT_EQ(growing[2].stack, 0U);
  for (std::size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(growing[i].name, "fast");
    EXPECT_EQ(growing[i].stack, 6U);
  }
}

TEST_F(GrowthDetectorTest, SeriesAreBoundedInNumber) {
  std::vector<Observation> many;
  for (StackId stack = 1; stack <= 20000; ++stack) many.push_back({"site", "t", stack, 1.0, 0});
  detector_.observe(clock_.now(), many);
  detector_.observe(clock_.now() + hours{1}, many);
  EXPECT_THAT(detector_.growing(), IsEmpty());
}

TEST(GrowthOptionsTest, ThatMakeNoSenseAreRefused) {
  EXPECT_THROW(GrowthDetector{{.window = Duration::zero()}}, Failure);
  EXPECT_THROW(GrowthDetector{{.step = Duration{-1}}}, Failure);
  EXPECT_THROW(GrowthDetector{{.significance = 0}}, Failure);
  const GrowthDetector coarse{{.window = minutes{12}, .step = hours{1}}};  // at most a twelfth
  EXPECT_THAT(coarse.growing(), IsEmpty());
}

TEST(GrowthOptionsTest, ShortWindowsSeeFastLeaksSoon) {
  GrowthDetector detector{{.window = minutes{2}, .step = std::chrono::seconds{1}}};
  ManualClock clock;
  for (int i = 0; i < 130; ++i) {
    detector.observe(clock.now(), {{"budget", "b", 0, (1 + i) * kMiB / 20, -1}});
    clock.advance(std::chrono::seconds{1});
  }
  EXPECT_THAT(detector.growing(), SizeIs(1));
}

// ---- Simulated loads

struct Outcome {
  std::optional<int> minute{};  // of the first alarm
  std::vector<Growth> growing{};
  unsigned alarms = 0;  // looks with one
};

// Looks once a minute, at a moment that does not depend on the load.
Outcome watch(SimulatedLoad& load, const Minute& minute, int until, bool stop_at_first) {
  GrowthDetector detector;
  Outcome outcome;
  for (int now = 1; now <= until; ++now) {
    load.advance_to(now - 1 + 0.99 * load.uniform());
    minute(load, now);
    load.advance_to(now - 0.001);
    detector.observe(SimulatedLoad::at(load.now()), load.observe(60));
    auto growing = detector.growing();
    if (growing.empty()) continue;
    ++outcome.alarms;
    if (!outcome.minute) {
      outcome.minute = now;
      outcome.growing = std::move(growing);
    }
    if (stop_at_first) break;
  }
  return outcome;
}

class SteadyLoad : public ::testing::TestWithParam<Load> {};

TEST_P(SteadyLoad, RaisesNoAlarmInADay) {
  const unsigned runs = runs_of_each(3);
  unsigned alarmed = 0;
  unsigned looks = 0;
  std::string seen;
  for (unsigned run = 0; run < runs; ++run) {
    SimulatedLoad load{run + 1};
    const Outcome outcome = watch(load, GetParam().begin(), kDay, false);
    looks += outcome.alarms;
    if (!outcome.minute) continue;
    ++alarmed;
    const Growth& first = outcome.growing.front();
    seen += "run " + std::to_string(run) + ", minute " + std::to_string(*outcome.minute) + ": " +
            first.kind + ' ' + first.to_text() + '\n';
  }
  RecordProperty("runs", static_cast<int>(runs));
  RecordProperty("alarmed", static_cast<int>(alarmed));
  if (runs > 3) {
    std::printf("%-40s %u of %u days with an alarm, %u looks\n", GetParam().name.c_str(), alarmed,
                runs, looks);
  }
  EXPECT_LE(alarmed, runs / 20) << seen;
}

std::string test_name(const std::string& name) {
  std::string text;
  for (const char c : name) {
    if (std::isalnum(static_cast<unsigned char>(c)) != 0) text += c;
  }
  return text;
}

INSTANTIATE_TEST_SUITE_P(
    All, SteadyLoad,
    ::testing::Values(testing::fill_up(500, 30), testing::fill_up(500, 80),
                      testing::fill_up(50, 60), testing::logarithmic_fill_up(180),
                      testing::day_wave(5, 1), testing::day_wave(60, 1), testing::day_wave(60, 5),
                      testing::day_wave(60, 20), testing::turnover(300, 5),
                      testing::turnover(300, 30), testing::turnover(300, 90),
                      testing::turnover(3000, 90), testing::turnover(300, 180),
                      testing::saw_tooth(7), testing::saw_tooth(25), testing::saw_tooth(60),
                      testing::saw_tooth(110), testing::batch_jobs(), testing::random_walk(10),
                      testing::random_walk(60), testing::random_walk(180), testing::full_cache()),
    [](const auto& test) { return test_name(test.param.name) + std::to_string(test.index); });

struct Leak {
  Load beside;
  double mib_per_hour = 2.5;
  double block = 65536;
  int begins = 1;          // minute
  double most_mib = 6;     // leaked by the first alarm
  double found_share = 1;  // of the runs by then
};

class LeakingLoad : public ::testing::TestWithParam<Leak> {};

TEST_P(LeakingLoad, IsNamedByTagAndPlace) {
  const Leak& leak = GetParam();
  const unsigned runs = runs_of_each(4);
  unsigned in_time = 0;
  unsigned all_named = 0;
  std::vector<double> leaked_mib;
  for (unsigned run = 0; run < runs; ++run) {
    SimulatedLoad load{run + 1001};
    double leaked = 0;
    const Minute beside = leak.beside.begin();
    const Outcome outcome = watch(
        load,
        [&](SimulatedLoad& at, int now) {
          beside(at, now);
          if (now < leak.begins) return;
          for (auto n = at.poisson(leak.mib_per_hour * kMiB / 60 / leak.block); n > 0; --n) {
            at.take("leak", kLeakingPlace, leak.block, testing::kForGood);
            leaked += leak.block / kMiB;
          }
        },
        kDay, true);
    const bool named =
        std::any_of(outcome.growing.begin(), outcome.growing.end(), [](const Growth& growth) {
          return growth.name == "leak" && growth.stack == kLeakingPlace;
        });
    all_named += named ? 1 : 0;
    in_time += named && leaked <= leak.most_mib ? 1 : 0;
    leaked_mib.push_back(leaked);
  }
  std::sort(leaked_mib.begin(), leaked_mib.end());
  if (runs > 4) {
    std::printf("%-28s %.4g MiB/h by %6.0f B: %u of %u within %g MiB; median %.2f, most %.2f\n",
                leak.beside.name.c_str(), leak.mib_per_hour, leak.block, in_time, runs,
                leak.most_mib, leaked_mib[runs / 2], leaked_mib.back());
  }
  EXPECT_GE(all_named, runs - runs / 20);
  EXPECT_GE(in_time, static_cast<unsigned>(leak.found_share * runs));
}

INSTANTIATE_TEST_SUITE_P(
    All, LeakingLoad,
    ::testing::Values(Leak{testing::nothing(), 1.25, 4096, 1, 6, 1},
                      Leak{testing::nothing(), 2, 65536, 1, 6, 0.9},
                      Leak{testing::other_tags(), 2.5, 4096, 300, 6, 1},
                      Leak{testing::other_tags(), 2, 65536, 300, 6, 0.9},
                      Leak{testing::same_tag(), 2.5, 65536, 300, 12, 0.9},
                      Leak{testing::same_place(), 2.5, 65536, 300, 14, 0.9},
                      Leak{testing::saw_tooth_of_same_tag(), 2.5, 4096, 300, 12, 0.9},
                      Leak{testing::warm_up_of_same_tag(), 2.5, 65536, 1, 8, 0.9}),
    [](const auto& test) {
      return test_name(test.param.beside.name) + std::to_string(test.index);
    });

}  // namespace
}  // namespace forebay
