// What a TensorPool keeps, hands out again, gives away and counts.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "forebay/clock.hpp"
#include "forebay/tensor.hpp"
#include "support/watched_resource.hpp"

namespace forebay {
namespace {

using namespace literals;
using testing::WatchedResource;

class TensorPoolTest : public ::testing::Test {
 protected:
  static constexpr DataType kF32 = DataType::f32;

  std::shared_ptr<TensorPool> make(TensorPoolOptions options = {}) {
    return TensorPool::create(pool_, std::move(options));
  }
  static Tensor take(TensorPool& tensors, const Shape& shape, DataType dtype = kF32,
                     Stream stream = {}) {
    return tensors.acquire(shape, dtype, Contents::uninitialized, stream).value();
  }
  static void use(TensorPool& tensors, const Shape& shape, int times, DataType dtype = kF32) {
    for (int i = 0; i < times; ++i) take(tensors, shape, dtype).reset();
  }
  // `count` idle tensors of a shape.
  static void fill(TensorPool& tensors, const Shape& shape, std::size_t count) {
    std::vector<Tensor> live;
    for (std::size_t i = 0; i < count; ++i) live.push_back(take(tensors, shape));
  }

  const std::shared_ptr<WatchedResource> upstream_ = std::make_shared<WatchedResource>();
  const std::shared_ptr<Pool> pool_ = Pool::create(upstream_);
};

TEST_F(TensorPoolTest, HandsOutATensorOfTheShapeAndTypeAskedFor) {
  const auto tensors = make({.name = "activations"});
  Tensor tensor = take(*tensors, {4, 8}, DataType::f16);
  EXPECT_EQ(tensor.shape(), (Shape{4, 8}));
  EXPECT_EQ(tensor.dtype(), DataType::f16);
  EXPECT_EQ(tensor.device(), TensorDevice{});
  EXPECT_EQ(tensor.size(), 64_B);
  EXPECT_EQ(tensor.strides(), (Shape::Extents{8, 1}));
  EXPECT_EQ(tensor.as<std::uint16_t>().size(), 32U);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(tensor.data()) % 256, 0U);
  std::memset(tensor.data(), 1, 64);
  EXPECT_EQ(tensors->name(), "activations");
  tensors->validate();
}

TEST_F(TensorPoolTest, ReusesTheTensorOfTheSameShape) {
  const auto tensors = make();
  Tensor first = take(*tensors, {32, 16});
  void* const data = first.data();
  first.reset();
  EXPECT_TRUE(first.empty());
  const Tensor second = take(*tensors, {32, 16});
  EXPECT_EQ(second.data(), data);
  EXPECT_EQ(tensors->stats().hits, 1U);
  EXPECT_EQ(tensors->stats().misses, 1U);
  EXPECT_EQ(pool_->stats().acquires, 1U) << "the pool below is not asked for what is here";
}

// The old pool was keyed by shape alone and handed f32 tensors to who asked for f16.
TEST_F(TensorPoolTest, NeverHandsOutATensorOfAnotherTypeForItsShape) {
  const auto tensors = make();
  std::vector<Tensor> live;
  for (int i = 0; i <= static_cast<int>(DataType::int4); ++i) {
    take(*tensors, {16, 16}, static_cast<DataType>(i)).reset();
  }
  EXPECT_EQ(tensors->stats().hits, 0U);
  EXPECT_EQ(tensors->stats().keys, 16U);
  for (int i = 0; i <= static_cast<int>(DataType::int4); ++i) {
    const auto dtype = static_cast<DataType>(i);
    live.push_back(take(*tensors, {16, 16}, dtype));
    EXPECT_EQ(live.back().dtype(), dtype);
    EXPECT_EQ(live.back().size(), tensor_bytes({16, 16}, dtype).value());
  }
  EXPECT_EQ(tensors->stats().hits, 16U);
}

TEST_F(TensorPoolTest, NeverHandsOutATensorOfAnotherShapeOfAsManyBytes) {
  const auto tensors = make();
  take(*tensors, {4, 8}).reset();
  EXPECT_EQ(take(*tensors, {8, 4}).shape(), (Shape{8, 4}));
  EXPECT_EQ(take(*tensors, {32}).shape(), (Shape{32}));
  EXPECT_EQ(take(*tensors, {4, 8, 1}).shape(), (Shape{4, 8, 1}));
  EXPECT_EQ(tensors->stats().hits, 0U);
}

TEST_F(TensorPoolTest, KeepsDevicesApart) {
  const auto gpu = SimulatedDevice::create({.name = "gpu0"});
  const TensorDevice where{DeviceKind::simulated, 1};
  const auto on_gpu = TensorPool::create(Pool::create(gpu), {.device = where});
  const auto on_host = make();
  take(*on_host, {1024}).reset();
  const Tensor tensor = take(*on_gpu, {1024});
  EXPECT_EQ(on_gpu->stats().hits, 0U);
  EXPECT_EQ(tensor.device(), where);
  EXPECT_EQ(on_gpu->device(), where);
  EXPECT_GE(gpu->stats().live, 4_KiB);
}

TEST_F(TensorPoolTest, KeepsTheTensorUsedLastForTheNextOne) {
  const auto tensors = make();
  Tensor cold = take(*tensors, {64});
  Tensor warm = take(*tensors, {64});
  void* const data = warm.data();
  cold.reset();
  warm.reset();
  EXPECT_EQ(take(*tensors, {64}).data(), data);
}

TEST_F(TensorPoolTest, KeepsTenIdleOfAKeyAndGivesTheRestBelow) {
  const auto tensors = make();
  fill(*tensors, {64}, 15);
  fill(*tensors, {65}, 3);
  EXPECT_EQ(tensors->stats().idle_tensors, 13U);
  EXPECT_EQ(tensors->stats().given_below, 5U);
  EXPECT_EQ(pool_->stats().live_blocks, 13U);
  EXPECT_GT(pool_->stats().idle, 0_B) << "what is surplus stays warm there";
  tensors->validate();
}

TEST_F(TensorPoolTest, KeepsAsManyIdleAsItIsTold) {
  const auto none = make({.max_idle_per_key = 0});
  use(*none, {64}, 3);
  EXPECT_EQ(none->stats().idle_tensors, 0U);
  EXPECT_EQ(none->stats().hits, 0U);
  none->validate();
  const auto two = make({.max_idle_per_key = 2});
  fill(*two, {64}, 3);
  EXPECT_EQ(two->stats().idle_tensors, 2U);
  two->validate();
}

TEST_F(TensorPoolTest, KeepsTheLatestOfAKey) {
  const auto tensors = make({.max_idle_per_key = 1});
  Tensor first = take(*tensors, {64});
  Tensor second = take(*tensors, {64});
  void* const data = second.data();
  first.reset();
  second.reset();
  EXPECT_EQ(take(*tensors, {64}).data(), data);
}

TEST_F(TensorPoolTest, KeepsNoMoreIdleBytesThanAllowed) {
  const auto tensors = make({.max_idle = 1_KiB});
  take(*tensors, {64}).reset();   // 256 B
  take(*tensors, {128}).reset();  // 512 B
  take(*tensors, {65}).reset();   // 260 B: the first, longest idle, makes room
  EXPECT_EQ(tensors->stats().idle, 772_B);
  EXPECT_TRUE(tensors->try_acquire({128}, kF32).ok());
  take(*tensors, {1024}).reset();  // does not fit at all
  EXPECT_LE(tensors->stats().idle, 1_KiB);
  tensors->validate();
}

TEST_F(TensorPoolTest, OfNoElementsCostsNothing) {
  const auto tensors = make();
  Tensor none = tensors->acquire({4, 0}, kF32, Contents::zeroed).value();
  EXPECT_FALSE(none.empty());
  EXPECT_EQ(none.data(), nullptr);
  EXPECT_EQ(none.size(), 0_B);
  EXPECT_TRUE(none.bytes().empty());
  none.reset();
  EXPECT_EQ(take(*tensors, {4, 0}).shape(), (Shape{4, 0}));
  EXPECT_EQ(pool_->stats().live_blocks, 0U);
  EXPECT_EQ(tensors->stats().hits, 1U);
  tensors->validate();
}

TEST_F(TensorPoolTest, ZeroesWhenAsked) {
  const auto tensors = make();
  {
    Tensor dirty = take(*tensors, {100});
    std::memset(dirty.data(), 7, 400);
  }
  const Tensor zeroed = tensors->acquire({100}, kF32, Contents::zeroed).value();
  EXPECT_EQ(tensors->stats().hits, 1U);
  const auto bytes = zeroed.bytes();
  EXPECT_TRUE(
      std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{}; }));
  const Tensor fresh = tensors->acquire({101}, kF32, Contents::zeroed).value();
  const auto others = fresh.bytes();
  EXPECT_TRUE(
      std::all_of(others.begin(), others.end(), [](std::byte b) { return b == std::byte{}; }));
}

