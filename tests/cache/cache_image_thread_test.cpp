// Saving and loading while other threads use the cache.

#include <gtest/gtest.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "forebay/cache.hpp"
#include "support/folder.hpp"

namespace forebay {
namespace {

using namespace forebay::literals;

using Texts = Cache<std::uint64_t, std::string>;

std::string text_of(std::uint64_t key) {
  return std::string(static_cast<std::size_t>(key % 90), static_cast<char>('a' + key % 26));
}

constexpr std::uint64_t kAlwaysUsed = 64;  // keys, from 5000 on

// Finds, puts, erases, until it is told to stop. While one entry is saved many others may come and
// go; those in use stay.
void use(Texts& cache, std::uint64_t seed, const std::atomic<bool>& stop) {
  for (std::uint64_t i = seed; !stop.load(std::memory_order_relaxed); ++i) {
    const std::uint64_t key = i % 2 == 0 ? 5000 + i / 2 % kAlwaysUsed : i * 7919 % 4001;
    if (auto found = cache.find(key)) {
      ASSERT_EQ(*found, text_of(key));
    } else {
      ASSERT_TRUE(cache.put(key, text_of(key), {.ttl = std::chrono::hours{1 + key % 3}}));
    }
    if (i % 26 == 1) cache.erase(key + 1);
  }
}

TEST(CacheImageThreads, ReadersAndWritersGoOnWhileItIsSavedAndLoaded) {
  const testing::TestFolder folder;
  const std::string path = folder / "cache";
  CacheOptions options;
  options.max_bytes = 256_KiB;
  options.shards = 4;
  Texts cache{options};
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (std::uint64_t seed = 1; seed != 4; ++seed) {
    threads.emplace_back([&, seed] { use(cache, seed, stop); });
  }
  while (cache.stats().evicted < 1000) std::this_thread::yield();
  for (int round = 0; round != 10; ++round) {
    const auto saved = cache.save(path);
    ASSERT_TRUE(saved) << saved.status().message();
    EXPECT_GT(saved->entries, kAlwaysUsed / 2);
    Texts loaded{options};
    std::atomic<bool> enough{false};
    std::thread other{[&] { use(loaded, 17, enough); }};
    // It may be first; then it is no empty cache any more.
    const auto result = loaded.load(path);
    if (!result) {
      EXPECT_EQ(result.status().code(), Code::failed_precondition);
    }
    enough = true;
    other.join();
    for (const auto& handle : loaded.snapshot()) ASSERT_EQ(*handle, text_of(handle.key()));
    loaded.clear();
    const auto alone = loaded.load(path);
    ASSERT_TRUE(alone) << alone.status().message();
    EXPECT_EQ(alone->loaded + alone->did_not_fit, saved->entries);
    for (const auto& handle : loaded.snapshot()) ASSERT_EQ(*handle, text_of(handle.key()));
  }
  stop = true;
  for (auto& thread : threads) thread.join();
  cache.validate();
  cache.clear();
  EXPECT_EQ(cache.stats().used, 0_B);
}

}  // namespace
}  // namespace forebay
