#include <gtest/gtest.h>

#include <thread>

#include "forebay/budget.hpp"
#include "forebay/governor.hpp"
#include "governor/fake_tree.hpp"

namespace forebay {
namespace {

using namespace forebay::literals;
using namespace std::chrono_literals;

class StageLogTest : public ::testing::Test {
 protected:
  std::vector<std::string> names(const StageLog& log) {
    std::vector<std::string> all;
    for (const Stage& stage : log.stages()) all.push_back(stage.name);
    return all;
  }

  testing::FakeTree tree_;
  PressureMonitor monitor_{{.root = tree_.process().root()}};
  ManualClock clock_;
  Budget budget_{"process", {.limit = 8_MiB}};
};

TEST_F(StageLogTest, ShowsBudgetAndProcessAtEachStage) {
  StageLog log{budget_, monitor_, 8, {}, clock_};
  log.record("start");
  auto weights = budget_.reserve(2_MiB).value();
  clock_.advance(3s);
  const Stage loaded = log.record("model loaded");
  weights.release();
  ASSERT_TRUE(budget_.set_limit(4_MiB).ok());
  clock_.advance(1s);
  log.record("end");

  const auto stages = log.stages();
  ASSERT_EQ(stages.size(), 3u);
  EXPECT_EQ(stages[0].name, "start");
  EXPECT_EQ(stages[0].at, 0s);
  EXPECT_EQ(stages[0].used, Bytes{});
  EXPECT_EQ(stages[0].line, 8_MiB);
  EXPECT_GT(stages[0].resident, Bytes{});
  EXPECT_EQ(stages[1].name, "model loaded");
  EXPECT_EQ(stages[1].at, 3s);
  EXPECT_EQ(stages[1].used, 2_MiB);
  EXPECT_EQ(stages[1].peak, 2_MiB);
  EXPECT_EQ(loaded.used, stages[1].used);
  EXPECT_EQ(stages[2].at, 4s);
  EXPECT_EQ(stages[2].used, Bytes{});
  EXPECT_EQ(stages[2].peak, 2_MiB);
  EXPECT_EQ(stages[2].line, 4_MiB);
  EXPECT_EQ(log.dropped(), 0u);
}

TEST_F(StageLogTest, KeepsTheFirstAndTheLatest) {
  StageLog log{budget_, monitor_, 4, {}, clock_};
  for (const char* name : {"a", "b", "c", "d"}) log.record(name);
  EXPECT_EQ(names(log), (std::vector<std::string>{"a", "b", "c", "d"}));
  EXPECT_EQ(log.dropped(), 0u);
  log.record("e");
  EXPECT_EQ(names(log), (std::vector<std::string>{"a", "b", "d", "e"}));
  for (const char* name : {"f", "g"}) log.record(name);
  EXPECT_EQ(names(log), (std::vector<std::string>{"a", "b", "f", "g"}));
  EXPECT_EQ(log.dropped(), 3u);
}

TEST_F(StageLogTest, StaysWithinAnyCapacity) {
  for (std::size_t capacity = 0; capacity < 6; ++capacity) {
    StageLog log{budget_, monitor_, capacity, {}, clock_};
    for (int i = 0; i < 100; ++i) log.record(std::to_string(i));
    EXPECT_EQ(log.stages().size(), capacity);
    EXPECT_EQ(log.dropped(), 100 - capacity);
    if (capacity > 0) {
      EXPECT_EQ(log.stages().back().name, "99");
    }
  }
}

TEST_F(StageLogTest, TellsTheSinkEachStageAndMayBeAskedFromIt) {
  std::vector<std::string> told;
  StageLog* asked = nullptr;
  StageLog log{budget_, monitor_, 2,
               [&](const Stage& stage) {
                 told.push_back(stage.name);
                 EXPECT_EQ(asked->stages().back().name, stage.name);
               },
               clock_};
  asked = &log;
  for (const char* name : {"a", "b", "c", "d"}) log.record(name);
  EXPECT_EQ(told, (std::vector<std::string>{"a", "b", "c", "d"}));
}

TEST_F(StageLogTest, LogsOnWhenTheProcessCannotBeRead) {
  const PressureMonitor blind{{.root = tree_.root() / "nowhere"}};
  StageLog log{budget_, blind, 4, {}, clock_};
  EXPECT_EQ(log.record("start").resident, Bytes{});
  EXPECT_EQ(log.stages().size(), 1u);
}

TEST_F(StageLogTest, LosesNoStageOfSeveralThreads) {
  constexpr int kThreads = 4;
  constexpr int kStages = 50;
  StageLog log{budget_, monitor_, 64, {}, clock_};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&log] {
      for (int i = 0; i < kStages; ++i) log.record("stage");
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(log.stages().size() + log.dropped(), std::size_t{kThreads * kStages});
}

}  // namespace
}  // namespace forebay
