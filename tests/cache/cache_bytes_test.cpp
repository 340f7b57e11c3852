// Values of bytes that lie in the entry's own block.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "forebay/cache.hpp"
#include "forebay/pool.hpp"
#include "support/failing_new.hpp"
#include "support/watched_resource.hpp"

namespace forebay {
namespace {

using namespace forebay::literals;
using testing::walk_allocation_failures;
using testing::WatchedResource;

using Blobs = Cache<std::string, CacheBytes>;

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span{text});
}
std::string text_of(const CacheBytes& value) {
  return {reinterpret_cast<const char*>(value.bytes().data()), value.size()};
}

TEST(CacheBytes, AreThoseThatWerePut) {
  Blobs cache;
  for (std::size_t size = 0; size < 5000; size += 1 + size / 7) {
    const std::string text(size, static_cast<char>('a' + size % 26));
    ASSERT_TRUE(cache.put("key", bytes_of(text)));
    const auto found = cache.find("key");
    ASSERT_TRUE(found);
    EXPECT_EQ(text_of(*found), text);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(found->bytes().data()) % 8, 0U);
  }
  cache.validate();
}

TEST(CacheBytes, AreChargedForWhatTheyTake) {
  const auto memory = std::make_shared<WatchedResource>();
  Blobs cache{{.policy = "lru", .memory = memory}};
  const Bytes overhead = cache_entry_overhead("lru");
  for (int i = 0; i != 100; ++i) {
    const std::string text(static_cast<std::size_t>(i) * 37, 'v');
    ASSERT_TRUE(cache.put(std::to_string(i), bytes_of(text)));
    const Bytes used = cache.stats().used;
    const Bytes entries = overhead * static_cast<std::uint64_t>(i + 1);
    EXPECT_GE(used, memory->live() + entries);
    // Charges come in units of 16 bytes.
    EXPECT_LE(used, memory->live() + entries + Bytes{16} * static_cast<std::uint64_t>(i + 1));
  }
  cache.clear();
  EXPECT_EQ(memory->live(), 0_B);
  EXPECT_EQ(cache.stats().used, 0_B);
}

TEST(CacheBytes, OfAnotherLengthReplaceThoseBefore) {
  const auto memory = std::make_shared<WatchedResource>();
  Blobs cache{{.memory = memory}};
  ASSERT_TRUE(cache.put("key", bytes_of("short")));
  const auto held = cache.find("key");
  const std::string text(3000, 'l');
  ASSERT_TRUE(cache.put("key", bytes_of(text)));
  EXPECT_EQ(text_of(*held), "short");
  EXPECT_EQ(text_of(*cache.find("key")), text);
  ASSERT_TRUE(cache.put("key", bytes_of("again")));
  EXPECT_EQ(text_of(*cache.find("key")), "again");
  EXPECT_EQ(cache.stats().replaced, 2U);
}