TEST_F(TensorPoolTest, PrefersATensorOfTheSameStream) {
  const auto tensors = make();
  const Stream one{1};
  const Stream two{2};
  Tensor first = take(*tensors, {64}, kF32, one);
  Tensor second = take(*tensors, {64}, kF32, two);
  void* const of_one = first.data();
  EXPECT_EQ(first.stream(), one);
  first.reset();
  second.reset();
  const Tensor again = take(*tensors, {64}, kF32, one);
  EXPECT_EQ(again.data(), of_one);
}

TEST_F(TensorPoolTest, RemembersTheStreamOfTheLastUse) {
  const auto tensors = make();
  const Stream one{1};
  const Stream two{2};
  Tensor first = take(*tensors, {64}, kF32, one);
  Tensor second = take(*tensors, {64}, kF32, one);
  void* const moved = first.data();
  first.set_stream(two);
  first.reset();
  second.reset();
  const Tensor again = take(*tensors, {64}, kF32, two);
  EXPECT_EQ(again.data(), moved);
  EXPECT_EQ(again.stream(), two);
}

TEST_F(TensorPoolTest, MakesAnotherStreamWaitForTheLastUse) {
  const auto gpu = SimulatedDevice::create({.stream_ordered = true});
  const auto pool = Pool::create(gpu);
  if (!pool->stream_ordered()) GTEST_SKIP() << "this pool does not order streams";
  const auto tensors = TensorPool::create(pool, {.device = TensorDevice{DeviceKind::simulated}});
  take(*tensors, {64}, kF32, Stream{1}).reset();
  take(*tensors, {64}, kF32, Stream{1}).reset();
  const auto before = gpu->stats().stream_waits;
  take(*tensors, {64}, kF32, Stream{2}).reset();
  EXPECT_EQ(tensors->stats().hits, 2U);
  EXPECT_EQ(gpu->stats().stream_waits, before + 1);
}

