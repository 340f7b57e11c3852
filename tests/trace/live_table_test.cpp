#include "trace/live_table.hpp"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>

namespace forebay::trace {
namespace {

TEST(LiveTable, AgreesWithAMapUnderRandomWork) {
  std::mt19937_64 random{7};
  LiveTable table;
  std::map<std::uint64_t, LiveBlock> model;
  std::set<std::uint32_t> slots;
  std::size_t most = 0;
  for (int i = 0; i < 200'000; ++i) {
    const std::uint64_t id = random() % 3000;
    const auto known = model.find(id);
    const LiveBlock* const found = table.find(id);
    ASSERT_EQ(found != nullptr, known != model.end());
    if (found == nullptr) {
      const LiveBlock& added = table.add(id, Bytes{id * 3}, id % 5);
      EXPECT_TRUE(slots.insert(added.slot).second) << "a slot that is taken";
      model[id] = added;
    } else {
      EXPECT_EQ(found->bytes, known->second.bytes);
      EXPECT_EQ(found->stream, known->second.stream);
      EXPECT_EQ(found->slot, known->second.slot);
      slots.erase(found->slot);
      table.remove(id);
      model.erase(known);
    }
    ASSERT_EQ(table.size(), model.size());
    most = std::max(most, model.size());
    ASSERT_TRUE(slots.empty() || *slots.rbegin() < most) << "slots must not grow past the peak";
  }
}

TEST(LiveTable, KeepsItsPlaceWhenRoomWasMade) {
  LiveTable table;
  table.reserve(100'000);
  const LiveBlock* const first = &table.add(1, Bytes{1}, 0);
  for (std::uint64_t id = 2; id <= 100'000; ++id) table.add(id, Bytes{1}, 0);
  EXPECT_EQ(table.find(1), first);
}

}  // namespace
}  // namespace forebay::trace
