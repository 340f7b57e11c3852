// What policies are built of.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <deque>
#include <iterator>
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
  constexpr std::size_t kMost = 60;  // each a group of its own
  Ghosts ghosts(kMost, 5000);
  std::deque<std::pair<std::uint64_t, std::uint64_t>> naive;  // oldest first
  std::mt19937_64 random(1);
  const auto forget = [&](std::uint64_t hash) {
    return std::erase_if(naive, [&](const auto& ghost) { return ghost.first == hash; }) != 0;
  };
  for (int i = 0; i < 50'000; ++i) {
    const std::uint64_t hash = mix_key(random() % 200);
    ASSERT_EQ(ghosts.forget(hash), forget(hash));
    if (random() % 4 != 0) {
      const std::uint64_t bytes = Ghosts::as_kept(random() % (i % 3 == 0 ? 4000 : 200));
      ghosts.add(hash, bytes);
      naive.emplace_back(hash, bytes);
    }
    std::uint64_t bytes = 0;
    for (const auto& ghost : naive) bytes += ghost.second;
    while (naive.size() > kMost || bytes > 5000) {
      bytes -= naive.front().second;
      naive.pop_front();
    }
    ASSERT_EQ(ghosts.count(), naive.size());
    ASSERT_EQ(ghosts.bytes(), bytes);
    ASSERT_TRUE(naive.empty() || ghosts.contains(naive.front().first));
  }
}

// Many names, some of which come back: the order is kept but for the oldest group.
TEST(Ghosts, RememberNearlyAsManyAsTheyMay) {
  constexpr std::uint64_t kMost = 10'000;
  Ghosts ghosts(~std::size_t{0}, kMost);
  std::deque<std::uint64_t> naive;  // oldest first; and those who came back
  std::set<std::uint64_t> gone;
  std::mt19937_64 random(2);
  for (std::uint64_t key = 0; key < 200'000; ++key) {
    ghosts.add(mix_key(key), 1);
    naive.push_back(key);
    if (random() % 3 != 0) {
      const std::uint64_t back = naive[naive.size() - 1 - random() % (naive.size() / 2 + 1)];
      if (gone.insert(back).second) {
        ASSERT_TRUE(ghosts.forget(mix_key(back))) << back;
      }
    }
    while (naive.size() - gone.size() > kMost) {
      gone.erase(naive.front());
      naive.pop_front();
    }
    ASSERT_LE(ghosts.count(), kMost);
    if (naive.size() - gone.size() == kMost) {
      ASSERT_GT(ghosts.count(), kMost - kMost / 20);
    }
    if (key % 5000 != 0) continue;
    std::size_t missing = 0;
    for (std::size_t i = 0; i != naive.size(); ++i) {
      const bool in = ghosts.contains(mix_key(naive[i]));
      ASSERT_FALSE(in && gone.contains(naive[i]));
      if (!in && !gone.contains(naive[i])) ++missing;
    }
    ASSERT_EQ(naive.size() - gone.size() - missing, ghosts.count());
  }
  EXPECT_LE(ghosts.metadata_bytes(), 13 * kMost);
}

