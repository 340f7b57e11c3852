#include "telemetry/history.hpp"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <map>
#include <set>

namespace forebay::detail {
namespace {

using Fate = History::Fate;

class HistoryOf : public ::testing::Test {
 protected:
  void event(const char* kind, std::uint64_t address, std::uint64_t bytes = 8) {
    snapshot_.events.push_back({kind, "pool", 0, 1, 0, address, bytes});
  }
  void block(std::uint64_t address, std::uint64_t bytes = 8) {
    snapshot_.blocks.push_back({.address = address, .bytes = bytes});
  }
  std::vector<Fate> fates() {
    const History history{snapshot_};
    std::vector<Fate> fates;
    for (std::size_t i = 0; i < snapshot_.events.size(); ++i) fates.push_back(history.fate(i));
    return fates;
  }
  Snapshot snapshot_ = [] {
    Snapshot snapshot;
    snapshot.sources = {"pool"};
    return snapshot;
  }();
};

TEST_F(HistoryOf, BlocksThatComeAndGoIsKept) {
  event("allocate", 16);
  event("free", 16);
  event("allocate", 16);
  block(16);
  EXPECT_EQ(fates(), (std::vector{Fate::ended, Fate::release, Fate::live}));
}

TEST_F(HistoryOf, AnAllocationWhoseEndWasLostIsLeftOut) {
  event("allocate", 16);
  event("allocate", 32);
  block(32);
  EXPECT_EQ(fates(), (std::vector{Fate::none, Fate::live}));
}

TEST_F(HistoryOf, AFreeBeforeALostAllocationIsLeftOut) {
  event("free", 16);
  block(16);
  EXPECT_EQ(fates(), (std::vector{Fate::none}));
}

TEST_F(HistoryOf, WithoutTheBlocksAnAllocationStaysOpen) {
  event("allocate", 16);
  EXPECT_EQ(fates(), (std::vector{Fate::open}));
  block(99);
  snapshot_.complete = false;
  EXPECT_EQ(fates(), (std::vector{Fate::open}));
}

TEST_F(HistoryOf, EventsOfNoBlockAreNone) {
  event("map", 16);
  event("deny", 0);
  EXPECT_EQ(fates(), (std::vector{Fate::none, Fate::none}));
}

TEST_F(HistoryOf, WhatIsHeldBeforeIsWhatHasNoBeginning) {
  event("free", 16, 100);
  event("allocate", 32);
  block(32);
  block(48, 7);
  const auto held = History{snapshot_}.held_before();
  ASSERT_EQ(held.size(), 2U);
  EXPECT_EQ(held[0].address, 48U);
  EXPECT_EQ(held[0].bytes, 7U);
  EXPECT_EQ(held[1].address, 16U);
  EXPECT_EQ(held[1].bytes, 100U);
}

TEST_F(HistoryOf, SourcesHaveTheirOwnAddresses) {
  snapshot_.sources = {"pool", "other"};
  snapshot_.events.push_back({"allocate", "other", 0, 1, 0, 16, 8});
  event("allocate", 16);
  snapshot_.blocks.push_back({.address = 16, .bytes = 8, .pool = 1});
  EXPECT_EQ(fates(), (std::vector{Fate::live, Fate::none}));
}

// Any history of which any events are lost: what is kept, after what was held, is one in which
// each address is taken and given in turns, and which ends with the blocks.
RC_GTEST_PROP(HistoryOfAnyEvents, TakesAndGivesInTurnsAndEndsWithTheBlocks, ()) {
  Snapshot snapshot;
  snapshot.sources = {"a", "b"};
  std::map<std::pair<std::uint32_t, std::uint64_t>, bool> live;
  const auto steps = *rc::gen::container<std::vector<std::tuple<bool, std::uint8_t, bool>>>(
      rc::gen::tuple(rc::gen::arbitrary<bool>(), rc::gen::inRange<std::uint8_t>(1, 6),
                     rc::gen::weightedElement<bool>({{3, true}, {1, false}})));
  for (const auto& [second, address, kept] : steps) {
    bool& is_live = live[{second ? 1 : 0, address}];
    is_live = !is_live;
    if (!kept) continue;
    snapshot.events.push_back(
        {is_live ? "allocate" : "free", second ? "b" : "a", 0, 1, 0, address, 8});
  }
  std::set<std::pair<std::uint32_t, std::uint64_t>> at_end;
  for (const auto& [key, is_live] : live) {
    if (!is_live) continue;
    snapshot.blocks.push_back({.address = key.second, .bytes = 8, .pool = key.first});
    at_end.insert(key);
  }
  const History history{snapshot};
  std::set<std::pair<std::uint32_t, std::uint64_t>> now;
  for (const auto& held : history.held_before()) {
    RC_ASSERT(now.insert({held.source, held.address}).second);
  }
  bool open = false;
  for (std::size_t i = 0; i < snapshot.events.size(); ++i) {
    const std::pair key{history.source_of(i), snapshot.events[i].address};
    if (history.fate(i) == Fate::none) continue;
    open = open || history.fate(i) == Fate::open;
    if (history.fate(i) == Fate::release) {
      RC_ASSERT(now.erase(key) == 1U);
    } else {
      RC_ASSERT(now.insert(key).second);
    }
  }
  RC_ASSERT(open || now == at_end);
}

}  // namespace
}  // namespace forebay::detail
