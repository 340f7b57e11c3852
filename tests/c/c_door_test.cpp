// The C door where C cannot look: threads, exceptions of callbacks, allocations that fail.

#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "forebay/forebay.h"
#include "support/failing_new.hpp"

namespace forebay {
namespace {

using testing::FailingNew;

forebay_cache* make_cache() {
  forebay_cache_options options{};
  options.size = sizeof options;
  options.max_bytes = 1 << 20;
  options.shards = 4;
  forebay_cache* cache = nullptr;
  EXPECT_EQ(forebay_cache_create(&options, &cache), FOREBAY_OK);
  return cache;
}

TEST(CDoor, OneLoaderRunsForAKeyAndItsFailureIsEverybodys) {
  struct Load {
    std::atomic<int> runs{0};
    std::atomic<int> begun{0};
  } load;
  const forebay_loader loader = [](void* context, const void*, size_t, forebay_value*) {
    auto& to = *static_cast<Load*>(context);
    to.runs.fetch_add(1);
    // Until all are on their way: those who come later load again.
    while (to.begun.load() != 8) std::this_thread::yield();
    return forebay_fail(FOREBAY_USER + 3, "not today");
  };
  forebay_cache* const cache = make_cache();
  std::vector<std::thread> threads;
  std::atomic<int> failed{0};
  for (int i = 0; i != 8; ++i) {
    threads.emplace_back([&] {
      load.begun.fetch_add(1);
      forebay_entry entry;
      const auto status =
          forebay_cache_get_or_compute(cache, "key", 3, loader, &load, nullptr, &entry);
      if (status == FOREBAY_USER + 3 && forebay_last_error() == std::string{"not today"}) {
        failed.fetch_add(1);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(failed.load(), 8);
  forebay_cache_stats stats{};
  stats.size = sizeof stats;
  ASSERT_EQ(forebay_cache_get_stats(cache, &stats), FOREBAY_OK);
  EXPECT_EQ(stats.loads, static_cast<std::uint64_t>(load.runs.load()));
  EXPECT_EQ(stats.loads + stats.loads_shared, 8U);
  EXPECT_EQ(forebay_cache_destroy(cache), FOREBAY_OK);
}

TEST(CDoor, ThreadsShareACacheAndHaveErrorsOfTheirOwn) {
  forebay_cache* const cache = make_cache();
  std::vector<std::thread> threads;
  for (int t = 0; t != 4; ++t) {
    threads.emplace_back([cache, t] {
      const std::string text = "thread " + std::to_string(t);
      EXPECT_STREQ(forebay_last_error(), "");
      forebay_fail(FOREBAY_USER, text.c_str());
      for (int i = 0; i != 5000; ++i) {
        const std::string key = std::to_string(i * 7 % 3000);
        forebay_entry entry;
        if (forebay_cache_find(cache, key.data(), key.size(), &entry) == FOREBAY_OK) {
          EXPECT_EQ((std::string{static_cast<const char*>(entry.value), entry.value_size}),
                    key + key);
          forebay_entry_release(&entry);
        } else {
          const std::string value = key + key;
          EXPECT_EQ(forebay_cache_put(cache, key.data(), key.size(), value.data(), value.size(),
                                      nullptr, nullptr),
                    FOREBAY_OK);
        }
      }
      EXPECT_EQ(forebay_last_error(), text);
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(forebay_cache_destroy(cache), FOREBAY_OK);
}

TEST(CDoor, WhatACallbackThrowsIsAStatus) {
  forebay_cache* const cache = make_cache();
  forebay_entry entry;
  const forebay_loader throws = [](void*, const void*, size_t, forebay_value*) -> forebay_status {
    throw std::runtime_error{"thrown"};
  };
  EXPECT_EQ(forebay_cache_get_or_compute(cache, "a", 1, throws, nullptr, nullptr, &entry),
            FOREBAY_FAILED_PRECONDITION);
  EXPECT_STREQ(forebay_last_error(), "thrown");
  const forebay_loader throws_more = [](void*, const void*, size_t,
                                        forebay_value*) -> forebay_status { throw 1; };
  EXPECT_EQ(forebay_cache_get_or_compute(cache, "a", 1, throws_more, nullptr, nullptr, &entry),
            FOREBAY_FAILED_PRECONDITION);
  ASSERT_EQ(forebay_cache_put(cache, "a", 1, "b", 1, nullptr, nullptr), FOREBAY_OK);
  const forebay_visitor visitor = [](void*, const void*, size_t, const void*, size_t) -> bool {
    throw std::bad_alloc{};
  };
  EXPECT_EQ(forebay_cache_each(cache, visitor, nullptr), FOREBAY_MEMORY_REFUSED);
  EXPECT_EQ(forebay_cache_destroy(cache), FOREBAY_OK);
}

TEST(CDoor, AnAllocationThatFailsIsAStatusAndChangesNothing) {
  const std::string key(100, 'k');
  const std::string value(1000, 'v');
  const forebay_loader loader = [](void*, const void* bytes, size_t size, forebay_value* to) {
    return forebay_value_assign(to, bytes, size);
  };
  std::size_t refused = 0;
  bool done = false;
  for (std::size_t n = 0; !done; ++n) {
    ASSERT_LT(n, 3000U);
    forebay_status made = FOREBAY_OK;
    forebay_status put = FOREBAY_OK;
    forebay_status loaded = FOREBAY_OK;
    forebay_budget* budget = nullptr;
    forebay_cache* cache = nullptr;
    forebay_entry entry{};
    {
      const FailingNew failure{n};
      made = forebay_budget_create("budget", 1 << 20, &budget);
      forebay_cache_options options{};
      options.size = sizeof options;
      options.budget = budget;
      options.max_bytes = 1 << 20;
      options.shards = 1;
      if (made == FOREBAY_OK) made = forebay_cache_create(&options, &cache);
      if (made == FOREBAY_OK) {
        put = forebay_cache_put(cache, key.data(), key.size(), value.data(), value.size(), nullptr,
                                nullptr);
        loaded = forebay_cache_get_or_compute(cache, "load", 4, loader, nullptr, nullptr, &entry);
      }
      done = !FailingNew::has_failed();
    }
    for (const forebay_status status : {made, put, loaded}) {
      EXPECT_TRUE(status == FOREBAY_OK || status == FOREBAY_MEMORY_REFUSED)
          << status << ": " << forebay_last_error();
      refused += status == FOREBAY_OK ? 0 : 1;
    }
    if (cache != nullptr) {
      forebay_entry found;
      EXPECT_EQ(forebay_cache_find(cache, key.data(), key.size(), &found),
                put == FOREBAY_OK ? FOREBAY_OK : FOREBAY_NOT_FOUND);
      forebay_entry_release(&found);
      EXPECT_EQ(entry.key != nullptr, loaded == FOREBAY_OK);
      forebay_entry_release(&entry);
    }
    EXPECT_EQ(forebay_cache_destroy(cache), FOREBAY_OK);
    EXPECT_EQ(forebay_budget_destroy(budget), FOREBAY_OK);
  }
  EXPECT_GT(refused, 10U);
}

}  // namespace
}  // namespace forebay
