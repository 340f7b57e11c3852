#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <new>
#include <random>
#include <set>
#include <span>
#include <vector>

#include "forebay/buffer.hpp"
#include "forebay/pool.hpp"
#include "forebay/tracker.hpp"

namespace forebay {
namespace {

using namespace literals;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

// Blocks whose content is owners of others.
class SharedCycles : public ::testing::Test {
 protected:
  SharedCycles() { set(TrackingGrade::full); }
  ~SharedCycles() override {
    untie();
    set(TrackingGrade::sampled);
  }
  static void set(TrackingGrade grade) {
    TrackerOptions options = Tracker::options();
    options.grade = grade;
    Tracker::set_options(options).throw_if_error();
  }

  SharedBuffer node(std::size_t room = 4) {
    AcquireOptions options;
    options.contents = Contents::zeroed;
    Buffer buffer = pool_->acquire(Bytes{room * sizeof(SharedBuffer)}, options).value();
    auto* const owners = reinterpret_cast<SharedBuffer*>(buffer.data());
    for (std::size_t i = 0; i < room; ++i) new (owners + i) SharedBuffer;
    nodes_.push_back({owners, room});
    return SharedBuffer::share(std::move(buffer)).value();
  }
  static void hold(const SharedBuffer& holder, std::size_t place, const SharedBuffer& held) {
    reinterpret_cast<SharedBuffer*>(holder.data())[place] = held;
  }
  static std::set<std::set<const void*>> cycles() {
    std::set<std::set<const void*>> found;
    for (const SharedCycle& cycle : Tracker::shared_cycles()) {
      found.insert({cycle.blocks.begin(), cycle.blocks.end()});
    }
    return found;
  }
  // Takes all cycles apart, while all blocks are live: a test ends with none.
  void untie() {
    std::vector<SharedBuffer> last;
    for (const auto& [owners, room] : nodes_) {
      for (std::size_t i = 0; i < room; ++i) last.push_back(std::move(owners[i]));
    }
    nodes_.clear();
  }

  const std::shared_ptr<Pool> pool_ = Pool::create(Device::host(), {.name = "nodes"});

 private:
  std::vector<std::pair<SharedBuffer*, std::size_t>> nodes_;
};

TEST_F(SharedCycles, BlockThatHoldsItselfIsACycle) {
  SharedBuffer a = node();
  hold(a, 0, a);
  const void* const block = a.data();
  EXPECT_THAT(cycles(), IsEmpty());  // a is held here
  a.reset();
  EXPECT_THAT(cycles(), UnorderedElementsAre(std::set{block}));
}

TEST_F(SharedCycles, BlocksThatHoldEachOtherAreACycle) {
  SharedBuffer a = node();
  SharedBuffer b = node();
  hold(a, 0, b);
  hold(b, 3, a);
  const std::set<const void*> both{a.data(), b.data()};
  a.reset();
  EXPECT_THAT(cycles(), IsEmpty());
  b.reset();
  EXPECT_THAT(cycles(), UnorderedElementsAre(both));
  EXPECT_EQ(Tracker::shared_cycles().at(0).bytes, Bytes{2 * 4 * sizeof(SharedBuffer)});
}

TEST_F(SharedCycles, CyclesThatShareANodeAreOne) {
  SharedBuffer a = node();
  SharedBuffer b = node();
  SharedBuffer shared = node();
  hold(a, 0, shared);
  hold(b, 0, shared);
  hold(shared, 0, a);
  hold(shared, 1, b);
  const std::set<const void*> all{a.data(), b.data(), shared.data()};
  a.reset();
  b.reset();
  shared.reset();
  EXPECT_THAT(cycles(), UnorderedElementsAre(all));
}

TEST_F(SharedCycles, ACycleThatSomebodyOutsideHoldsIsNone) {
  SharedBuffer a = node();
  SharedBuffer b = node();
  hold(a, 0, b);
  hold(b, 0, a);
  const auto elsewhere = std::make_unique<SharedBuffer>(a);
  a.reset();
  b.reset();
  EXPECT_THAT(cycles(), IsEmpty());
  elsewhere->reset();
  EXPECT_EQ(cycles().size(), 1U);
}

TEST_F(SharedCycles, ACycleThatAHeldBlockHoldsIsNone) {
  SharedBuffer root = node();
  {
    const SharedBuffer a = node();
    hold(a, 0, a);
    hold(root, 1, a);
  }
  EXPECT_THAT(cycles(), IsEmpty());
  untie();
}

TEST_F(SharedCycles, ACycleThatALostCycleHoldsIsLostToo) {
  {
    const SharedBuffer a = node();
    const SharedBuffer b = node();
    const SharedBuffer tail = node();
    hold(a, 0, a);
    hold(b, 0, b);
    hold(a, 1, b);
    hold(b, 1, tail);  // lost, but no cycle
  }
  EXPECT_EQ(cycles().size(), 2U);
}

TEST_F(SharedCycles, ALongChainThatEndsWhereItBeganIsFoundWithoutDeepRecursion) {
  constexpr std::size_t kLength = 20000;
  SharedBuffer first = node(1);
  SharedBuffer last = first;
  for (std::size_t i = 1; i < kLength; ++i) {
    SharedBuffer next = node(1);
    hold(last, 0, next);
    last = std::move(next);
  }
  hold(last, 0, first);
  last.reset();
  EXPECT_THAT(cycles(), IsEmpty());
  first.reset();
  const auto found = Tracker::shared_cycles();
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].blocks.size(), kLength);
}