TEST_F(TensorPoolTest, MovesItsTensors) {
  const auto tensors = make();
  Tensor first = take(*tensors, {64});
  void* const data = first.data();
  Tensor second{std::move(first)};
  EXPECT_TRUE(first.empty());  // NOLINT(bugprone-use-after-move): what a move leaves is promised
  EXPECT_EQ(second.data(), data);
  Tensor& same = second;
  second = std::move(same);
  EXPECT_EQ(second.data(), data);
  second = take(*tensors, {65});
  EXPECT_EQ(second.shape(), (Shape{65}));
  EXPECT_EQ(tensors->stats().live_tensors, 1U);
  EXPECT_EQ(tensors->stats().idle_tensors, 1U);
}

TEST_F(TensorPoolTest, CountsWhatIsLiveAndIdleAndTheirPeaks) {
  const auto tensors = make();
  Tensor first = take(*tensors, {256});
  Tensor second = take(*tensors, {512});
  first.reset();
  Tensor third = take(*tensors, {128});
  const TensorPoolStats stats = tensors->stats();
  EXPECT_EQ(stats.live, 2560_B);
  EXPECT_EQ(stats.idle, 1_KiB);
  EXPECT_EQ(stats.peak_live, 3_KiB);
  EXPECT_EQ(stats.peak_held, 3584_B);
  EXPECT_EQ(stats.live_tensors, 2U);
  EXPECT_EQ(stats.idle_tensors, 1U);
  EXPECT_EQ(stats.acquires, 3U);
  EXPECT_EQ(stats.keys, 3U);
  tensors->validate();
}

