// get_or_compute: one loader a key at a time.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "forebay/cache.hpp"

namespace forebay {
namespace {

using namespace forebay::literals;

TEST(CacheLoader, LoadsOnceAndFindsThen) {
  Cache<int, std::string> cache;
  int loads = 0;
  const auto load = [&](int key) {
    ++loads;
    return std::to_string(key);
  };
  EXPECT_EQ(**cache.get_or_compute(7, load), "7");
  EXPECT_EQ(**cache.get_or_compute(7, load), "7");
  EXPECT_EQ(loads, 1);
  EXPECT_EQ(cache.stats().loads, 1U);
  EXPECT_EQ(cache.stats().hits, 1U);
}

// All but the loader are known to wait before it goes on: their misses are counted.
TEST(CacheLoader, SixtyFourThreadsRunOneLoader) {
  Cache<int, int> cache;
  std::atomic<int> loads{0};
  std::atomic<int> right{0};
  constexpr int kThreads = 64;
  const auto load = [&](int key) {
    ++loads;
    while (cache.stats().misses < kThreads) std::this_thread::yield();
    return key * 2;
  };
  std::vector<std::thread> threads;
  for (int i = 0; i != kThreads; ++i) {
    threads.emplace_back([&] {
      const auto value = cache.get_or_compute(21, load);
      if (value && **value == 42) ++right;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(loads, 1);
  EXPECT_EQ(right, kThreads);
  EXPECT_EQ(cache.stats().loads, 1U);
  cache.validate();
}

TEST(CacheLoader, AFailureIsNotKept) {
  Cache<int, int> cache;
  const auto failed = cache.get_or_compute(1, [](int) -> Result<int> {
    return Status{Code::io_error, "no such thing"};
  });
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.status().message(), "no such thing");
  EXPECT_EQ(**cache.get_or_compute(1, [](int) { return 5; }), 5);
  EXPECT_EQ(cache.stats().load_failures, 1U);
}

TEST(CacheLoader, AFailureIsKeptForAsLongAsAsked) {
  ManualClock clock;
  CacheOptions options;
  options.clock = &clock;
  Cache<int, int> cache{options};
  int loads = 0;
  const auto load = [&](int) -> Result<int> {
    ++loads;
    return Status{Code::io_error, "down"};
  };
  const EntryOptions kept{.failure_ttl = std::chrono::seconds{1}};
  EXPECT_FALSE(cache.get_or_compute(1, load, kept));
  EXPECT_EQ(cache.get_or_compute(1, load, kept).status().message(), "down");
  EXPECT_EQ(loads, 1);
  clock.advance(std::chrono::seconds{1});
  EXPECT_FALSE(cache.get_or_compute(1, load));
  EXPECT_EQ(loads, 2);
}

TEST(CacheLoader, WhatALoaderThrowsPassesThroughAndTheNextOneLoads) {
  Cache<int, int> cache;
  EXPECT_THROW(static_cast<void>(
                   cache.get_or_compute(1, [](int) -> int { throw std::runtime_error{"broken"}; })),
               std::runtime_error);
  EXPECT_EQ(**cache.get_or_compute(1, [](int) { return 5; }), 5);
}

TEST(CacheLoader, WaitersOfALoaderThatThrowsAreTold) {
  Cache<int, int> cache;
  std::atomic<int> told{0};
  std::vector<std::thread> threads;
  for (int i = 0; i != 4; ++i) {
    threads.emplace_back([&] {
      try {
        const auto value = cache.get_or_compute(1, [&](int) -> int {
          while (cache.stats().misses < 4) std::this_thread::yield();
          throw std::runtime_error{"broken"};
        });
        if (!value) ++told;
      } catch (const std::runtime_error&) {
        ++told;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(told, 4);
}

TEST(CacheLoader, ALoaderThatAsksForItsOwnKeyIsToldSo) {
  Cache<int, int> cache;
  const auto value = cache.get_or_compute(1, [&](int) -> Result<int> {
    const auto inner = cache.get_or_compute(1, [](int) { return 1; });
    EXPECT_EQ(inner.status().code(), Code::failed_precondition);
    return 2;
  });
  EXPECT_EQ(**value, 2);
}

TEST(CacheLoader, AValueThatTheCacheHasNoRoomForIsTheCallersAlone) {
  CacheOptions options;
  options.max_bytes = 1_KiB;
  Cache<int, std::string> cache{
      options, {.weigher = [](int, const std::string& text) { return Bytes{text.size()}; }}};
  auto value = cache.get_or_compute(1, [](int) { return std::string(5000, 'x'); });
  ASSERT_TRUE(value);
  EXPECT_EQ((*value)->size(), 5000U);
  EXPECT_EQ(value->key(), 1);
  EXPECT_EQ(cache.stats().entries, 0U);
  EXPECT_EQ(cache.stats().used, 0_B);
  auto moved = std::move(*value);
  EXPECT_EQ(moved->size(), 5000U);
}

TEST(CacheLoader, TheCostIsWhatTheLoaderTook) {
  ManualClock clock;
  CacheOptions options;
  options.clock = &clock;
  Cache<int, int> cache{options};
  static_cast<void>(cache.get_or_compute(1, [&](int) {
    clock.advance(std::chrono::milliseconds{3});
    return 1;
  }));
  EXPECT_EQ(cache.stats().load_time, std::chrono::milliseconds{3});
}

}  // namespace
}  // namespace forebay
