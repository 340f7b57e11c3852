// Memory between entries that stay goes back: they are moved.

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "forebay/cache.hpp"
#include "forebay/pool.hpp"
#include "support/failing_new.hpp"

namespace forebay {
namespace {

using namespace forebay::literals;
using testing::walk_allocation_failures;

// The pool of the cache with this name.
PoolStats pool_of(const std::string& cache) {
  for (const PoolView& view : Pool::all()) {
    if (view.name == "cache " + cache) return view.stats;
  }
  ADD_FAILURE() << "no pool of " << cache;
  return {};
}

std::vector<std::byte> value_of(std::uint64_t key) {
  return std::vector<std::byte>(64 + key * 7919 % 1500, static_cast<std::byte>(key % 251));
}

bool is_value_of(std::uint64_t key, const CacheBytes& value) {
  return std::ranges::equal(value.bytes(), value_of(key));
}

CacheOptions options(const std::string& name) {
  return {.name = name, .max_bytes = 32_MiB, .policy = "lru", .shards = 4};
}

// Fills it, and then makes every tenth entry the newest: they lie all over the memory.
template <typename Cache, typename Key>
std::uint64_t scatter(Cache& cache, Key key) {
  std::uint64_t keys = 0;
  while (cache.stats().evicted == 0) {
    EXPECT_TRUE(cache.put(key(keys), value_of(keys)));
    ++keys;
  }
  for (std::uint64_t i = 0; i < keys; i += 10) static_cast<void>(cache.find(key(i)));
  return keys;
}

std::uint64_t itself(std::uint64_t key) { return key; }
std::string as_text(std::uint64_t key) {
  return "a key that does not fit into a string's own room: " + std::to_string(key);
}

TEST(CacheCompaction, GivesBackWhatLiesBetweenEntries) {
  Cache<std::uint64_t, CacheBytes> cache{options("scattered")};
  const std::uint64_t keys = scatter(cache, itself);
  cache.set_max_bytes(3_MiB);
  const PoolStats pool = pool_of("scattered");
  EXPECT_GT(pool.live, 2_MiB);
  EXPECT_LT(pool.reserved, pool.live + 2_MiB);  // a slab of each size is in part empty
  std::uint64_t found = 0;
  for (std::uint64_t key = 0; key != keys; ++key) {
    const auto entry = cache.find(key);
    if (!entry) continue;
    ++found;
    ASSERT_TRUE(is_value_of(key, *entry)) << key;
  }
  EXPECT_EQ(found, cache.stats().entries);
  EXPECT_GT(found, 1000U);
  EXPECT_LE(cache.stats().peak, 32_MiB);
  cache.validate();
}

TEST(CacheCompaction, MovesKeysThatCanOnlyBeCopied) {
  Cache<std::string, CacheBytes> cache{options("texts")};
  const std::uint64_t keys = scatter(cache, as_text);
  cache.set_max_bytes(3_MiB);
  const PoolStats pool = pool_of("texts");
  EXPECT_LT(pool.reserved, pool.live + 2_MiB);  // a slab of each size is in part empty
  std::uint64_t found = 0;
  for (std::uint64_t key = 0; key != keys; ++key) {
    if (const auto entry = cache.find(as_text(key))) {
      ++found;
      ASSERT_TRUE(is_value_of(key, *entry));
    }
  }
  EXPECT_EQ(found, cache.stats().entries);
}

TEST(CacheCompaction, LeavesWhatIsPinnedWhereItIs) {
  Cache<std::uint64_t, CacheBytes> cache{options("pinned")};
  const std::uint64_t keys = scatter(cache, itself);
  std::vector<decltype(cache)::Handle> held;
  std::vector<const std::byte*> places;
  for (std::uint64_t key = 0; key < keys; key += 500) {
    held.push_back(cache.find(key));
    ASSERT_TRUE(held.back());
    places.push_back(held.back()->bytes().data());
  }
  cache.set_max_bytes(3_MiB);
  for (std::size_t i = 0; i != held.size(); ++i) {
    EXPECT_EQ(held[i]->bytes().data(), places[i]);
    EXPECT_TRUE(is_value_of(i * 500, *held[i]));
  }
  held.clear();
  cache.validate();
}

TEST(CacheCompaction, IsLeftOutForALittle) {
  Cache<std::uint64_t, CacheBytes> cache{options("little")};
  scatter(cache, itself);
  const std::uint64_t before = pool_of("little").acquires;
  EXPECT_GE(cache.reclaim(64_KiB), 64_KiB);
  EXPECT_EQ(pool_of("little").acquires, before);
}

TEST(CacheCompaction, LosesNothingWhereAnAllocationFails) {
  Cache<std::string, CacheBytes> cache{options("failing")};
  scatter(cache, as_text);
  Bytes line = 16_MiB;
  walk_allocation_failures(
      [&] {
        line = line - 128_KiB;
        try {
          cache.set_max_bytes(std::max(line, 1_MiB));
        } catch (const std::bad_alloc&) {
        }
      },
      [&] {
        cache.validate();
        std::uint64_t found = 0;
        for (const auto& entry : cache.snapshot()) {
          ++found;
          EXPECT_TRUE(is_value_of(std::stoull(entry.key().substr(50)), *entry));
        }
        EXPECT_EQ(found, cache.stats().entries);
      });
}

// Run it under ThreadSanitizer too.
TEST(CacheCompaction, GoesOnBesideReadersAndWriters) {
  Cache<std::uint64_t, CacheBytes> cache{options("busy")};
  const std::uint64_t keys = scatter(cache, itself);
  std::atomic<bool> stop{false};
  std::atomic<std::uint64_t> wrong{0};
  std::vector<std::thread> threads;
  for (std::uint64_t t = 0; t != 3; ++t) {
    threads.emplace_back([&, t] {
      for (std::uint64_t i = t; !stop; i += 3) {
        const std::uint64_t key = i * 7919 % keys;
        if (const auto entry = cache.find(key); entry && !is_value_of(key, *entry)) ++wrong;
        if (i % 64 == 0) static_cast<void>(cache.put(key, value_of(key)));
        if (i % 301 == 0) cache.erase(key);
      }
    });
  }
  for (int i = 0; i != 6; ++i) {
    cache.set_max_bytes(2_MiB);
    cache.set_max_bytes(16_MiB);
    for (std::uint64_t key = 0; key < keys; key += 3) {
      static_cast<void>(cache.put(key, value_of(key)));
    }
  }
  stop = true;
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0U);
  EXPECT_EQ(cache.stats().leaving, 0U);
  cache.validate();
}

}  // namespace
}  // namespace forebay
