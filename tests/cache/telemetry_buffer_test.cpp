// TelemetryBuffer: in order, bounded, and every drop counted.

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <atomic>
#include <deque>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "forebay/cache_streams.hpp"

namespace forebay {
namespace {

using namespace forebay::literals;
using namespace std::chrono_literals;

using Numbers = TelemetryBuffer<std::uint64_t>;

std::vector<std::uint64_t> drained(Numbers& buffer, std::uint64_t most = ~std::uint64_t{0}) {
  std::vector<std::uint64_t> values;
  buffer.drain([&](std::uint64_t, std::uint64_t value) { values.push_back(value); }, most);
  return values;
}

TEST(TelemetryBuffer, DrainsInOrder) {
  Numbers buffer{{.max_records = 8}};
  for (std::uint64_t i = 0; i != 5; ++i) EXPECT_TRUE(buffer.push(i));
  EXPECT_EQ(drained(buffer, 2), (std::vector<std::uint64_t>{0, 1}));
  EXPECT_EQ(drained(buffer), (std::vector<std::uint64_t>{2, 3, 4}));
  EXPECT_TRUE(drained(buffer).empty());
  EXPECT_EQ(buffer.stats().drained, 5U);
}

TEST(TelemetryBuffer, DropsTheOldestAndTheNumbersShowIt) {
  Numbers buffer{{.max_records = 8}};
  for (std::uint64_t i = 0; i != 20; ++i) EXPECT_TRUE(buffer.push(i));
  std::vector<std::uint64_t> numbers;
  buffer.drain([&](std::uint64_t number, std::uint64_t value) {
    EXPECT_EQ(number, value);
    numbers.push_back(number);
  });
  EXPECT_EQ(numbers.front(), 12U);
  EXPECT_EQ(numbers.size(), 8U);
  const TelemetryBufferStats stats = buffer.stats();
  EXPECT_EQ(stats.dropped_oldest, 12U);
  EXPECT_EQ(stats.dropped_newest, 0U);
  EXPECT_EQ(stats.pushed, 20U);
  EXPECT_EQ(stats.drained, 8U);
}

TEST(TelemetryBuffer, WhatRecordsHoldElsewhereIsBounded) {
  TelemetryBuffer<std::string> buffer{
      {.max_bytes = 10_KiB, .max_records = 64},
      [](const std::string& text) { return Bytes{text.capacity()}; }};
  const Bytes cells = buffer.stats().used;
  for (int i = 0; i != 30; ++i) {
    EXPECT_TRUE(buffer.push(std::string(2000, 'x')));
    EXPECT_LE(buffer.stats().used, 10_KiB);
  }
  EXPECT_GE(buffer.stats().dropped_oldest, 25U);
  EXPECT_FALSE(buffer.push(std::string(20'000, 'x')));  // never fits, and nothing goes for it
  EXPECT_EQ(buffer.stats().dropped_newest, 1U);
  EXPECT_GT(buffer.stats().records, 0U);
  buffer.clear();
  EXPECT_EQ(buffer.stats().used, cells);
}

TEST(TelemetryBuffer, TakesItsBytesFromTheBudgetAtTheStart) {
  Budget budget{"line", {.limit = 1_MiB}};
  {
    TelemetryBuffer<std::string> buffer{{.max_bytes = 256_KiB, .budget = &budget}};
    EXPECT_EQ(budget.stats().used, 256_KiB);
    auto rest = budget.reserve(768_KiB);
    ASSERT_TRUE(rest);
    EXPECT_TRUE(buffer.push("there is no memory left"));
    EXPECT_THROW((Numbers{{.max_bytes = 1_KiB, .budget = &budget}}), std::exception);
  }
  EXPECT_EQ(budget.stats().used, 0_B);
}

TEST(TelemetryBuffer, OldRecordsAreNotHandedOut) {
  ManualClock clock;
  Numbers buffer{{.max_records = 8, .max_age = 30s, .clock = &clock}};
  for (std::uint64_t i = 0; i != 4; ++i) {
    EXPECT_TRUE(buffer.push(i));
    clock.advance(10s);
  }
  EXPECT_EQ(buffer.cleanup_expired(), 2U);
  EXPECT_EQ(buffer.cleanup_expired(), 0U);
  clock.advance(10s);
  EXPECT_EQ(drained(buffer), (std::vector<std::uint64_t>{3}));
  EXPECT_EQ(buffer.stats().expired, 3U);
}

TEST(TelemetryBuffer, OptionsThatMakeNoSenseAreNamed) {
  EXPECT_THROW((Numbers{{.max_bytes = 40_B}}), Failure);
  EXPECT_THROW((Numbers{{.max_records = 0}}), Failure);
  EXPECT_THROW((Numbers{{.max_age = -1s}}), Failure);
  EXPECT_EQ((Numbers{{.max_records = 100}}.stats().max_records), 100U);
  EXPECT_EQ((Numbers{{.max_bytes = 32_KiB}}.stats().max_records), 768U);
}

TEST(TelemetryBuffer, DestroysWhatItDropsAndWhatIsLeft) {
  const auto alive = std::make_shared<int>(1);
  {
    TelemetryBuffer<std::shared_ptr<int>> buffer{{.max_records = 4}};
    for (int i = 0; i != 10; ++i) EXPECT_TRUE(buffer.push(alive));
    EXPECT_EQ(alive.use_count(), 5);
  }
  EXPECT_EQ(alive.use_count(), 1);
}

TEST(TelemetryBufferModel, IsWhatANaiveQueueIs) {
  EXPECT_TRUE(rc::check([] {
    ManualClock clock;
    Numbers buffer{{.max_bytes = 4_KiB, .max_records = 16, .max_age = 50s, .clock = &clock},
                   [](std::uint64_t value) { return Bytes{value}; }};
    const std::uint64_t room = (4_KiB - buffer.stats().used).count();
    struct Entry {
      std::uint64_t value;
      Duration time;
    };
    std::deque<Entry> naive;
    std::uint64_t weight = 0;
    std::uint64_t dropped = 0;
    std::uint64_t expired = 0;
    Duration now{0};
    const auto pop = [&](std::uint64_t& count) {
      weight -= naive.front().value;
      naive.pop_front();
      ++count;
    };
    const auto expire = [&] {
      while (!naive.empty() && now - naive.front().time >= 50s) pop(expired);
    };
    for (int step = *rc::gen::inRange(0, 300); step > 0; --step) {
      const auto value = *rc::gen::inRange<std::uint64_t>(0, 1000);
      switch (*rc::gen::inRange(0, 8)) {
        case 0: {
          const Duration by = std::chrono::seconds{value % 20};
          clock.advance(by);
          now += by;
          break;
        }
        case 1: {
          expire();
          std::vector<std::uint64_t> expected;
          for (std::uint64_t n = value % 5; n != 0 && !naive.empty(); --n) {
            expected.push_back(naive.front().value);
            std::uint64_t taken = 0;
            pop(taken);
          }
          RC_ASSERT(drained(buffer, value % 5) == expected);
          if (value % 5 == 0) buffer.cleanup_expired();
          break;
        }
        default:
          while (!naive.empty() && weight + value > room) pop(dropped);
          if (naive.size() == 16) pop(dropped);
          RC_ASSERT(buffer.push(value));
          naive.push_back({value, now});
          weight += value;
      }
      const TelemetryBufferStats stats = buffer.stats();
      RC_ASSERT(stats.records == naive.size());
      RC_ASSERT(stats.dropped_oldest == dropped);
      RC_ASSERT(stats.expired == expired);
      RC_ASSERT(stats.used.count() == 4096 - room + weight);
      RC_ASSERT(stats.pushed == stats.records + stats.drained + dropped + expired);
    }
  }));
}

// Of each thread's records those that arrive are in its order; all others are counted.
void churn(int producers, std::uint64_t each, std::uint32_t records, int drainers) {
  TelemetryBuffer<std::uint64_t> buffer{{.max_records = records}};
  std::atomic<int> at_work{producers};
  std::atomic<std::uint64_t> arrived{0};
  std::atomic<std::uint64_t> lost{0};
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t != producers; ++t) {
    threads.emplace_back([&, t] {
      for (std::uint64_t i = 0; i != each; ++i) {
        if (!buffer.push(static_cast<std::uint64_t>(t) << 32 | i)) ++lost;
      }
      --at_work;
    });
  }
  for (int d = 0; d != drainers; ++d) {
    threads.emplace_back([&] {
      std::vector<std::uint64_t> next(static_cast<std::size_t>(producers), 0);
      std::uint64_t number = 0;
      bool last = false;
      do {
        last = at_work == 0;
        arrived += buffer.drain([&](std::uint64_t at, std::uint64_t value) {
          std::uint64_t& expected = next[value >> 32];
          if ((value & 0xffffffff) < expected || at < number) ++wrong;
          expected = (value & 0xffffffff) + 1;
          number = at + 1;
        });
      } while (!last);
    });
  }
  for (std::thread& thread : threads) thread.join();
  const TelemetryBufferStats stats = buffer.stats();
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(stats.dropped_newest, lost);
  EXPECT_EQ(stats.drained, arrived);
  EXPECT_EQ(stats.pushed + lost, each * static_cast<std::uint64_t>(producers));
  EXPECT_EQ(stats.pushed, stats.drained + stats.dropped_oldest + stats.records);
}

TEST(TelemetryBufferThreads, EveryRecordArrivesOrIsCounted) { churn(2, 50'000, 64, 1); }
TEST(TelemetryBufferThreads, ATinyBufferCountsAsWell) { churn(4, 20'000, 2, 1); }
TEST(TelemetryBufferThreads, SeveralDrain) { churn(3, 20'000, 16, 2); }
TEST(TelemetryBufferThreads, OneRecordAtATime) { churn(2, 20'000, 1, 1); }
TEST(TelemetryBufferThreads, NobodyDrains) { churn(4, 20'000, 1024, 0); }

}  // namespace
}  // namespace forebay
