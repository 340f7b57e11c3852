#include "trace/replay.hpp"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <random>

namespace forebay::trace {
namespace {

using namespace literals;

TraceSource source_of(const std::string& text) {
  return [&text] { return Reader::over(text, "t"); };
}

Replay replayed(const TraceSource& source, const std::vector<std::string>& pools,
                const ReplayOptions& options) {
  const Demand demand = survey(source().value(), {}).value();
  const auto setups = parse_pools(pools, options.on_host).value();
  auto result = replay(source, demand, setups, options);
  EXPECT_TRUE(result.ok()) << result.status().message();
  return std::move(result).value();
}

ReplayOptions simulated(Bytes capacity) {
  ReplayOptions options;
  options.on_host = false;
  options.capacity = capacity;
  options.repeat = 1;
  return options;
}

ReplayOptions on_host() {
  ReplayOptions options;
  options.repeat = 1;
  return options;
}

std::string alloc(std::uint64_t id, std::uint64_t bytes, double time = 0) {
  return fmt::format("{{\"t\":{},\"op\":\"alloc\",\"id\":{},\"bytes\":{}}}\n", time, id, bytes);
}
std::string free_of(std::uint64_t id, double time = 0) {
  return fmt::format("{{\"t\":{},\"op\":\"free\",\"id\":{}}}\n", time, id);
}

std::string random_trace(std::size_t operations) {
  std::mt19937_64 random{5};
  std::vector<std::uint64_t> live;
  std::string text;
  for (std::uint64_t id = 1; id <= operations; ++id) {
    if (live.size() < 4 || (live.size() < 200 && random() % 2 == 0)) {
      text += alloc(id, 1 + random() % (64 << 10), 1e-4 * static_cast<double>(id));
      live.push_back(id);
    } else {
      std::swap(live[random() % live.size()], live.back());
      text += free_of(live.back(), 1e-4 * static_cast<double>(id));
      live.pop_back();
    }
  }
  return text;
}

TEST(Replay, EachConfigurationSeesTheSameDemand) {
  const std::string text = random_trace(3000);
  const Replay result = replayed(source_of(text), {}, on_host());
  ASSERT_EQ(result.runs.size(), 5U);
  for (const ReplayRun& run : result.runs) {
    EXPECT_EQ(run.operations, 3000U) << run.name;
    EXPECT_EQ(run.peak_live, result.demand.peak_live) << run.name;
    EXPECT_EQ(run.peak_served, result.demand.peak_live) << run.name;
    EXPECT_GE(run.peak_reserved, run.peak_served) << run.name;
    EXPECT_EQ(run.refused, 0U) << run.name;
    EXPECT_GT(run.ns_per_operation, 0) << run.name;
    EXPECT_LE(run.ns_least, run.ns_per_operation);
    EXPECT_LE(run.ns_per_operation, run.ns_most);
  }
  EXPECT_FALSE(result.all_refused);
}

TEST(Replay, TheSameTraceHasTheSameMemoryEachTime) {
  const std::string text = random_trace(2000);
  const Replay first = replayed(source_of(text), {}, simulated(1_GiB));
  const Replay second = replayed(source_of(text), {}, simulated(1_GiB));
  for (std::size_t i = 0; i < first.runs.size(); ++i) {
    EXPECT_EQ(first.runs[i].peak_reserved, second.runs[i].peak_reserved);
    EXPECT_EQ(first.runs[i].hit_rate, second.runs[i].hit_rate);
    EXPECT_EQ(first.runs[i].device_calls, second.runs[i].device_calls);
    EXPECT_GT(first.runs[i].device_calls, 0U);
    EXPECT_EQ(first.runs[i].fragmentation.mean, second.runs[i].fragmentation.mean);
  }
}

// Without a pool, what is refused follows from the capacity alone.
TEST(Replay, CountsRefusalsAsANaiveModelDoes) {
  constexpr std::uint64_t kUnit = 512;  // of the simulated device
  constexpr std::uint64_t kCapacity = 1 << 20;
  std::mt19937_64 random{3};
  std::map<std::uint64_t, std::uint64_t> served, asked;
  std::uint64_t used = 0, live = 0, peak = 0, refused = 0;
  std::string text;
  for (std::uint64_t id = 1; id <= 4000; ++id) {
    if (asked.size() < 100 && random() % 3 != 0) {
      const std::uint64_t bytes = 1 + random() % 40000;
      const std::uint64_t taken = (bytes + kUnit - 1) / kUnit * kUnit;
      text += alloc(id, bytes);
      asked[id] = bytes;
      if (used + taken > kCapacity) {
        ++refused;
      } else {
        served[id] = taken;
        used += taken;
        live += bytes;
        peak = std::max(peak, live);
      }
    } else if (!asked.empty()) {
      const auto victim =
          std::next(asked.begin(), static_cast<std::ptrdiff_t>(random() % asked.size()));
      text += free_of(victim->first);
      if (const auto block = served.find(victim->first); block != served.end()) {
        used -= block->second;
        live -= victim->second;
        served.erase(block);
      }
      asked.erase(victim);
    }
  }
  ASSERT_GT(refused, 10U);
  const Replay result = replayed(source_of(text), {"direct"}, simulated(Bytes{kCapacity}));
  EXPECT_EQ(result.runs[0].refused, refused);
  EXPECT_EQ(result.runs[0].peak_served, Bytes{peak});
  EXPECT_LE(result.runs[0].peak_reserved, Bytes{kCapacity});
  EXPECT_TRUE(result.all_refused);
}

TEST(Replay, AFreeOfWhatWasRefusedIsLeftOut) {
  const std::string text = alloc(1, 3 << 20) + alloc(2, 2 << 20) + free_of(2) + free_of(1) +
                           alloc(2, 2 << 20) + free_of(2);
  const Replay result = replayed(source_of(text), {"direct", "default"}, simulated(4_MiB));
  for (const ReplayRun& run : result.runs) {
    EXPECT_EQ(run.refused, 1U) << run.name;
    EXPECT_EQ(run.first_refused, 2_MiB) << run.name;
    EXPECT_EQ(run.live_at_refusal, 3_MiB) << run.name;
  }
}

TEST(Replay, ALimitOfTheHostHolds) {
  ReplayOptions options = on_host();
  options.capacity = 4_MiB;
  const std::string text = alloc(1, 3 << 20) + alloc(2, 2 << 20) + free_of(1);
  const Replay result = replayed(source_of(text), {"direct", "default"}, options);
  for (const ReplayRun& run : result.runs) {
    EXPECT_EQ(run.refused, 1U) << run.name;
    EXPECT_LE(run.peak_reserved, 4_MiB) << run.name;
  }
}

TEST(Replay, WhatIsWrittenIsSeenAsResident) {
  ReplayOptions options = on_host();
  options.touch = true;
  const std::string text = alloc(1, 64 << 20) + free_of(1);
  const Replay touched = replayed(source_of(text), {"default"}, options);
  EXPECT_GE(touched.runs[0].peak_resident, 64_MiB);
  options.touch = false;
  const Replay untouched = replayed(source_of(text), {"default"}, options);
  EXPECT_LT(untouched.runs[0].peak_resident, 32_MiB);
}

// A pool gives back by the trace's own time.
TEST(Replay, TimeOfTheTraceAgesWhatIsIdle) {
  std::string text = alloc(1, 8 << 20) + free_of(1, 0.1);
  for (int i = 1; i <= 200; ++i) text += alloc(1000 + static_cast<std::uint64_t>(i), 64, i * 0.5);
  const Replay result =
      replayed(source_of(text), {"short:ttl=5s", "long:ttl=10h"}, simulated(1_GiB));
  EXPECT_LT(result.runs[0].samples.back().reserved, 8_MiB);
  EXPECT_GE(result.runs[1].samples.back().reserved, 8_MiB);
}

TEST(Replay, OneLongGapAgesWhatIsIdle) {
  const std::string text = alloc(1, 8 << 20) + alloc(2, 40000) + free_of(1, 0.1) + free_of(2, 0.1) +
                           alloc(3, 64, 3600) + alloc(4, 64, 3600);
  const Replay result = replayed(source_of(text), {"default", "long:ttl=10h"}, simulated(1_GiB));
  EXPECT_LE(result.runs[0].samples.back().reserved, 2_MiB);  // the region of what lives
  EXPECT_GE(result.runs[1].samples.back().reserved, 8_MiB);
}

TEST(Replay, LooksAtTheTopOfEachInterval) {
  std::string text;
  for (std::uint64_t i = 0; i < 1000; ++i) text += alloc(2 * i + 1, 1) + free_of(2 * i + 1);
  text += alloc(5000, 1 << 20) + free_of(5000);  // a spike between two looks
  for (std::uint64_t i = 3000; i < 3100; ++i) text += alloc(2 * i + 1, 1) + free_of(2 * i + 1);
  ReplayOptions options = simulated(1_GiB);
  options.intervals = 10;
  const Replay result = replayed(source_of(text), {"direct"}, options);
  const auto& samples = result.runs[0].samples;
  EXPECT_LE(samples.size(), 24U);
  Bytes most;
  std::uint64_t last = 0;
  for (const Sample& sample : samples) {
    most = std::max(most, sample.live);
    EXPECT_TRUE(sample.operation > last || sample.operation == 0);
    last = sample.operation;
  }
  EXPECT_EQ(most, 1_MiB);
  EXPECT_EQ(last, result.demand.operations);
}

TEST(Replay, CanBeStoppedInAnyPass) {
  const std::string text = random_trace(100);
  const TraceSource source = source_of(text);
  const Demand demand = survey(source().value(), {}).value();
  const auto setups = parse_pools({}, false).value();
  int all = 0;
  ReplayOptions options = simulated(1_GiB);
  options.progress = [&all](double) { return ++all > 0; };
  ASSERT_TRUE(replay(source, demand, setups, options).ok());
  for (const int most : {0, all / 3, all / 2, all - 1}) {
    int left = most;
    options.progress = [&left](double) { return left-- > 0; };
    EXPECT_EQ(replay(source, demand, setups, options).status().code(), Code::interrupted) << most;
  }
}

TEST(Replay, NoticesATraceThatChanged) {
  const std::string small = alloc(1, 8);
  const std::string large = alloc(1, 8) + alloc(2, 8) + alloc(3, 8);
  const Demand demand = survey(Reader::over(small, "t").value(), {}).value();
  const auto setups = parse_pools({}, false).value();
  const auto result = replay(source_of(large), demand, setups, simulated(1_GiB));
  EXPECT_EQ(result.status().code(), Code::failed_precondition);
}

TEST(Replay, NoticesATraceThatChangedWithoutMoreBlocks) {
  const std::string first = alloc(1, 8) + free_of(1) + alloc(2, 8) + free_of(2);
  const Demand demand = survey(Reader::over(first, "t").value(), {}).value();
  const auto setups = parse_pools({}, false).value();
  EXPECT_TRUE(replay(source_of(first), demand, setups, simulated(1_GiB)).ok());
  for (const std::string& other : {alloc(1, 8) + free_of(1), first + alloc(3, 8),
                                   alloc(1, 8) + free_of(1) + alloc(2, 9) + free_of(2),
                                   alloc(1, 8) + free_of(1) + alloc(2, 8)}) {
    const auto result = replay(source_of(other), demand, setups, simulated(1_GiB));
    EXPECT_EQ(result.status().code(), Code::failed_precondition) << other;
  }
}

TEST(Replay, BlocksThatTheTraceNeverFreesGoBack) {
  const std::string text = alloc(1, 4096) + alloc(2, 100000) + alloc(3, 0);
  const Replay result = replayed(source_of(text), {}, on_host());
  EXPECT_EQ(result.demand.live, Bytes{104096});  // and no pool aborted for blocks still live
}

class ShippedTrace : public testing::TestWithParam<const char*> {};

TEST_P(ShippedTrace, IsServedInFull) {
  const std::filesystem::path file = std::filesystem::path{FOREBAY_TRACES} / GetParam();
  const TraceSource source = [&] { return Reader::open(file); };
  const Replay result = replayed(source, {}, simulated(40_GiB));
  EXPECT_GT(result.demand.operations, 2000U);
  EXPECT_EQ(result.demand.left_out, 0U);
  for (const ReplayRun& run : result.runs) EXPECT_EQ(run.refused, 0U) << run.name;
}

INSTANTIATE_TEST_SUITE_P(All, ShippedTrace,
                         testing::Values("transformer_step.jsonl", "llm_serving.jsonl",
                                         "random.csv"),
                         [](const auto& parameter) {
                           std::string name = parameter.param;
                           return name.substr(0, name.find('.'));
                         });

}  // namespace
}  // namespace forebay::trace
