#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <set>
#include <string>

#include "track/leak_stage.hpp"

namespace forebay {
namespace {

using ::testing::IsEmpty;
using testing::leak_kinds;
using testing::LeakKind;
using testing::LeakStage;
using testing::steady_kinds;
using testing::SteadyKind;
using ::testing::Values;
using ::testing::ValuesIn;

constexpr double kMiB = 1 << 20;
constexpr double kLeakedACall = 32 << 10;
constexpr double kMibPerHour = 1.5;
constexpr int kDay = 24 * 60;

// FOREBAY_CORPUS_RUNS=20 for figures.
unsigned runs_of_each() {
  const char* const wanted = std::getenv("FOREBAY_CORPUS_RUNS");
  return wanted == nullptr ? 1 : static_cast<unsigned>(std::strtoul(wanted, nullptr, 10));
}

bool is_in(StackId stack, const std::string& function) {
  const auto frames = Tracker::frames_of(stack);
  return std::any_of(frames.begin(), frames.end(), [&](const Frame& frame) {
    return frame.function.find(function) != std::string::npos;
  });
}

bool names(const Growth& growth, const LeakKind& kind) {
  if (growth.kind != kind.series) return false;
  if (kind.series != "tag") return true;  // the pool or budget is its name
  return growth.name == "corpus/" + kind.name && is_in(growth.stack, kind.name);
}

std::string name_of(const ::testing::TestParamInfo<LeakKind>& test) { return test.param.name; }

class LeakCorpus : public ::testing::TestWithParam<LeakKind> {
 protected:
  static void leak(LeakStage& stage) {
    const TagScope corpus{"corpus"};
    const TagScope tag{GetParam().name};
    GetParam().leak(stage);
  }
};

struct Found {
  bool named = false;
  double leaked_mib = 0;
  int minute = 0;
  std::string wrong{};  // what else was said to grow
};

TEST_P(LeakCorpus, IsNamedByTagAndPlaceWithinSixMiBOfSamples) {
  for (unsigned run = 1; run <= runs_of_each(); ++run) {
    LeakStage stage{TrackingGrade::sampled, run};
    Found found;
    while (!found.named && stage.minute() < kDay) {
      for (auto n = stage.poisson(kMibPerHour * kMiB / 60 / kLeakedACall); n > 0; --n) {
        leak(stage);
        found.leaked_mib += kLeakedACall / kMiB;
      }
      stage.serve_others();
      stage.next_minute();
      for (const Growth& growth : stage.growing()) {
        found.named |= names(growth, GetParam());
        if (growth.name == "requests") found.wrong += growth.to_text() + '\n';
      }
    }
    EXPECT_TRUE(found.named);
    EXPECT_EQ(found.wrong, "");
    EXPECT_LE(found.leaked_mib, 6) << "run " << run << ", minute " << stage.minute();
    if (runs_of_each() > 1) {
      std::printf("%s: %.2f MiB, %d min\n", GetParam().name.c_str(), found.leaked_mib,
                  stage.minute());
    }
  }
}

TEST_P(LeakCorpus, IsReportedExactlySinceAMark) {
  LeakStage stage{TrackingGrade::full, 1};
  stage.serve_others();
  const Mark mark = Tracker::mark("before");
  for (int call = 0; call < 4; ++call) leak(stage);
  const LeakReport report = Tracker::since(mark);
  EXPECT_TRUE(report.exact);
  double bytes = 0;
  for (const LeakGroup& group : report.groups) {
    EXPECT_EQ(group.tag, "corpus/" + GetParam().name);
    EXPECT_TRUE(is_in(group.stack, GetParam().name)) << report.to_text();
    bytes += group.bytes;
  }
  EXPECT_EQ(bytes, 4.0 * static_cast<double>(GetParam().blocks_bytes)) << report.to_text();
}

INSTANTIATE_TEST_SUITE_P(Kinds, LeakCorpus, ValuesIn(leak_kinds()), name_of);

TEST(LeakCorpusSize, IsAtLeastTwentyFourKinds) {
  std::set<std::string> kinds;
  for (const LeakKind& kind : leak_kinds()) kinds.insert(kind.name);
  EXPECT_GE(kinds.size(), 24U);
}

TEST(LeakCorpusCycles, AreReportedAsCycles) {
  for (const LeakKind& kind : leak_kinds()) {
    if (kind.name.rfind("cycle_", 0) != 0) continue;
    LeakStage stage{TrackingGrade::full, 1};
    kind.leak(stage);
    kind.leak(stage);
    const auto cycles = Tracker::shared_cycles();
    ASSERT_EQ(cycles.size(), 2U) << kind.name;
    EXPECT_EQ(cycles[0].bytes, Bytes{32 << 10}) << kind.name;
  }
  EXPECT_THAT(Tracker::shared_cycles(), IsEmpty());
}

class SteadyService : public ::testing::TestWithParam<SteadyKind> {};

TEST_P(SteadyService, RaisesNoAlarmInADay) {
  for (unsigned run = 1; run <= runs_of_each(); ++run) {
    LeakStage stage{TrackingGrade::sampled, run};
    unsigned alarms = 0;
    while (stage.minute() < kDay) {
      GetParam().minute(stage);
      stage.next_minute();
      for (const Growth& growth : stage.growing()) {
        if (++alarms <= 3) {
          ADD_FAILURE() << "run " << run << ", minute " << stage.minute() << ": "
                        << growth.to_text() << " (" << growth.kind << ", " << growth.bytes / kMiB
                        << " MiB, p " << growth.p_value << ')';
        }
      }
    }
    EXPECT_EQ(alarms, 0U);
  }
}

INSTANTIATE_TEST_SUITE_P(Day, SteadyService, ValuesIn(steady_kinds()),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace forebay