TEST(Ghosts, SeldomTakeAHashForAnother) {
  Ghosts ghosts(100'000, 100'000);
  for (std::uint64_t key = 0; key < 100'000; ++key) ghosts.add(mix_key(key), 1);
  std::size_t mistaken = 0;
  for (std::uint64_t key = 0; key < 1'000'000; ++key) {
    if (ghosts.contains(mix_key(1'000'000'000 + key))) ++mistaken;
  }
  EXPECT_LE(mistaken, 5U);
}

TEST(Ghosts, KeepBytesToElevenDigits) {
  for (const std::uint64_t bytes : {0, 1, 7, 1000, 2047, 2048, 2050, 4'096'000}) {
    EXPECT_EQ(Ghosts::as_kept(bytes), bytes);
  }
  EXPECT_EQ(Ghosts::as_kept(4099), 4100U);
  EXPECT_EQ(Ghosts::as_kept(4095), 4096U) << "the sum carries into another digit";
  std::mt19937_64 random(3);
  for (int i = 0; i < 10'000; ++i) {
    const std::uint64_t bytes = random() >> (1 + random() % 60);
    const auto exact = static_cast<double>(bytes);
    EXPECT_NEAR(static_cast<double>(Ghosts::as_kept(bytes)), exact, exact / 2048);
    EXPECT_EQ(Ghosts::as_kept(Ghosts::as_kept(bytes)), Ghosts::as_kept(bytes));
  }
}

TEST(Ghosts, FollowTheirLimitsDown) {
  Ghosts ghosts(10, 1000);
  for (std::uint64_t key = 0; key < 10; ++key) ghosts.add(mix_key(key), 10);
  ghosts.set_limits(4, 25);
  EXPECT_EQ(ghosts.count(), 2U);
  EXPECT_TRUE(ghosts.contains(mix_key(9)));
  EXPECT_TRUE(ghosts.contains(mix_key(8)));
  ghosts.add(mix_key(11), 26);
  EXPECT_FALSE(ghosts.contains(mix_key(11))) << "above the limit alone";
  ghosts.forget_oldest();
  EXPECT_FALSE(ghosts.contains(mix_key(8)));
  ghosts.clear();
  EXPECT_EQ(ghosts.bytes(), 0U);
  ghosts.set_limits(0, 0);
  ghosts.add(mix_key(1), 0);
  EXPECT_EQ(ghosts.count(), 0U);
}

TEST(Ghosts, ForgetByTheirStamps) {
  Ghosts ghosts(1000, 1000);
  for (std::uint32_t i = 0; i < 40; ++i) ghosts.add(mix_key(i), 1, 100 + i);
  ghosts.forget_before(110);
  EXPECT_EQ(ghosts.count(), 30U);
  EXPECT_FALSE(ghosts.contains(mix_key(9)));
  EXPECT_TRUE(ghosts.contains(mix_key(10)));
  ghosts.change_stamps([](std::uint32_t stamp) { return stamp - 100; });
  ghosts.forget_before(39);
  EXPECT_EQ(ghosts.count(), 1U);
  EXPECT_TRUE(ghosts.contains(mix_key(39)));
  ghosts.forget_before(1000);
  EXPECT_EQ(ghosts.count(), 0U);
}

TEST(Ghosts, LetTheOldestGoWhenThereIsNoMemory) {
  Ghosts ghosts(1000, 1000);
  {
    const FailingNew failure{0, FailingNew::Failing::from_there_on};
    ghosts.add(mix_key(1), 1);
    EXPECT_EQ(ghosts.count(), 0U);
  }
  ghosts.add(mix_key(1), 1);
  std::size_t places = 0;
  {
    const FailingNew failure{0, FailingNew::Failing::from_there_on};
    for (std::uint64_t key = 2; key < 500; ++key) {
      ghosts.add(mix_key(key), 1);
      ASSERT_TRUE(ghosts.contains(mix_key(key)));
    }
    places = ghosts.count();
    ASSERT_TRUE(FailingNew::has_failed());
  }
  EXPECT_GE(places, 1U);
  EXPECT_LT(places, 100U);
  EXPECT_FALSE(ghosts.contains(mix_key(499 - places)));
  for (std::uint64_t key = 500; key < 1200; ++key) ghosts.add(mix_key(key), 1);
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
      std::array<EntryId, 4> near{};
      const std::uint32_t count = heap.some_near_top(near);
      ASSERT_EQ(count, std::min<std::size_t>(naive.size(), near.size()));
      ASSERT_EQ(near[0], naive.begin()->second);
      if (count >= 2) {
        ASSERT_EQ(near[1], std::next(naive.begin())->second);
      }
      ASSERT_EQ(std::set<EntryId>(near.begin(), near.begin() + count).size(), count);
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

TEST(EntryList, LeavesMarksAsTheyAre) {
  EntryTable<EntryLinks> nodes;
  EntryList<EntryLinks> list;
  for (EntryId id = 0; id < 16; ++id) {
    nodes.make_room(id);
    nodes[id].set_mark(id);
    list.add_newest(nodes, id);
  }
  for (EntryId id = 0; id < 16; id += 3) list.renew(nodes, id);
  list.remove(nodes, 7);
  for (EntryId id = 0; id < 16; ++id) EXPECT_EQ(nodes[id].mark(), id);
  for (unsigned mark = 16; mark-- > 0;) {
    nodes[5].set_mark(mark);
    EXPECT_EQ(nodes[5].mark(), mark);
    EXPECT_EQ(nodes[5].older(), 4U);
  }
}

TEST(EntryTable, TakesNoNumberThatLinksCannotHold) {
  EntryTable<char> table;
  EXPECT_THROW(table.make_room(detail::kMostEntries), std::bad_alloc);
  EXPECT_EQ(table.size(), 0U);
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
  EXPECT_LE(sketch.metadata_bytes(), 9U * 100'000 + 64);
}

TEST(FrequencySketch, ForgetsByHalves) {
  FrequencySketch sketch;
  sketch.make_room(64);
  for (int i = 0; i < 12; ++i) sketch.count(mix_key(1));
  // Fourteen requests an entry, some of which meet counters that are full.
  for (std::uint64_t key = 100; key < 100 + 64 * 14; ++key) sketch.count(mix_key(key));
  EXPECT_LT(sketch.frequency(mix_key(1)), FrequencySketch::kMaxFrequency);
  for (std::uint64_t key = 1000; key < 1000 + 64 * 100; ++key) sketch.count(mix_key(key));
  EXPECT_LT(sketch.frequency(mix_key(1)), 12U);
}

}  // namespace
}  // namespace forebay::testing