TEST_F(TensorPoolTest, KnowsItsHitRate) {
  const auto tensors = make();
  EXPECT_DOUBLE_EQ(tensors->stats().hit_rate(), 1.0) << "nothing was missed yet";
  use(*tensors, {64}, 4);
  EXPECT_DOUBLE_EQ(tensors->stats().hit_rate(), 0.75);
}

TEST_F(TensorPoolTest, ListsTheKeysUsedMost) {
  const auto tensors = make();
  for (int i = 1; i <= 7; ++i) use(*tensors, {static_cast<std::uint64_t>(8 - i)}, i);
  const auto top = tensors->top();
  ASSERT_EQ(top.size(), 5U);
  for (std::size_t i = 0; i < 5; ++i) {
    EXPECT_EQ(top[i].uses, 7 - i);
    EXPECT_EQ(top[i].hits, 6 - i);
    EXPECT_EQ(top[i].shape, (Shape{i + 1}));
    EXPECT_EQ(top[i].dtype, kF32);
    EXPECT_EQ(top[i].idle_tensors, 1U);
  }
}

TEST_F(TensorPoolTest, ListsTheKeysThatTakeMost) {
  const auto tensors = make();
  const Tensor large = take(*tensors, {1024}, DataType::f64);
  fill(*tensors, {512}, 3);
  use(*tensors, {16}, 9);
  const auto top = tensors->top(2, TensorOrder::bytes);
  ASSERT_EQ(top.size(), 2U);
  EXPECT_EQ(top[0].bytes, 8_KiB);
  EXPECT_EQ(top[0].live_tensors, 1U);
  EXPECT_EQ(top[1].bytes, 6_KiB);
  EXPECT_EQ(top[1].idle_tensors, 3U);
  EXPECT_TRUE(tensors->top(0).empty());
  EXPECT_EQ(tensors->top(99).size(), 3U);
  EXPECT_TRUE(make()->top().empty());
}

TEST_F(TensorPoolTest, CleansUpKeysThatAreRarelyUsed) {
  const auto tensors = make();
  use(*tensors, {64}, 5);
  use(*tensors, {128}, 4);
  fill(*tensors, {256}, 3);
  const TensorCleanup cleaned = tensors->cleanup_unused(5);
  EXPECT_EQ(cleaned.tensors, 4U);
  EXPECT_EQ(cleaned.bytes, 512_B + 3_KiB);
  EXPECT_EQ(tensors->stats().idle_tensors, 1U);
  EXPECT_EQ(tensors->stats().keys, 1U);
  EXPECT_EQ(pool_->stats().live_blocks, 1U);
  tensors->validate();
}

TEST_F(TensorPoolTest, CountsUsesFromTheLastCleanup) {
  const auto tensors = make();
  use(*tensors, {64}, 9);
  EXPECT_EQ(tensors->cleanup_unused(5).tensors, 0U);
  use(*tensors, {64}, 4);
  EXPECT_EQ(tensors->cleanup_unused(5).tensors, 1U) << "nine uses were before the first cleanup";
  EXPECT_EQ(tensors->cleanup_unused(5).tensors, 0U);
  tensors->validate();
}

