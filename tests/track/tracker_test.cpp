#include "forebay/tracker.hpp"

#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <random>
#include <set>
#include <thread>

#include "forebay/budget.hpp"
#include "forebay/buffer.hpp"
#include "forebay/pool.hpp"
#include "forebay/tensor.hpp"
#include "track/hooks.hpp"

namespace forebay::testing {

using namespace forebay::literals;

namespace {

// Each test has the tracker to itself, at some grade, and leaves it as it was.
class WithTracker : public ::testing::Test {
 protected:
  static void use(TrackingGrade grade, Bytes interval = 512_KiB) {
    ASSERT_TRUE(Tracker::set_options({.grade = grade, .sample_interval = interval}).ok());
  }
  ~WithTracker() override { EXPECT_TRUE(Tracker::set_options(before_).ok()); }

 private:
  const TrackerOptions before_ = Tracker::options();
};

using TrackerTest = WithTracker;

// What a tag and owner hold now; none: all zero.
TagStats held(std::string_view tag, std::string_view owner = {}) {
  for (const TagStats& stats : Tracker::tags()) {
    if (stats.tag == tag && stats.owner == owner) return stats;
  }
  return {};
}

std::vector<LiveBlock> blocks_of(const LiveTable& table, std::string_view tag) {
  std::vector<LiveBlock> found;
  for (const LiveBlock& block : table.blocks) {
    if (table.tags[block.tag].tag == tag) found.push_back(block);
  }
  return found;
}

std::shared_ptr<Pool> make_pool(PoolOptions options = {}) {
  options.cleanup_interval = Duration{0};
  return Pool::create(Device::host(), options);
}

// ---- Tags

TEST_F(TrackerTest, CountsWhatATagHoldsAndForgetsWhatItGaveBack) {
  use(TrackingGrade::counters);
  const auto pool = make_pool();
  {
    const TagScope scope{"counts/one"};
    const Buffer small = pool->acquire(100_B).value();
    const Buffer large = pool->acquire(1_MiB).value();
    const TagStats now = held("counts/one");
    EXPECT_EQ(now.live, pool->good_size(100_B, kDefaultAlignment) + 1_MiB);
    EXPECT_EQ(now.live_blocks, 2U);
    EXPECT_EQ(now.allocations, 2U);
    pool->validate();
  }
  const TagStats after = held("counts/one");
  EXPECT_EQ(after.live, 0_B);
  EXPECT_EQ(after.live_blocks, 0U);
  EXPECT_EQ(after.allocations, 2U);
  pool->validate();
}

TEST_F(TrackerTest, JoinsTagsOfNestedScopesAndRestoresTheOuterOne) {
  use(TrackingGrade::counters);
  const auto pool = make_pool();
  const TagScope outer{"decoder"};
  const Buffer before = pool->acquire(64_B).value();
  Buffer inside;
  {
    const TagScope inner{"layer3"};
    inside = pool->acquire(64_B).value();
  }
  const Buffer after = pool->acquire(64_B).value();
  EXPECT_EQ(held("decoder").live_blocks, 2U);
  EXPECT_EQ(held("decoder/layer3").live_blocks, 1U);
}

TEST_F(TrackerTest, TellsOwnersOfOneTagApart) {
  use(TrackingGrade::counters);
  const auto pool = make_pool();
  const TagScope scope{"owned"};
  Buffer mine;
  Buffer yours;
  {
    const OwnerScope owner{"request-1"};
    mine = pool->acquire(1_KiB).value();
    const OwnerScope inner{"request-2"};
    yours = pool->acquire(2_KiB).value();
  }
  const Buffer nobodys = pool->acquire(4_KiB).value();
  EXPECT_EQ(held("owned", "request-1").live, 1_KiB);
  EXPECT_EQ(held("owned", "request-2").live, 2_KiB);
  EXPECT_EQ(held("owned").live, 4_KiB);
}

TEST_F(TrackerTest, CountsForTheTagOfAnotherThreadWhereItIsHandedOn) {
  use(TrackingGrade::counters);
  const auto pool = make_pool();
  const TagScope scope{"handed on"};
  Buffer buffer;
  std::thread worker{[&, context = TagContext::current()] {
    const TagContext::Scope here{context};
    buffer = pool->acquire(1_KiB).value();
  }};
  worker.join();
  EXPECT_EQ(held("handed on").live, 1_KiB);
}

TEST_F(TrackerTest, CountsABlockForWhoeverTookItWhoeverGivesItBack) {
  use(TrackingGrade::counters);
  const auto pool = make_pool();
  Buffer buffer;
  {
    const TagScope scope{"taken here"};
    buffer = pool->acquire(1_KiB).value();
  }
  std::thread other{[&] {
    const TagScope scope{"given there"};
    buffer.reset();
  }};
  other.join();
  EXPECT_EQ(held("taken here").live, 0_B);
  EXPECT_EQ(held("taken here").allocations, 1U);
  EXPECT_EQ(held("given there").allocations, 0U);
}

TEST_F(TrackerTest, KeepsTheSumsOfThreadsAndPoolsThatAreGone) {
  use(TrackingGrade::counters);
  {
    const auto pool = make_pool();
    std::thread thread{[&] {
      const TagScope scope{"gone"};
      for (int i = 0; i != 100; ++i) static_cast<void>(pool->acquire(1_KiB).value());
    }};
    thread.join();
    EXPECT_EQ(held("gone").allocated, 100_KiB);
  }
  EXPECT_EQ(held("gone").allocated, 100_KiB);
  EXPECT_EQ(held("gone").live, 0_B);
}

TEST_F(TrackerTest, CountsNothingByTagWhileItIsOff) {
  use(TrackingGrade::off);
  const auto pool = make_pool();
  const TagScope scope{"while off"};
  const Buffer buffer = pool->acquire(1_KiB).value();
  EXPECT_EQ(held("while off").allocations, 0U);
  EXPECT_GE(held("").live, 1_KiB);
}

// Blocks that were taken while it was on are counted when they go, and the others are not.
TEST_F(TrackerTest, StaysExactWhenTheGradeChangesInBetween) {
  const auto pool = make_pool();
  std::vector<Buffer> buffers;
  for (const auto grade : {TrackingGrade::counters, TrackingGrade::off, TrackingGrade::full,
                           TrackingGrade::sampled, TrackingGrade::off}) {
    use(grade, 1_KiB);
    const TagScope scope{"changing"};
    for (int i = 0; i != 10; ++i) buffers.push_back(pool->acquire(1_KiB).value());
  }
  EXPECT_EQ(held("changing").live_blocks, 30U);
  pool->validate();
  while (!buffers.empty()) {
    buffers.pop_back();
    pool->validate();
  }
  EXPECT_EQ(held("changing").live_blocks, 0U);
}

TEST_F(TrackerTest, CutsATagThatIsTooLongAndTakesAnEmptyOneForNone) {
  use(TrackingGrade::counters);
  const auto pool = make_pool();
  const TagScope empty{""};
  const TagScope scope{std::string(1000, 'x')};
  const Buffer buffer = pool->acquire(1_KiB).value();
  EXPECT_EQ(held(std::string(200, 'x')).live, 1_KiB);
}

// Whatever the threads did, the sums by tag are those of an oracle.
TEST_F(TrackerTest, AgreesWithAnOracleAfterThreadsTookAndGaveEachOthersBlocks) {
  use(TrackingGrade::sampled, 64_KiB);
  const auto pool = make_pool();
  constexpr int kThreads = 4;
  constexpr int kOperations = 20'000;
  constexpr std::size_t kSlots = 64;
  struct Slot {
    std::mutex mutex;
    Buffer buffer;
    int tag = 0;
  };
  std::array<Slot, kSlots> slots;
  std::array<std::atomic<std::int64_t>, kThreads> live{};
  std::vector<std::thread> threads;
  for (int t = 0; t != kThreads; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937 random{static_cast<std::uint32_t>(t)};
      const TagScope scope{"oracle"};
      const TagScope mine{std::to_string(t)};
      for (int i = 0; i != kOperations; ++i) {
        Slot& slot = slots[random() % kSlots];
        const Bytes size{1 + random() % (random() % 16 == 0 ? 200'000 : 4'000)};
        const std::lock_guard lock{slot.mutex};
        if (!slot.buffer.empty()) {
          live[static_cast<std::size_t>(slot.tag)] -= static_cast<std::int64_t>(
              pool->good_size(slot.buffer.size(), kDefaultAlignment).count());
        }
        slot.buffer.reset();
        slot.buffer = pool->acquire(size).value();
        slot.tag = t;
        live[static_cast<std::size_t>(t)] +=
            static_cast<std::int64_t>(pool->good_size(size, kDefaultAlignment).count());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (int t = 0; t != kThreads; ++t) {
    EXPECT_EQ(held("oracle/" + std::to_string(t)).live.count(),
              static_cast<std::uint64_t>(live[static_cast<std::size_t>(t)].load()));
  }
  pool->validate();
}

// ---- Blocks

TEST_F(TrackerTest, KnowsEveryBlockAtGradeFull) {
  use(TrackingGrade::full);
  const auto pool = make_pool({.name = "all known"});
  const TagScope scope{"known"};
  std::map<std::uintptr_t, Bytes> expected;
  std::vector<Buffer> buffers;
  for (const Bytes size : {1_B, 100_B, 5000_B, 32_KiB, 32_KiB + 1_B, 3_MiB}) {
    buffers.push_back(pool->acquire(size).value());
    expected.emplace(reinterpret_cast<std::uintptr_t>(buffers.back().data()), size);
  }
  const LiveTable table = Tracker::live();
  const auto blocks = blocks_of(table, "known");
  ASSERT_EQ(blocks.size(), expected.size());
  for (const LiveBlock& block : blocks) {
    EXPECT_EQ(block.bytes, expected.at(block.address));
    EXPECT_EQ(block.grade, TrackingGrade::full);
    EXPECT_EQ(table.sources[block.source], "all known");
    EXPECT_EQ(block.weight_blocks, 1.0);
    EXPECT_NE(block.stack, 0U);
  }
}

[[gnu::noinline]] Buffer taken_in_a_function_with_a_name(Pool& pool, Bytes size) {
  Buffer buffer = pool.acquire(size).value();
  asm volatile("");
  return buffer;
}

// The slow way (the first of its size) and the fast one are the same place for a user.
TEST_F(TrackerTest, BeginsTheStackWithWhoeverAskedThePool) {
  use(TrackingGrade::full);
  const auto pool = make_pool();
  const TagScope scope{"named"};
  std::vector<Buffer> buffers;
  for (int i = 0; i != 3; ++i) {
    buffers.push_back(taken_in_a_function_with_a_name(*pool, 1_KiB));
    buffers.push_back(taken_in_a_function_with_a_name(*pool, 1_MiB));
    if (i == 1) buffers.clear();
  }
  std::set<StackId> stacks;
  for (const LiveBlock& block : blocks_of(Tracker::live(), "named")) {
    const auto frames = Tracker::frames_of(block.stack);
    ASSERT_GE(frames.size(), 2U);
    EXPECT_THAT(frames[0].function, ::testing::HasSubstr("taken_in_a_function_with_a_name"));
    stacks.insert(block.stack);
  }
  EXPECT_EQ(stacks.size(), 2U);  // two calls
}

TEST_F(TrackerTest, ForgetsWhatItKnewOfABlockThatWentBack) {
  for (const auto grade : {TrackingGrade::sampled, TrackingGrade::full}) {
    use(grade, 1_B);
    const auto pool = make_pool();
    const TagScope scope{"forgotten"};
    for (const Bytes size : {100_B, 1_MiB}) {
      Buffer first = pool->acquire(size).value();
      EXPECT_EQ(blocks_of(Tracker::live(), "forgotten").size(), 1U);
      first.reset();
      EXPECT_TRUE(blocks_of(Tracker::live(), "forgotten").empty());
      void* const raw = pool->allocate(size).value();
      EXPECT_EQ(blocks_of(Tracker::live(), "forgotten").size(), 1U);
      pool->deallocate(raw, size);
      EXPECT_TRUE(blocks_of(Tracker::live(), "forgotten").empty());
    }
  }
}

// The mean of what samples stand for is what is there: an estimate without bias.
TEST_F(TrackerTest, EstimatesLiveBytesFromSamples) {
  use(TrackingGrade::sampled, 16_KiB);
  const auto pool = make_pool();
  const TagScope scope{"estimated"};
  std::mt19937 random{7};
  std::vector<Buffer> buffers;
  double bytes = 0;
  for (int i = 0; i != 40'000; ++i) {
    const Bytes size{1 + random() % (i % 100 == 0 ? 60'000 : 1000)};
    buffers.push_back(pool->acquire(size).value());
    bytes += static_cast<double>(size.count());
  }
  double estimate = 0;
  double blocks = 0;
  std::size_t sampled = 0;
  for (const LiveBlock& block : blocks_of(Tracker::live(), "estimated")) {
    if (block.grade != TrackingGrade::sampled) continue;
    estimate += block.weight_bytes;
    blocks += block.weight_blocks;
    ++sampled;
  }
  // Some 1700 samples: a standard deviation of 1/41; five of them.
  EXPECT_GT(sampled, 1000U);
  EXPECT_NEAR(estimate / bytes, 1.0, 0.12);
  EXPECT_NEAR(blocks / 40'000, 1.0, 0.25);
}

TEST_F(TrackerTest, SamplesNothingAtGradeCounters) {
  use(TrackingGrade::counters, 1_B);
  const auto pool = make_pool();
  const TagScope scope{"unsampled"};
  const Buffer buffer = pool->acquire(1_MiB).value();
  const auto blocks = blocks_of(Tracker::live(), "unsampled");
  ASSERT_EQ(blocks.size(), 1U);
  EXPECT_EQ(blocks[0].grade, TrackingGrade::counters);
  EXPECT_EQ(blocks[0].stack, 0U);
}

TEST_F(TrackerTest, RefusesAnIntervalOfNothing) {
  const TrackerOptions before = Tracker::options();
  const Status refused = Tracker::set_options({.sample_interval = 0_B});
  EXPECT_EQ(refused.code(), Code::invalid_argument);
  EXPECT_THAT(refused.message(), ::testing::HasSubstr("sample_interval 0 B"));
  EXPECT_EQ(Tracker::options().sample_interval, before.sample_interval);
}

// ---- Leaks

TEST_F(TrackerTest, ReportsJustWhatWasTakenAfterAMarkAndIsLive) {
  use(TrackingGrade::full);
  const auto pool = make_pool();
  const TagScope scope{"since"};
  const Buffer before = pool->acquire(1_KiB).value();
  const Mark mark = Tracker::mark("here");
  Buffer kept = pool->acquire(2_KiB).value();
  pool->acquire(4_KiB).value().reset();
  const LeakReport report = Tracker::since(mark);
  ASSERT_EQ(report.groups.size(), 1U);
  EXPECT_EQ(report.groups[0].tag, "since");
  EXPECT_EQ(report.groups[0].bytes, 2048.0);
  EXPECT_EQ(report.groups[0].blocks, 1.0);
  EXPECT_TRUE(report.groups[0].exact);
  EXPECT_TRUE(report.exact);
  kept.reset();
  EXPECT_TRUE(Tracker::since(mark).empty());
}

TEST_F(TrackerTest, TellsAScopesLeaksAtItsEndWhateverTheGrade) {
  use(TrackingGrade::off);
  const auto pool = make_pool();
  std::vector<LeakReport> reports;
  Buffer leaked;
  {
    const LeakScope look{"step", [&](const LeakReport& report) { reports.push_back(report); }};
    const Buffer kept_within = pool->acquire(1_KiB).value();
  }
  EXPECT_TRUE(reports.empty());
  {
    const LeakScope look{"step", [&](const LeakReport& report) { reports.push_back(report); }};
    leaked = pool->acquire(2_KiB).value();
  }
  ASSERT_EQ(reports.size(), 1U);
  ASSERT_EQ(reports[0].groups.size(), 1U);
  EXPECT_EQ(reports[0].groups[0].bytes, 2048.0);
  EXPECT_FALSE(detail::tracking_is_full());
}

// ---- Kinds of pools and resources

TEST_F(TrackerTest, TracksAnyOtherResource) {
  use(TrackingGrade::full);
  const auto tracked = track(Device::host());
  EXPECT_EQ(tracked->name(), Device::host()->name());
  void* block = nullptr;
  {
    const TagScope scope{"any resource"};
    block = tracked->allocate(10_KiB).value();
  }
  const TagStats now = held("any resource");
  EXPECT_EQ(now.live, Device::host()->good_size(10_KiB, kDefaultAlignment));
  const auto blocks = blocks_of(Tracker::live(), "any resource");
  ASSERT_EQ(blocks.size(), 1U);
  EXPECT_EQ(blocks[0].address, reinterpret_cast<std::uintptr_t>(block));
  EXPECT_EQ(blocks[0].bytes, 10_KiB);
  EXPECT_NE(blocks[0].stack, 0U);
  tracked->deallocate(block, 10_KiB);
  EXPECT_EQ(held("any resource").live, 0_B);
  EXPECT_TRUE(blocks_of(Tracker::live(), "any resource").empty());
}

TEST_F(TrackerTest, ATrackedResourceForgetsBlocksThatItNeverSaw) {
  use(TrackingGrade::off);
  const auto tracked = track(Device::host());
  void* const block = tracked->allocate(1_KiB).value();
  use(TrackingGrade::full);
  tracked->deallocate(block, 1_KiB);
  EXPECT_TRUE(Tracker::since(Tracker::mark()).empty());
}

TEST_F(TrackerTest, ABlockThatMovesStaysWhoseItIs) {
  use(TrackingGrade::full);
  const auto pool = make_pool();
  std::vector<RelocatableBuffer> buffers;
  StackId stack = 0;
  {
    const TagScope scope{"movable"};
    for (int i = 0; i != 2000; ++i) {
      buffers.push_back(pool->acquire_relocatable(512_B).value());
    }
    stack = blocks_of(Tracker::live(), "movable").at(0).stack;
  }
  // All but a few of each slab go, so that the rest is worth moving.
  for (std::size_t i = 0; i < buffers.size(); ++i) {
    if (i % 20 != 0) buffers[i].reset();
  }
  std::set<std::uintptr_t> before;
  for (const LiveBlock& block : blocks_of(Tracker::live(), "movable")) before.insert(block.address);
  pool->consolidate();
  std::size_t moved = 0;
  for (const LiveBlock& block : blocks_of(Tracker::live(), "movable")) {
    moved += before.contains(block.address) ? 0U : 1U;
    EXPECT_EQ(block.stack, stack);
  }
  EXPECT_GT(moved, 0U);
  EXPECT_EQ(held("movable").live_blocks, 100U);
  pool->validate();
}

TEST_F(TrackerTest, BlocksInQuarantineAreNobodysAnyMore) {
  use(TrackingGrade::full);
  const auto pool = make_pool({.checked = true});
  const TagScope scope{"checked"};
  Buffer buffer = pool->acquire(1_KiB).value();
  EXPECT_EQ(held("checked").live_blocks, 1U);
  buffer.reset();
  EXPECT_EQ(held("checked").live_blocks, 0U);
  EXPECT_TRUE(blocks_of(Tracker::live(), "checked").empty());
  pool->validate();
}

TEST_F(TrackerTest, GuardedBlocksAreTracked) {
  use(TrackingGrade::full);
  const auto pool = make_pool({.guard_every = 1});
  const TagScope scope{"guarded"};
  for (int i = 0; i != 3; ++i) {
    const Buffer buffer = pool->acquire(100_KiB).value();
    const auto blocks = blocks_of(Tracker::live(), "guarded");
    ASSERT_EQ(blocks.size(), 1U);
    EXPECT_EQ(blocks[0].address, reinterpret_cast<std::uintptr_t>(buffer.data()));
  }
  EXPECT_EQ(held("guarded").live_blocks, 0U);
  pool->validate();
}

TEST_F(TrackerTest, AMoveIsNotATakingToALookForLeaks) {
  for (const auto grade : {TrackingGrade::sampled, TrackingGrade::full}) {
    for (const bool checked : {false, true}) {
      use(grade, 64_B);
      const auto pool = make_pool({.checked = checked});
      const TagScope scope{"moved under a mark"};
      std::vector<RelocatableBuffer> buffers;
      for (int i = 0; i != 2000; ++i) {
        buffers.push_back(pool->acquire_relocatable(512_B).value());
      }
      for (std::size_t i = 0; i < buffers.size(); ++i) {
        if (i % 20 != 0) buffers[i].reset();
      }
      const TagStats before = held("moved under a mark");
      const Mark mark = Tracker::mark();
      pool->consolidate();
      EXPECT_TRUE(Tracker::since(mark).empty()) << to_string(grade) << checked;
      EXPECT_EQ(held("moved under a mark").live, before.live);
      pool->validate();
    }
  }
}

TEST_F(TrackerTest, ARefusedRequestIsNoSample) {
  use(TrackingGrade::sampled, 1_GiB);
  const auto pool = make_pool();
  const TagScope scope{"after refusals"};
  std::vector<Buffer> buffers;
  for (int i = 0; i != 100; ++i) {
    EXPECT_FALSE(pool->try_acquire(1_TiB).ok());
    buffers.push_back(pool->acquire(16_B).value());
  }
  const auto blocks = blocks_of(Tracker::live(), "after refusals");
  const auto sampled = std::ranges::count(blocks, TrackingGrade::sampled, &LiveBlock::grade);
  EXPECT_LE(sampled, 1);
}

TEST_F(TrackerTest, TheTimelineMakesNoSamplesOfWhatItRecords) {
  use(TrackingGrade::counters);
  ASSERT_TRUE(Timeline::start().ok());
  const auto tracked = track(Device::host());
  const TagScope scope{"only timed"};
  void* const block = tracked->allocate(1_KiB).value();
  const auto blocks = blocks_of(Tracker::live(), "only timed");
  ASSERT_EQ(blocks.size(), 1U);
  EXPECT_EQ(blocks[0].grade, TrackingGrade::counters);
  tracked->deallocate(block, 1_KiB);
  Timeline::stop();
}

TEST_F(TrackerTest, AnIdleTensorIsNobodysAndThenItsNextUsers) {
  use(TrackingGrade::full);
  const auto tensors = TensorPool::create(make_pool());
  const Shape shape{1 << 18};
  {
    const TagScope first{"first user"};
    const Tensor tensor = tensors->acquire(shape, DataType::f32).value();
    EXPECT_EQ(held("first user").live_blocks, 1U);
  }
  EXPECT_EQ(held("first user").live_blocks, 0U);
  EXPECT_TRUE(blocks_of(Tracker::live(), "first user").empty());
  const TagScope second{"second user"};
  const Tensor tensor = tensors->acquire(shape, DataType::f32).value();
  EXPECT_EQ(held("second user").live, 1_MiB);
  const auto blocks = blocks_of(Tracker::live(), "second user");
  ASSERT_EQ(blocks.size(), 1U);
  EXPECT_EQ(blocks[0].grade, TrackingGrade::full);
}

TEST_F(TrackerTest, APoolsMemoryFromAnotherPoolIsNoUsersBlock) {
  use(TrackingGrade::full);
  const auto lower = make_pool({.name = "lower"});
  const auto upper = Pool::create(lower, {.name = "upper", .cleanup_interval = Duration{0}});
  const TagScope scope{"nested"};
  const Mark mark = Tracker::mark();
  Buffer buffer = upper->acquire(1_KiB).value();
  EXPECT_EQ(held("nested").live, upper->good_size(1_KiB, kDefaultAlignment));
  buffer.reset();
  EXPECT_EQ(held("nested").live, 0_B);
  EXPECT_TRUE(Tracker::since(mark).empty());
}

TEST_F(TrackerTest, KnowsTheSizeOfAVeryLargeBlock) {
  use(TrackingGrade::full);
  const auto device = SimulatedDevice::create({.capacity = 40_GiB});
  const auto pool = Pool::create(device, {.cleanup_interval = Duration{0}});
  const TagScope scope{"very large"};
  const Buffer buffer = pool->acquire(6_GiB).value();
  const auto blocks = blocks_of(Tracker::live(), "very large");
  ASSERT_EQ(blocks.size(), 1U);
  EXPECT_EQ(blocks[0].bytes, 6_GiB);
}

TEST_F(TrackerTest, ATrackedResourceThatEndsTakesItsRecordsAlong) {
  use(TrackingGrade::full);
  const auto arena = SimulatedDevice::create();
  std::vector<void*> blocks;
  {
    const auto tracked = track(arena);
    const TagScope scope{"arena"};
    for (int i = 0; i != 100; ++i) blocks.push_back(tracked->allocate(1_MiB).value());
    EXPECT_EQ(held("arena").live_blocks, 100U);
  }
  for (void* const block : blocks) arena->deallocate(block, 1_MiB);
  EXPECT_EQ(held("arena").live_blocks, 0U);
  EXPECT_EQ(held("arena").live, 0_B);
  EXPECT_EQ(held("arena").allocations, 100U);
}

// A report is exact if nothing was missed since the mark, not if nothing is missed now.
TEST_F(TrackerTest, AReportIsExactOnlyIfTheGradeWasFullAllTheTime) {
  use(TrackingGrade::sampled);
  const Mark early = Tracker::mark();
  use(TrackingGrade::full);
  const Mark late = Tracker::mark();
  EXPECT_FALSE(Tracker::since(early).exact);
  EXPECT_TRUE(Tracker::since(late).exact);
}

TEST_F(TrackerTest, AgesAreRightOnAClockThatIsOld) {
  ManualClock clock;
  clock.advance(std::chrono::hours{24 * 600});
  ASSERT_TRUE(Tracker::set_options({.grade = TrackingGrade::full, .clock = &clock}).ok());
  const auto pool = make_pool();
  const TagScope scope{"old clock"};
  const Buffer buffer = pool->acquire(1_KiB).value();
  clock.advance(std::chrono::seconds{5});
  const auto blocks = blocks_of(Tracker::live(), "old clock");
  ASSERT_EQ(blocks.size(), 1U);
  const Duration age = clock.now().time_since_epoch() - blocks[0].born;
  EXPECT_GE(age, std::chrono::seconds{5});
  EXPECT_LE(age, std::chrono::seconds{5} + std::chrono::milliseconds{20});
}

// ---- What others see

TEST_F(TrackerTest, StatisticsNamePoolsAndBudgets) {
  Budget budget{"statistics", {.limit = 1_GiB}};
  const auto pool =
      Pool::create(budget.meter(Device::host()), {.name = "seen", .cleanup_interval = Duration{0}});
  const Buffer buffer = pool->acquire(1_MiB).value();
  double live = 0;
  double used = 0;
  for (const StatisticsGroup& group : collect_statistics()) {
    for (const Statistic& statistic : group.statistics) {
      if (group.kind == "pool" && group.name == "seen" && statistic.name == "live_bytes") {
        live = statistic.value;
      }
      if (group.kind == "budget" && group.name == "statistics" && statistic.name == "used_bytes") {
        used = statistic.value;
      }
    }
  }
  EXPECT_EQ(live, static_cast<double>((1_MiB).count()));
  EXPECT_EQ(used, static_cast<double>(pool->stats().reserved.count()));
}

TEST_F(TrackerTest, PoolsAndBudgetsOfTheProcessAreListed) {
  Budget budget{"listed", {.limit = 1_GiB}};
  const Budget child = budget.child("child", {.limit = 1_MiB}).value();
  const auto pool = make_pool({.name = "listed pool"});
  const Buffer buffer = pool->acquire(1_MiB).value();
  const auto budgets = Budget::all();
  const auto found = std::ranges::find(budgets, "listed", &BudgetStats::path);
  ASSERT_NE(found, budgets.end());
  EXPECT_EQ(std::next(found)->path, "listed/child");
  const auto pools = Pool::all();
  const auto view = std::ranges::find(pools, "listed pool", &PoolView::name);
  ASSERT_NE(view, pools.end());
  Bytes in_segments;
  bool inside = false;
  const auto at = reinterpret_cast<std::uintptr_t>(buffer.data());
  for (const PoolView::Segment& segment : view->segments) {
    in_segments += segment.bytes;
    inside = inside || (at >= segment.address && at < segment.address + segment.bytes.count());
  }
  EXPECT_EQ(in_segments, view->stats.reserved);
  EXPECT_TRUE(inside);
}

TEST_F(TrackerTest, TheTimelineHasAPoolsAndABudgetsEvents) {
  use(TrackingGrade::counters);
  ASSERT_TRUE(Timeline::start().ok());
  {
    Budget budget{"eventful", {.limit = 10_MiB}};
    const auto pool = Pool::create(budget.meter(Device::host()),
                                   {.name = "eventful pool", .cleanup_interval = Duration{0}});
    const TagScope scope{"events"};
    { const Buffer buffer = pool->acquire(1_MiB).value(); }
    EXPECT_FALSE(pool->acquire(100_MiB).ok());
    pool->release_unused();
  }
  Timeline::stop();
  std::map<EventKind, int> of_pool;
  std::map<EventKind, int> of_budget;
  for (const TimelineEvent& event : Timeline::read()) {
    if (event.subject == "eventful pool") ++of_pool[event.kind];
    if (event.subject == "eventful") ++of_budget[event.kind];
    if (event.kind == EventKind::allocate && event.subject == "eventful pool") {
      EXPECT_EQ(Timeline::tag_of(event).tag, "events");
      EXPECT_EQ(event.bytes, 1_MiB);
    }
  }
  for (const EventKind kind :
       {EventKind::allocate, EventKind::free, EventKind::map, EventKind::unmap, EventKind::deny}) {
    EXPECT_GE(of_pool[kind], 1) << to_string(kind);
  }
  for (const EventKind kind : {EventKind::reserve, EventKind::release, EventKind::deny}) {
    EXPECT_GE(of_budget[kind], 1) << to_string(kind);
  }
}

}  // namespace
}  // namespace forebay::testing
