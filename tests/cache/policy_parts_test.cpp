// What policies are built of.
#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <map>
#include <random>
#include <set>

#include "cache/entry_heap.hpp"
#include "cache/entry_list.hpp"
#include "cache/entry_set.hpp"
#include "cache/frequency_sketch.hpp"
#include "cache/ghosts.hpp"
#include "cache/hash.hpp"
#include "cache/key_index.hpp"
#include "support/failing_new.hpp"

namespace forebay::testing {
namespace {

using detail::EntryHeap;
using detail::EntryId;
using detail::EntryLinks;
using detail::EntryList;
using detail::EntrySet;
using detail::EntryTable;
using detail::FrequencySketch;
using detail::Ghosts;
using detail::KeyIndex;
using detail::kNoEntry;
using detail::mix_key;

TEST(Ghosts, RememberTheNewestWithinBothLimits) {
  Ghosts ghosts(100, 5000);
  std::deque<std::pair<std::uint64_t, std::uint64_t>> naive;  // oldest first
  std::mt19937_64 random(1);
  const auto forget = [&](std::uint64_t hash) {
    return std::erase_if(naive, [&](const auto& ghost) { return ghost.first == hash; }) != 0;
  };
  for (int i = 0; i < 20'000; ++i) {
    const std::uint64_t hash = mix_key(random() % 300);
    if (random() % 4 == 0) {
      ASSERT_EQ(ghosts.forget(hash), forget(hash));
    } else {
      const std::uint64_t bytes = random() % (i % 2 == 0 ? 20 : 200);
      ghosts.add(hash, bytes);
      forget(hash);
      naive.emplace_back(hash, bytes);
    }
    std::uint64_t bytes = 0;
    for (const auto& ghost : naive) bytes += ghost.second;
    while (naive.size() > 100 || bytes > 5000) {
      bytes -= naive.front().second;
      naive.pop_front();
    }
    ASSERT_EQ(ghosts.count(), naive.size());
    ASSERT_EQ(ghosts.bytes(), bytes);
    ASSERT_TRUE(naive.empty() || ghosts.contains(naive.front().first));
  }
}

TEST(Ghosts, FollowTheirLimitsDown) {
  Ghosts ghosts(10, 1000);
  for (std::uint64_t hash = 0; hash < 10; ++hash) ghosts.add(hash, 10);
  ghosts.set_limits(4, 25);
  EXPECT_EQ(ghosts.count(), 2U);
  EXPECT_TRUE(ghosts.contains(9));
  EXPECT_TRUE(ghosts.contains(8));
  ghosts.add(11, 26);
  EXPECT_FALSE(ghosts.contains(11)) << "above the limit alone";
  ghosts.forget_oldest();
  EXPECT_FALSE(ghosts.contains(8));
  ghosts.clear();
  EXPECT_EQ(ghosts.bytes(), 0U);
  ghosts.set_limits(0, 0);
  ghosts.add(1, 0);
  EXPECT_EQ(ghosts.count(), 0U);
}

TEST(Ghosts, LetTheOldestGoWhenThereIsNoMemory) {
  Ghosts ghosts(1000, 1000);
  {
    const FailingNew failure{0, FailingNew::Failing::from_there_on};
    ghosts.add(1, 1);
    EXPECT_EQ(ghosts.count(), 0U);
  }
  ghosts.add(1, 1);
  std::size_t places = 0;
  {
    const FailingNew failure{0, FailingNew::Failing::from_there_on};
    for (std::uint64_t hash = 2; hash < 500; ++hash) {
      ghosts.add(hash, 1);
      ASSERT_TRUE(ghosts.contains(hash));
    }
    places = ghosts.count();
    ASSERT_TRUE(FailingNew::has_failed());
  }
  EXPECT_GE(places, 1U);
  EXPECT_LT(places, 100U);
  EXPECT_FALSE(ghosts.contains(499 - places));
  for (std::uint64_t hash = 500; hash < 1200; ++hash) ghosts.add(hash, 1);
  EXPECT_EQ(ghosts.count(), 700 + places);
}

TEST(KeyIndex, FindsWhatIsInAmongCollisions) {
  KeyIndex index;
  std::map<EntryId, std::uint64_t> naive;  // hash by entry
  std::mt19937_64 random(2);
  for (int i = 0; i < 50'000; ++i) {
    const auto id = static_cast<EntryId>(random() % 200);
    if (const auto found = naive.find(id); found != naive.end()) {
      index.remove(found->second, id);
      naive.erase(found);
    } else {
      // Few homes, at both ends of the table, and equal tags.
      const std::uint64_t tag = random() % 3 == 0 ? 0xffffffffULL - random() % 4 : random() % 8;
      const std::uint64_t hash = (tag << 32U) | random() % 2;
      index.make_room(naive.size() + 1);
      index.add(hash, id);
      naive[id] = hash;
    }
    if (i % 10 != 0) continue;
    for (const auto& [entry, hash] : naive) {
      ASSERT_EQ(index.find(hash, [&](EntryId other) { return other == entry; }), entry);
    }
    ASSERT_EQ(index.find(0, [](EntryId) { return false; }), kNoEntry);
  }
}

TEST(KeyIndex, IsAsItWasWhenItCannotGrow) {
  KeyIndex index;
  index.make_room(1);
  index.add(mix_key(7), 7);
  const FailingNew failure{0};
  EXPECT_THROW(index.make_room(1000), std::bad_alloc);
  EXPECT_EQ(index.find(mix_key(7), [](EntryId id) { return id == 7; }), 7U);
}

struct Slot {
  int priority;
  EntryId id;
  bool operator<(const Slot& other) const noexcept {
    return priority != other.priority ? priority < other.priority : id < other.id;
  }
};

TEST(EntryHeap, HasTheLeastOnTop) {
  EntryHeap<Slot> heap;
  std::set<std::pair<int, EntryId>> naive;
  std::mt19937_64 random(3);
  std::map<EntryId, int> priorities;
  for (int i = 0; i < 50'000; ++i) {
    const auto id = static_cast<EntryId>(random() % 300);
    const int priority = static_cast<int>(random() % 100);
    const auto found = priorities.find(id);
    if (found == priorities.end()) {
      heap.make_room(id);
      heap.add({priority, id});
      naive.emplace(priority, id);
      priorities[id] = priority;
    } else {
      naive.erase({found->second, id});
      if (random() % 3 == 0) {
        heap.remove(id);
        priorities.erase(found);
      } else {
        heap.change({priority, id});
        found->second = priority;
        naive.emplace(priority, id);
      }
    }
    ASSERT_EQ(heap.size(), naive.size());
    if (!naive.empty()) {
      ASSERT_EQ(heap.top().id, naive.begin()->second);
    }
  }
  std::vector<EntryId> order;
  heap.append_to(order);
  EXPECT_TRUE(std::equal(order.begin(), order.end(), naive.begin(), naive.end(),
                         [](EntryId id, const auto& slot) { return id == slot.second; }));
}

TEST(EntrySet, HasEachOnce) {
  EntrySet set;
  std::set<EntryId> naive;
  std::mt19937_64 random(4);
  for (int i = 0; i < 10'000; ++i) {
    const auto id = static_cast<EntryId>(random() % 100);
    if (naive.erase(id) != 0) {
      set.remove(id);
    } else {
      set.make_room(id);
      set.add(id);
      naive.insert(id);
    }
    ASSERT_EQ(std::set<EntryId>(set.entries().begin(), set.entries().end()), naive);
    ASSERT_EQ(set.size(), naive.size());
  }
}

TEST(EntryList, KeepsTheOrderOfItsEntries) {
  EntryTable<EntryLinks> nodes;
  EntryList<EntryLinks> list;
  for (EntryId id = 0; id < 5; ++id) {
    nodes.make_room(id);
    list.add_newest(nodes, id);
  }
  list.renew(nodes, 0);
  list.renew(nodes, 0);
  list.renew(nodes, 2);
  list.remove(nodes, 3);
  list.add_oldest(nodes, 3);
  std::vector<EntryId> order;
  list.append_to(nodes, order);
  EXPECT_EQ(order, (std::vector<EntryId>{3, 1, 4, 0, 2}));
  EXPECT_EQ(list.oldest(), 3U);
  EXPECT_EQ(list.newest(), 2U);
  for (const EntryId id : order) list.remove(nodes, id);
  EXPECT_TRUE(list.empty());
  EXPECT_EQ(list.size(), 0U);
}

TEST(FrequencySketch, NeverCountsTooLittleBeforeItHalves) {
  FrequencySketch sketch;
  sketch.make_room(1000);
  for (std::uint64_t key = 0; key < 1000; ++key) {
    for (std::uint64_t i = 0; i <= key % 5; ++i) sketch.count(mix_key(key));
  }
  std::size_t exact = 0;
  for (std::uint64_t key = 0; key < 1000; ++key) {
    ASSERT_GE(sketch.frequency(mix_key(key)), key % 5 + 1);
    if (sketch.frequency(mix_key(key)) == key % 5 + 1) ++exact;
  }
  EXPECT_GT(exact, 900U);
  for (int i = 0; i < 100; ++i) sketch.count(mix_key(0));
  EXPECT_EQ(sketch.frequency(mix_key(0)), FrequencySketch::kMaxFrequency);
}

TEST(FrequencySketch, KeepsItsCountsWhenItGrows) {
  FrequencySketch sketch;
  sketch.make_room(1);
  for (int i = 0; i < 9; ++i) sketch.count(mix_key(5));
  const std::size_t before = sketch.metadata_bytes();
  const unsigned frequency = sketch.frequency(mix_key(5));
  {
    const FailingNew failure{0};
    EXPECT_THROW(sketch.make_room(100'000), std::bad_alloc);
  }
  EXPECT_EQ(sketch.frequency(mix_key(5)), frequency);
  sketch.make_room(100'000);
  EXPECT_EQ(sketch.frequency(mix_key(5)), frequency);
  EXPECT_GT(sketch.metadata_bytes(), before);
  EXPECT_LE(sketch.metadata_bytes(), 16U * 100'000);
}

TEST(FrequencySketch, ForgetsByHalves) {
  FrequencySketch sketch;
  sketch.make_room(64);
  for (int i = 0; i < 12; ++i) sketch.count(mix_key(1));
  // Ten requests an entry, some of which meet counters that are full.
  for (std::uint64_t key = 100; key < 100 + 64 * 10; ++key) sketch.count(mix_key(key));
  EXPECT_LT(sketch.frequency(mix_key(1)), FrequencySketch::kMaxFrequency);
  for (std::uint64_t key = 1000; key < 1000 + 64 * 100; ++key) sketch.count(mix_key(key));
  EXPECT_LT(sketch.frequency(mix_key(1)), 12U);
}

}  // namespace
}  // namespace forebay::testing