TEST_F(TensorPoolTest, CleansUpIdleTensorsOnly) {
  const auto tensors = make();
  Tensor live = take(*tensors, {64});
  take(*tensors, {64}).reset();
  const TensorCleanup cleaned = tensors->cleanup_unused(100);
  EXPECT_EQ(cleaned.tensors, 1U);
  std::memset(live.data(), 1, 256);
  live.reset();
  EXPECT_EQ(tensors->stats().idle_tensors, 1U);
  EXPECT_EQ(tensors->cleanup_unused(0).tensors, 0U) << "no key is used less than never";
  tensors->validate();
}

TEST_F(TensorPoolTest, GivesWhatIsIdleTooLongBelow) {
  ManualClock clock;
  const auto tensors = make({.ttl = std::chrono::seconds{60}, .clock = &clock});
  take(*tensors, {64}).reset();
  EXPECT_EQ(tensors->tick(), 0_B);
  clock.advance(std::chrono::seconds{40});
  take(*tensors, {128}).reset();
  EXPECT_EQ(tensors->tick(), 0_B);
  clock.advance(std::chrono::seconds{20});
  EXPECT_EQ(tensors->tick(), 0_B) << "as old as the ttl, not older";
  clock.advance(std::chrono::seconds{1});
  EXPECT_EQ(tensors->tick(), 256_B);
  EXPECT_EQ(tensors->stats().idle, 512_B);
  tensors->validate();
  clock.advance(std::chrono::seconds{60});
  EXPECT_EQ(tensors->tick(), 512_B);
  EXPECT_EQ(pool_->stats().live_blocks, 0U);
  tensors->validate();
}

TEST_F(TensorPoolTest, CountsIdleTimeFromTheFirstTickThatSawIt) {
  ManualClock clock;
  const auto tensors = make({.ttl = std::chrono::seconds{60}, .clock = &clock});
  take(*tensors, {64}).reset();
  clock.advance(std::chrono::seconds{100});
  EXPECT_EQ(tensors->tick(), 0_B) << "one call late, never early";
  clock.advance(std::chrono::seconds{61});
  take(*tensors, {64}).reset();
  EXPECT_EQ(tensors->tick(), 0_B) << "it was used in between";
  clock.advance(std::chrono::seconds{61});
  EXPECT_EQ(tensors->tick(), 256_B);
}

TEST_F(TensorPoolTest, CountsItsIdleTensorsAsLiveBlocksOfThePoolBelow) {
  const auto tensors = make();
  take(*tensors, {1024}).reset();
  EXPECT_EQ(tensors->reclaimable(), 4_KiB);
  EXPECT_EQ(pool_->stats().live_blocks, 1U);
  EXPECT_LE(pool_->reclaimable(), pool_->stats().idle) << "nothing is in both";
  const Bytes held = upstream_->live();
  EXPECT_GE(tensors->reclaim(Bytes::unlimited()), 4_KiB);
  EXPECT_EQ(tensors->reclaimable(), 0_B);
  EXPECT_EQ(pool_->stats().live_blocks, 0U);
  EXPECT_LE(upstream_->live() + 4_KiB, held) << "the bytes have left the pool too";
}

TEST_F(TensorPoolTest, ReclaimsTheLongestIdleFirstAndNoMoreThanAsked) {
  const auto tensors = make();
  take(*tensors, {1024}).reset();
  take(*tensors, {1025}).reset();
  take(*tensors, {1026}).reset();
  EXPECT_EQ(tensors->reclaim(0_B), 0_B);
  tensors->reclaim(1_B);
  EXPECT_EQ(tensors->stats().idle_tensors, 2U);
  take(*tensors, {1025}).reset();
  take(*tensors, {1026}).reset();
  EXPECT_EQ(tensors->stats().hits, 2U) << "the first is gone, these are not";
  tensors->validate();
}

TEST_F(TensorPoolTest, FindsNothingToReclaimWhereNothingIsIdle) {
  const auto tensors = make();
  const Tensor live = take(*tensors, {1024});
  EXPECT_EQ(tensors->reclaim(Bytes::unlimited()), 0_B);
}

