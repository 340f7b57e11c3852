#include "trace/belady.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <unordered_map>

#include "trace/cache_traces.hpp"

namespace forebay::trace {
namespace {

using detail::CacheRequest;

std::uint64_t misses_of(const std::vector<CacheRequest>& trace, std::uint64_t capacity,
                        BeladyCache::Rule rule, BeladyCache* out = nullptr) {
  NextUses next;
  next.add(trace);
  BeladyCache cache{rule, capacity};
  for (std::size_t i = 0; i < trace.size(); ++i) {
    cache.request(trace[i], i, next.of(i));
    EXPECT_LE(cache.used(), capacity);
  }
  const std::uint64_t missed = cache.counts().requests - cache.counts().hits;
  if (out != nullptr) *out = std::move(cache);
  return missed;
}

// The least misses of all caches there could be: over every set of contents after each request.
std::uint64_t least_misses(const std::vector<CacheRequest>& trace, std::uint64_t capacity) {
  std::map<std::uint64_t, std::uint64_t> size_of;
  for (const CacheRequest& request : trace) size_of[request.key] = request.bytes;
  const auto fits = [&](const std::set<std::uint64_t>& keys) {
    std::uint64_t sum = 0;
    for (const std::uint64_t key : keys) sum += size_of[key];
    return sum <= capacity;
  };
  std::map<std::set<std::uint64_t>, std::uint64_t> reached{{{}, 0}};
  for (const CacheRequest& request : trace) {
    std::map<std::set<std::uint64_t>, std::uint64_t> after;
    for (const auto& [before, misses] : reached) {
      const std::uint64_t now = misses + (before.contains(request.key) ? 0 : 1);
      // Any subset of what is there, with the newcomer or without.
      std::vector<std::uint64_t> all{before.begin(), before.end()};
      if (!before.contains(request.key)) all.push_back(request.key);
      for (std::uint64_t bits = 0; bits < 1ULL << all.size(); ++bits) {
        std::set<std::uint64_t> keys;
        for (std::size_t i = 0; i < all.size(); ++i) {
          if ((bits >> i & 1) != 0) keys.insert(all[i]);
        }
        if (!fits(keys)) continue;
        const auto [at, added] = after.try_emplace(keys, now);
        if (!added) at->second = std::min(at->second, now);
      }
    }
    reached = std::move(after);
  }
  std::uint64_t least = ~0ULL;
  for (const auto& [keys, misses] : reached) least = std::min(least, misses);
  return least;
}

std::vector<CacheRequest> small_trace(std::uint64_t seed, std::uint64_t keys, std::uint64_t sizes) {
  TestRandom random{seed};
  std::vector<std::uint64_t> size;
  for (std::uint64_t i = 0; i < keys; ++i) size.push_back(1 + random.below(sizes));
  std::vector<CacheRequest> trace;
  for (int i = 0; i < 14; ++i) {
    const std::uint64_t key = random.below(keys);
    trace.push_back({.key = key, .bytes = size[key]});
  }
  return trace;
}

TEST(Belady, IsTheOptimumForObjectsOfOneSize) {
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    for (std::uint64_t capacity = 1; capacity <= 4; ++capacity) {
      const auto trace = small_trace(seed, 6, 1);
      EXPECT_EQ(misses_of(trace, capacity, BeladyCache::Rule::farthest),
                least_misses(trace, capacity))
          << "seed " << seed << " capacity " << capacity;
    }
  }
}

TEST(Belady, WithSizesIsNeverBelowTheOptimumAndMostlyNearIt) {
  std::uint64_t ours = 0, least = 0;
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    const auto trace = small_trace(seed, 6, 5);
    const std::uint64_t mine = misses_of(trace, 7, BeladyCache::Rule::largest_and_farthest);
    const std::uint64_t best = least_misses(trace, 7);
    EXPECT_GE(mine, best);
    ours += mine;
    least += best;
  }
  EXPECT_LE(ours, least + least / 10);
}

TEST(Belady, ByCostMissesLessCostThanWithout) {
  TestRandom random{5};
  std::vector<CacheRequest> trace;
  for (int i = 0; i < 20000; ++i) {
    const std::uint64_t key = random.below(500);
    trace.push_back({.key = key, .bytes = 1 + key % 9, .cost = key % 7 == 0 ? 100.0F : 1.0F});
  }
  BeladyCache plain{BeladyCache::Rule::farthest, 1};
  BeladyCache by_cost = plain;
  misses_of(trace, 300, BeladyCache::Rule::largest_and_farthest, &plain);
  misses_of(trace, 300, BeladyCache::Rule::by_cost, &by_cost);
  EXPECT_LT(by_cost.counts().cost_missed, plain.counts().cost_missed);
  EXPECT_EQ(by_cost.counts().cost_requested, plain.counts().cost_requested);
}

TEST(Belady, ObjectsThatChangeTheirSizeOrAreTooLargeStayWithinTheCapacity) {
  TestRandom random{9};
  std::vector<CacheRequest> trace;
  for (int i = 0; i < 5000; ++i) {
    trace.push_back({.key = random.below(40), .bytes = 1 + random.below(60)});
  }
  for (const auto rule : {BeladyCache::Rule::farthest, BeladyCache::Rule::largest_and_farthest}) {
    EXPECT_LT(misses_of(trace, 50, rule), trace.size());
  }
}

TEST(Belady, KeepsNothingThatIsNotAskedForAgain) {
  std::vector<CacheRequest> trace;
  for (std::uint64_t i = 0; i < 1000; ++i) trace.push_back({.key = i});
  BeladyCache cache{BeladyCache::Rule::farthest, 1};
  EXPECT_EQ(misses_of(trace, 10, BeladyCache::Rule::farthest, &cache), 1000U);
  EXPECT_EQ(cache.entries(), 0U);
  EXPECT_EQ(cache.counts().evictions, 0U);
}

TEST(NextUses, NamesTheNextRequestOfEachObjectAcrossBatches) {
  NextUses next;
  const std::vector<CacheRequest> first{{.key = 1}, {.key = 2}, {.key = 1}};
  const std::vector<CacheRequest> second{{.key = 2}, {.key = 3}};
  next.add(first);
  next.add(second);
  EXPECT_EQ(next.of(0), 2U);
  EXPECT_EQ(next.of(1), 3U);
  EXPECT_EQ(next.of(2), NextUses::kNever);
  EXPECT_EQ(next.of(4), NextUses::kNever);
  EXPECT_EQ(next.of(5), NextUses::kNever);  // not there
}

TEST(KeyTable, AgreesWithAMap) {
  KeyTable table;
  std::unordered_map<std::uint64_t, std::uint64_t> model;
  TestRandom random{3};
  for (int i = 0; i < 200'000; ++i) {
    // Few homes, so that they crowd.
    const std::uint64_t key = random.below(64) << 3 | random.below(60) << 40;
    if (random.below(3) == 0 && model.contains(key)) {
      table.erase(key);
      model.erase(key);
    } else {
      std::uint64_t& value = table.at(key);
      const auto known = model.find(key);
      ASSERT_EQ(value, known == model.end() ? KeyTable::kNone : known->second);
      value = random.below(1000);
      model[key] = value;
    }
    ASSERT_EQ(table.size(), model.size());
  }
  for (const auto& [key, value] : model) ASSERT_EQ(*table.get(key), value);
}

}  // namespace
}  // namespace forebay::trace