TEST_F(SharedCycles, ALongChainThatIsNoCycleIsNotReported) {
  SharedBuffer first = node(1);
  SharedBuffer last = first;
  for (std::size_t i = 1; i < 1000; ++i) {
    SharedBuffer next = node(1);
    hold(last, 0, next);
    last = std::move(next);
  }
  last.reset();
  EXPECT_THAT(cycles(), IsEmpty());
  untie();
}

TEST_F(SharedCycles, WordsThatLookLikeOwnersInventNoCycle) {
  SharedBuffer a = node();
  SharedBuffer b = node();
  // A copy of the pointer that is no owner: as in memory that was used before.
  std::memcpy(static_cast<std::byte*>(b.data()) + 16, &a, sizeof(void*));
  std::memcpy(static_cast<std::byte*>(a.data()) + 16, &a, sizeof(void*));
  EXPECT_THAT(cycles(), IsEmpty());
  std::memset(static_cast<std::byte*>(b.data()) + 16, 0, sizeof(void*));
  std::memset(static_cast<std::byte*>(a.data()) + 16, 0, sizeof(void*));
  untie();
}

TEST_F(SharedCycles, BlocksOfDevicesAreNotRead) {
  const auto device = SimulatedDevice::create();
  {
    const SharedBuffer a = SharedBuffer::share(Buffer::allocate(device, 64_B).value()).value();
    EXPECT_THAT(cycles(), IsEmpty());
  }
  EXPECT_EQ(device->stats().live, 0_B);
}

TEST_F(SharedCycles, BlocksOfALowerGradeAreTakenForHolders) {
  set(TrackingGrade::sampled);
  SharedBuffer root = node();
  set(TrackingGrade::full);
  {
    const SharedBuffer a = node();
    hold(a, 0, a);
    hold(root, 0, a);
  }
  EXPECT_THAT(cycles(), IsEmpty());
  untie();
}

using Graph = std::vector<std::vector<std::size_t>>;

std::set<std::size_t> reached_from(const Graph& edges, std::vector<std::size_t> waiting) {
  std::set<std::size_t> reached;
  while (!waiting.empty()) {
    const std::size_t at = waiting.back();
    waiting.pop_back();
    if (!reached.insert(at).second) continue;
    waiting.insert(waiting.end(), edges[at].begin(), edges[at].end());
  }
  return reached;
}

// Adds roots until all else that no root reaches is held by something: nothing ends by itself.
std::set<std::size_t> reached_from_enough_roots(const Graph& edges,
                                                std::vector<std::size_t>& roots) {
  for (;;) {
    std::set<std::size_t> held = reached_from(edges, roots);
    std::set<std::size_t> targets;
    for (std::size_t i = 0; i < edges.size(); ++i) {
      if (!held.contains(i)) targets.insert(edges[i].begin(), edges[i].end());
    }
    const std::size_t before = roots.size();
    for (std::size_t i = 0; i < edges.size(); ++i) {
      if (!held.contains(i) && !targets.contains(i)) roots.push_back(i);
    }
    if (roots.size() == before) return held;
  }
}

// A block is lost if no root reaches it; a lost one is in a cycle if it reaches itself.
TEST_F(SharedCycles, RandomGraphsAreAnsweredAsByANaiveSearch) {
  std::size_t lost = 0;
  for (unsigned round = 0; round < 300; ++round) {
    std::mt19937 random{round};
    const std::size_t count = 2 + random() % 12;
    Graph edges(count);
    std::vector<SharedBuffer> handles;
    std::vector<const void*> blocks;
    for (std::size_t i = 0; i < count; ++i) {
      handles.push_back(node());
      blocks.push_back(handles.back().data());
    }
    for (std::size_t i = 0; i < count * 5 / 4; ++i) {
      const std::size_t from = random() % count;
      const std::size_t to = random() % count;
      if (edges[from].size() == 4) continue;
      hold(handles[from], edges[from].size(), handles[to]);
      edges[from].push_back(to);
    }
    std::vector<std::size_t> roots;
    for (std::size_t i = 0; i < count; ++i) {
      if (random() % 6 == 0) roots.push_back(i);
    }
    const std::set<std::size_t> held = reached_from_enough_roots(edges, roots);
    std::vector<SharedBuffer> kept;
    for (const std::size_t root : roots) kept.push_back(handles[root]);
    std::set<const void*> expected;
    for (std::size_t i = 0; i < count; ++i) {
      const bool reaches_itself = reached_from(edges, edges[i]).contains(i);
      if (!held.contains(i) && reaches_itself) expected.insert(blocks[i]);
    }
    handles.clear();
    std::set<const void*> found;
    for (const auto& cycle : cycles()) found.insert(cycle.begin(), cycle.end());
    EXPECT_EQ(found, expected) << "round " << round;
    lost += expected.size();
    untie();
  }
  EXPECT_GT(lost, 100U);
}

}  // namespace
}  // namespace forebay