TEST_F(TensorPoolTest, RemembersNoMoreKeysThanAllowed) {
  const auto tensors = make({.max_idle_per_key = 0, .max_keys = 3});
  for (std::uint64_t i = 1; i <= 20; ++i) use(*tensors, {i}, 2);
  EXPECT_EQ(tensors->stats().keys, 3U);
  EXPECT_EQ(tensors->stats().acquires, 40U) << "what was forgotten stays counted";
  EXPECT_EQ(tensors->top(5)[0].uses, 2U);
  tensors->validate();
}

TEST_F(TensorPoolTest, GivesUpTheLongestIdleTensorsOfTooManyKeys) {
  const auto tensors = make({.max_keys = 2});
  for (std::uint64_t i = 1; i <= 6; ++i) use(*tensors, {i}, 1);
  EXPECT_EQ(tensors->stats().keys, 2U);
  EXPECT_EQ(tensors->stats().idle_tensors, 2U);
  EXPECT_EQ(pool_->stats().live_blocks, 2U);
  use(*tensors, {6}, 1);
  EXPECT_EQ(tensors->stats().hits, 1U) << "the latest stayed";
  tensors->validate();
}

TEST_F(TensorPoolTest, ForgetsNoKeyWhoseTensorsAreOut) {
  const auto tensors = make({.max_keys = 2});
  std::vector<Tensor> out;
  for (std::uint64_t i = 1; i <= 6; ++i) out.push_back(take(*tensors, {i}));
  EXPECT_EQ(tensors->stats().keys, 6U);
  out.clear();
  EXPECT_EQ(tensors->stats().keys, 2U);
  tensors->validate();
}

TEST_F(TensorPoolTest, KeepsThePoolBelowAlive) {
  const auto upstream = std::make_shared<WatchedResource>();
  auto pool = Pool::create(upstream);
  const std::weak_ptr<Pool> watch = pool;
  auto tensors = TensorPool::create(std::move(pool));
  take(*tensors, {64}).reset();
  EXPECT_FALSE(watch.expired());
  tensors.reset();
  EXPECT_TRUE(watch.expired());
  EXPECT_EQ(upstream->live(), 0_B);
}

using TensorPoolDeathTest = TensorPoolTest;

TEST_F(TensorPoolDeathTest, AbortsWhenItEndsBeforeItsTensorsAndNamesThem) {
  EXPECT_DEATH(
      {
        auto tensors = make({.name = "teacher"});
        const Tensor first = take(*tensors, {8, 1024});
        const Tensor second = take(*tensors, {8, 1024});
        tensors.reset();
      },
      "tensor pool 'teacher' ended with 2 live tensors of 64 KiB\n.*2 of \\[8, 1024\\] f32");
}

TEST_F(TensorPoolDeathTest, AbortsWhenATensorIsReadAsAnotherSize) {
  const auto tensors = make();
  const Tensor tensor = take(*tensors, {64}, DataType::f16);
  EXPECT_DEATH(static_cast<void>(tensor.as<float>()), "elements of another size");
}

TEST_F(TensorPoolTest, RefusesOptionsThatMakeNoSense) {
  const auto message = [](const std::shared_ptr<Pool>& pool, const TensorPoolOptions& options) {
    try {
      TensorPool::create(pool, options);
    } catch (const Failure& failure) {
      EXPECT_EQ(failure.status().code(), Code::invalid_argument);
      return failure.status().message();
    }
    return std::string{"made"};
  };
  EXPECT_EQ(message(pool_, {.name = "t", .ttl = Duration{-1}}),
            "t: ttl -1 ns is not allowed; it must be 0 or more");
  const auto gpu = Pool::create(SimulatedDevice::create({.name = "gpu0"}), {.name = "gpu pool"});
  EXPECT_EQ(message(gpu, {.name = "t"}),
            "t: the CPU does not reach the memory of gpu pool; say which device that is "
            "(TensorPoolOptions::device)");
  EXPECT_NE(message(pool_, {.alignment = 3_B}), "made");
  EXPECT_NE(message(pool_, {.alignment = 4_MiB}), "made");
}

}  // namespace
}  // namespace forebay