TEST(CacheBytes, NeverTakeMoreThanTheLine) {
  const auto memory = std::make_shared<WatchedResource>();
  Blobs cache{{.max_bytes = 64_KiB, .memory = memory}};
  for (int i = 0; i != 2000; ++i) {
    const std::string text(static_cast<std::size_t>(i * 7919 % 6000), 'v');
    ASSERT_TRUE(cache.put(std::to_string(i), bytes_of(text)));
    ASSERT_LE(memory->live(), 64_KiB);
  }
  EXPECT_GT(cache.stats().evicted, 1000U);
  const std::string too_long(65'536, 'v');
  const auto refused = cache.put("long", bytes_of(too_long));
  EXPECT_EQ(refused.status().code(), Code::memory_refused);
}

// Nobody looks at them as they go, not even for their size.
TEST(CacheBytes, UnderNumbersGoBackToWhereTheyCameFrom) {
  const auto pool = Pool::create(Device::host());
  const auto watched = std::make_shared<WatchedResource>();
  for (const std::shared_ptr<MemoryResource>& memory :
       {std::shared_ptr<MemoryResource>{pool}, std::shared_ptr<MemoryResource>{watched}}) {
    Cache<std::uint64_t, CacheBytes> cache{{.max_bytes = 4_MiB, .policy = "lru", .memory = memory}};
    const std::string text(100'000, 'v');
    for (std::uint64_t i = 0; i != 2000; ++i) {
      const std::size_t size = i % 50 == 0 ? text.size() : i % 3000;
      ASSERT_TRUE(cache.put(i, bytes_of(std::string_view{text}.substr(0, size))));
    }
    const std::uint64_t evicted = cache.stats().evicted;
    cache.set_max_bytes(256_KiB);
    EXPECT_GT(cache.stats().evicted, evicted + 64);
    EXPECT_LE(cache.stats().used, 256_KiB);
    cache.validate();
    cache.erase(1999);
    cache.clear();
    EXPECT_EQ(cache.stats().used, 0_B);
  }
  EXPECT_EQ(pool->stats().live, 0_B);
  EXPECT_EQ(watched->live(), 0_B);
  pool->validate();
}

TEST(CacheBytes, AreMadeByALoaderAsAVector) {
  Blobs cache;
  const auto load = [](const std::string& key) {
    const auto bytes = bytes_of(key);
    return std::vector<std::byte>{bytes.rbegin(), bytes.rend()};
  };
  EXPECT_EQ(text_of(**cache.get_or_compute("abc", load)), "cba");
  EXPECT_EQ(cache.stats().loads, 1U);
  EXPECT_EQ(text_of(**cache.get_or_compute("abc", load)), "cba");
  EXPECT_EQ(cache.stats().loads, 1U);
}

TEST(CacheBytes, OfALoaderThatFindNoRoomAreTheHandlesAlone) {
  const auto memory = std::make_shared<WatchedResource>();
  Blobs cache{{.max_bytes = 4_KiB, .memory = memory}};
  const std::string text(8192, 'v');
  {
    const auto made = cache.get_or_compute("long", [&](const std::string&) {
      const auto bytes = bytes_of(text);
      return std::vector<std::byte>{bytes.begin(), bytes.end()};
    });
    EXPECT_EQ(text_of(**made), text);
    EXPECT_EQ(memory->live(), 0_B);
  }
  EXPECT_FALSE(cache.find("long"));
}

TEST(CacheBytes, AreSeenByTheListenerAndTheWeigher) {
  std::vector<std::string> gone;
  Blobs cache{{.max_bytes = 1_MiB},
              {.weigher = [](const std::string& key,
                             std::span<const std::byte>) { return Bytes{key.capacity()}; },
               .listener = [&](const std::string&, const CacheBytes& value,
                               RemovalReason) { gone.push_back(text_of(value)); }}};
  ASSERT_TRUE(cache.put("a", bytes_of("one")));
  ASSERT_TRUE(cache.put("b", bytes_of("two")));
  EXPECT_TRUE(cache.erase("a"));
  cache.clear();
  EXPECT_EQ(gone, (std::vector<std::string>{"one", "two"}));
}

TEST(CacheBytes, AreNotLostWhereAnAllocationFails) {
  const auto memory = std::make_shared<WatchedResource>();
  Cache<int, CacheBytes> cache{
      {.max_bytes = 64_KiB, .policy = "lru", .shards = 1, .memory = memory}};
  const std::string text(1000, 'v');
  int made = 0;
  int key = 0;
  walk_allocation_failures(
      [&] {
        if (cache.put(++key, bytes_of(text))) ++made;
      },
      [&] { cache.validate(); });
  ASSERT_GT(made, 0);
  EXPECT_EQ(text_of(*cache.find(key)), text);
  EXPECT_EQ(cache.stats().refused, static_cast<std::uint64_t>(key - made));
  EXPECT_EQ(memory->live_blocks(), static_cast<std::size_t>(made));
}

}  // namespace
}  // namespace forebay
