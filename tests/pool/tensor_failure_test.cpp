// What a TensorPool does when memory is refused, at each step where it can be; preallocation.
#include <gtest/gtest.h>

#include <vector>

#include "forebay/budget.hpp"
#include "forebay/tensor.hpp"
#include "support/failing_new.hpp"
#include "support/watched_resource.hpp"

namespace forebay {
namespace {

using namespace literals;
using testing::walk_allocation_failures;
using testing::WatchedResource;

constexpr DataType kF32 = DataType::f32;

// What must be as it was after a failure. Not the refusals, which count it, nor what has gone
// in and out below on the way.
struct State {
  Bytes live;
  Bytes idle;
  Bytes peak_live;
  std::uint64_t acquires;
  std::uint64_t keys;
  std::uint64_t blocks_below;
  Bytes live_below;
  friend bool operator==(const State&, const State&) = default;
};

class TensorFailureTest : public ::testing::Test {
 protected:
  State state() const {
    const TensorPoolStats stats = tensors_->stats();
    const PoolStats below = pool_->stats();
    return {stats.live, stats.idle,        stats.peak_live, stats.acquires,
            stats.keys, below.live_blocks, below.live};
  }

  const std::shared_ptr<WatchedResource> upstream_ = std::make_shared<WatchedResource>();
  const std::shared_ptr<Pool> pool_ = Pool::create(upstream_);
  const std::shared_ptr<TensorPool> tensors_ = TensorPool::create(pool_, {.name = "kernels"});
};
using PreallocateTest = TensorFailureTest;

TEST_F(TensorFailureTest, NamesTheTensorThatDoesNotFit) {
  upstream_->failing.fail_after(0);
  const auto refused = tensors_->acquire({1024, 1024}, kF32);
  EXPECT_EQ(refused.status().code(), Code::memory_refused);
  EXPECT_EQ(refused.status().message().find("kernels [1024, 1024] f32: "), 0U)
      << refused.status().message();
  EXPECT_EQ(tensors_->stats().refused, 1U);
  EXPECT_EQ(tensors_->stats().acquires, 0U);
  EXPECT_EQ(tensors_->stats().keys, 0U) << "a key that never had a tensor is not remembered";
  tensors_->validate();
}

TEST_F(TensorFailureTest, RefusesATensorThatNoBlockCanHold) {
  const auto refused = tensors_->acquire({1ULL << 62}, DataType::f64);
  EXPECT_EQ(refused.status().code(), Code::memory_refused);
  EXPECT_NE(refused.status().message().find("2^63"), std::string::npos);
  EXPECT_EQ(tensors_->acquire({1ULL << 62}, DataType::u8).status().code(), Code::memory_refused);
  tensors_->validate();
}

TEST_F(TensorFailureTest, KeepsTheAccountOfABudgetsRefusal) {
  Budget budget{"gpu", {.limit = 1_MiB}};
  const auto pool = Pool::create(budget.meter(Device::host()));
  const auto tensors = TensorPool::create(pool);
  const auto refused = tensors->acquire({1024, 1024}, kF32);
  ASSERT_NE(refused.status().refusal(), nullptr);
  EXPECT_EQ(refused.status().refusal()->budget, "gpu");
}

TEST_F(TensorFailureTest, GivesIdleTensorsUpBeforeItIsRefused) {
  const auto gpu = SimulatedDevice::create({.capacity = 8_MiB});
  const auto pool = Pool::create(gpu);
  const auto tensors = TensorPool::create(pool, {.device = TensorDevice{DeviceKind::simulated, 0}});
  {
    std::vector<Tensor> live;
    for (int i = 0; i < 6; ++i) live.push_back(tensors->acquire({1, 1 << 18}, kF32).value());
  }
  EXPECT_EQ(tensors->stats().idle, 6_MiB);
  const auto large = tensors->acquire({5, 1 << 18}, kF32);
  EXPECT_TRUE(large.ok()) << large.status().message();
  EXPECT_LT(tensors->stats().idle, 6_MiB);
  EXPECT_EQ(tensors->stats().refused, 0U);
  tensors->validate();
}

TEST_F(TensorFailureTest, TriesOnlyIdleMemoryWhenAskedTo) {
  EXPECT_EQ(tensors_->try_acquire({64}, kF32).status().code(), Code::memory_refused);
  EXPECT_EQ(upstream_->allocations(), 0U);
  EXPECT_EQ(tensors_->stats().refused, 1U);
  tensors_->acquire({64}, kF32).value().reset();
  EXPECT_TRUE(tensors_->try_acquire({64}, kF32).ok());
  EXPECT_EQ(tensors_->stats().hits, 1U);
  tensors_->cleanup_unused(100);
  const auto asked = upstream_->allocations();
  EXPECT_TRUE(tensors_->try_acquire({64}, kF32).ok()) << "the pool below has it idle";
  EXPECT_EQ(upstream_->allocations(), asked);
  tensors_->validate();
}

TEST_F(TensorFailureTest, TriesWithoutGivingIdleTensorsUp) {
  tensors_->acquire({64}, kF32).value().reset();
  upstream_->failing.fail_after(0);
  EXPECT_FALSE(tensors_->try_acquire({1 << 20}, kF32).ok());
  EXPECT_EQ(tensors_->stats().idle_tensors, 1U);
}

TEST_F(TensorFailureTest, ChangesNothingWhereverTheHostHasNoMemoryLeft) {
  tensors_->acquire({32}, kF32).value().reset();
  State before = state();
  std::uint64_t extent = 64;
  Result<Tensor> got = Status{Code::memory_refused, "not asked yet"};
  const auto failures = walk_allocation_failures(
      [&] {
        before = state();
        got = tensors_->acquire({extent}, kF32);
      },
      [&] {
        if (got.ok()) {  // the pool below could do without: another shape then fails anew
          got->reset();
          ++extent;
        } else {
          EXPECT_EQ(got.status().code(), Code::memory_refused);
          State after = state();
          after.idle = before.idle;  // given up before the refusal
          after.keys = before.keys;
          after.blocks_below = before.blocks_below;
          after.live_below = before.live_below;
          EXPECT_EQ(after, before);
        }
        tensors_->validate();
        pool_->validate();
      });
  EXPECT_GT(failures, 0U);
}

TEST_F(TensorFailureTest, NeedsNoHostMemoryForAHitAndAReturn) {
  tensors_->acquire({64}, kF32).value().reset();
  const auto failures = walk_allocation_failures(
      [&] {
        Tensor again = tensors_->acquire({64}, kF32).value();
        again.reset();
      },
      [] {});
  EXPECT_EQ(failures, 0U);
}

TEST_F(TensorFailureTest, GivesBackWithoutHostMemory) {
  Tensor tensor = tensors_->acquire({64}, kF32).value();
  const testing::FailingNew none{0, testing::FailingNew::Failing::from_there_on};
  tensor.reset();
  EXPECT_EQ(tensors_->cleanup_unused(100).tensors, 1U);
  EXPECT_EQ(tensors_->reclaim(1_GiB), 0_B);
}

TEST_F(PreallocateTest, MakesEveryTensorAHit) {
  const std::vector<TensorSpec> specs{{{4, 64}, kF32, 3}, {{4, 64}, DataType::f16, 2}, {{8}}};
  ASSERT_TRUE(tensors_->preallocate(specs).ok());
  EXPECT_EQ(tensors_->stats().idle_tensors, 6U);
  EXPECT_EQ(tensors_->stats().preallocated, 6U);
  EXPECT_EQ(tensors_->stats().acquires, 0U) << "nobody has used any yet";
  EXPECT_EQ(tensors_->stats().peak_live, 0_B);
  {
    std::vector<Tensor> live;
    for (int i = 0; i < 3; ++i) live.push_back(tensors_->acquire({4, 64}, kF32).value());
    for (int i = 0; i < 2; ++i) live.push_back(tensors_->acquire({4, 64}, DataType::f16).value());
    live.push_back(tensors_->acquire({8}, kF32).value());
  }
  EXPECT_EQ(tensors_->stats().misses, 0U);
  EXPECT_EQ(tensors_->stats().hits, 6U);
  tensors_->validate();
}

TEST_F(PreallocateTest, CountsWhatIsIdleAlready) {
  const std::vector<TensorSpec> specs{{{64}, kF32, 3}, {{128}, kF32, 1}};
  tensors_->acquire({64}, kF32).value().reset();
  ASSERT_TRUE(tensors_->preallocate(specs).ok());
  EXPECT_EQ(tensors_->stats().preallocated, 3U);
  ASSERT_TRUE(tensors_->preallocate(specs).ok());
  EXPECT_EQ(tensors_->stats().preallocated, 3U) << "a second call finds all there";
  EXPECT_EQ(tensors_->stats().idle_tensors, 4U);
  tensors_->validate();
}

TEST_F(PreallocateTest, AddsUpSpecsOfTheSameKey) {
  const std::vector<TensorSpec> specs{{{64}, kF32, 2}, {{64}, kF32, 3}};
  ASSERT_TRUE(tensors_->preallocate(specs).ok());
  EXPECT_EQ(tensors_->stats().idle_tensors, 5U);
  EXPECT_EQ(tensors_->stats().keys, 1U);
}

TEST_F(PreallocateTest, OfNothingDoesNothing) {
  EXPECT_TRUE(tensors_->preallocate({}).ok());
  const std::vector<TensorSpec> none{{{64}, kF32, 0}};
  EXPECT_TRUE(tensors_->preallocate(none).ok());
  EXPECT_EQ(tensors_->stats().keys, 0U);
  EXPECT_EQ(upstream_->allocations(), 0U);
}

TEST_F(PreallocateTest, RefusesMoreThanItMayKeepIdle) {
  const std::vector<TensorSpec> many{{{64}, kF32, 6}, {{64}, kF32, 5}};
  const Status refused = tensors_->preallocate(many);
  EXPECT_EQ(refused.code(), Code::invalid_argument);
  EXPECT_EQ(refused.message(),
            "kernels [64] f32: 5 more to preallocate after 6, but max_idle_per_key keeps only 10");
  const auto small = TensorPool::create(pool_, {.max_idle = 1_KiB});
  const std::vector<TensorSpec> large{{{64}, kF32, 3}, {{65}, kF32, 1}};
  EXPECT_TRUE(small->preallocate(std::span{large}.first(1)).ok());
  EXPECT_EQ(small->preallocate(large).message(),
            "tensors [65] f32: with 1 of these there is more to preallocate than the 1 KiB that "
            "max_idle keeps");
  const std::vector<TensorSpec> overflow{{{1ULL << 60}, DataType::u8, 10},
                                         {{1ULL << 60, 1}, DataType::u8, 10}};
  EXPECT_EQ(tensors_->preallocate(overflow).code(), Code::invalid_argument);
  tensors_->validate();
}

TEST_F(PreallocateTest, LeavesEverythingAsItWasWhicheverRequestUpstreamRefuses) {
  Budget budget{"gpu"};
  const auto pool = Pool::create(budget.meter(upstream_));
  const auto tensors = TensorPool::create(pool);
  tensors->acquire({1 << 18}, kF32).value().reset();
  const std::vector<TensorSpec> specs{
      {{1 << 18}, kF32, 3}, {{1 << 19}, kF32, 2}, {{3, 1 << 18}, DataType::f16, 2}};
  std::uint64_t refusals = 0;
  for (std::uint64_t n = 0;; ++n) {
    const TensorPoolStats before = tensors->stats();
    const PoolStats below = pool->stats();
    const Bytes charged = budget.stats().used;
    upstream_->failing.fail_after(n);
    const Status done = tensors->preallocate(specs);
    upstream_->failing.never_fail();
    tensors->validate();
    pool->validate();
    if (done.ok()) break;
    ++refusals;
    EXPECT_EQ(done.code(), Code::memory_refused);
    const TensorPoolStats after = tensors->stats();
    EXPECT_EQ(after.idle_tensors, before.idle_tensors) << n;
    EXPECT_EQ(after.idle, before.idle);
    EXPECT_EQ(after.keys, before.keys);
    EXPECT_EQ(pool->stats().live, below.live);
    EXPECT_LE(pool->stats().reserved, below.reserved) << n;
    EXPECT_LE(budget.stats().used, charged) << n;
  }
  EXPECT_GT(refusals, 0U);
  EXPECT_EQ(tensors->stats().idle_tensors, 7U);
}

TEST_F(PreallocateTest, LeavesEverythingAsItWasWhereverTheHostHasNoMemoryLeft) {
  const std::vector<TensorSpec> specs{{{1 << 18}, kF32, 2}, {{1 << 19}, kF32, 2}};
  tensors_->acquire({1 << 18}, kF32).value().reset();
  State before{};
  Bytes reserved;
  Status done;
  const auto failures = walk_allocation_failures(
      [&] {
        before = state();
        reserved = pool_->stats().reserved;
        done = tensors_->preallocate(specs);
      },
      [&] {
        tensors_->validate();
        pool_->validate();
        if (done.ok()) return;
        EXPECT_EQ(done.code(), Code::memory_refused);
        EXPECT_EQ(state(), before);
        EXPECT_LE(pool_->stats().reserved, reserved);
      });
  EXPECT_GT(failures, 4U);
  EXPECT_EQ(tensors_->stats().idle_tensors, 4U);
}

TEST_F(PreallocateTest, HoldsTheLineOfItsBudget) {
  Budget budget{"gpu", {.limit = 4_MiB}};
  const auto pool = Pool::create(budget.meter(Device::host()));
  const auto tensors = TensorPool::create(pool);
  const std::vector<TensorSpec> specs{{{1 << 18}, kF32, 5}};
  EXPECT_EQ(tensors->preallocate(specs).code(), Code::memory_refused);
  EXPECT_EQ(tensors->stats().idle_tensors, 0U);
  EXPECT_EQ(budget.stats().used, 0_B);
}

// A reclaimer that takes what was found idle would leave too few in the end.
TEST_F(PreallocateTest, IsNotUndoneByAReclaimerMeanwhile) {
  Budget budget{"gpu", {.limit = 4_MiB}};
  const auto pool = Pool::create(budget.meter(Device::host()));
  const auto tensors = TensorPool::create(pool);
  const auto registration = budget.add_reclaimer(*tensors, {.name = "tensors"});
  tensors->acquire({1 << 18}, kF32).value().reset();
  tensors->acquire({1 << 19}, kF32).value().reset();  // in the way
  const std::vector<TensorSpec> specs{{{1 << 18}, kF32, 2}, {{3, 1 << 17}, kF32, 1}};
  ASSERT_TRUE(tensors->preallocate(specs).ok());
  EXPECT_TRUE(tensors->try_acquire({3, 1 << 17}, kF32).ok());
  const auto first = tensors->try_acquire({1 << 18}, kF32);
  const auto second = tensors->try_acquire({1 << 18}, kF32);
  EXPECT_TRUE(first.ok() && second.ok());
  EXPECT_EQ(tensors->stats().hits, 3U);
  tensors->validate();
}

TEST_F(TensorFailureTest, GivesWayWhenItsBudgetAsks) {
  Budget budget{"gpu", {.limit = 8_MiB}};
  const auto pool = Pool::create(budget.meter(Device::host()));
  const auto tensors = TensorPool::create(pool);
  const auto registration = budget.add_reclaimer(*tensors, {.name = "tensors"});
  {
    std::vector<Tensor> live;
    for (int i = 0; i < 6; ++i) live.push_back(tensors->acquire({1 << 18}, kF32).value());
  }
  const auto other = budget.reserve(5_MiB);
  EXPECT_TRUE(other.ok()) << other.status().message();
  EXPECT_LE(budget.stats().used, 8_MiB);
  EXPECT_LT(tensors->stats().idle, 6_MiB);
  tensors->validate();
}

TEST(TeacherSpecs, AreActivationsLogitsAndHiddenStates) {
  const auto specs = teacher_specs({.batch = 2, .sequence = 8, .hidden = 16, .vocab = 100}).value();
  ASSERT_EQ(specs.size(), 3U);
  EXPECT_EQ(specs[0].shape, (Shape{2, 8, 16}));
  EXPECT_EQ(specs[1].shape, (Shape{2, 8, 100}));
  EXPECT_EQ(specs[2].shape, (Shape{2, 16}));
  for (const TensorSpec& spec : specs) {
    EXPECT_EQ(spec.dtype, DataType::f16);
    EXPECT_EQ(spec.count, 1U);
  }
}

TEST(TeacherSpecs, HaveActivationsAndHiddenStatesOfEachLayer) {
  const auto specs = teacher_specs({.batch = 1,
                                    .sequence = 2,
                                    .hidden = 3,
                                    .vocab = 4,
                                    .layers = 7,
                                    .dtype = DataType::bf16})
                         .value();
  EXPECT_EQ(specs[0].count, 7U);
  EXPECT_EQ(specs[1].count, 1U);
  EXPECT_EQ(specs[2].count, 7U);
  EXPECT_EQ(specs[1].dtype, DataType::bf16);
}

TEST(TeacherSpecs, NameTheFieldThatIsMissing) {
  EXPECT_EQ(teacher_specs({.batch = 2, .sequence = 8, .vocab = 100}).status().message(),
            "teacher shapes: hidden 0 is not allowed; it must be 1 or more");
  EXPECT_EQ(teacher_specs({.batch = 2, .sequence = 8, .hidden = 1, .vocab = 1, .layers = 0})
                .status()
                .code(),
            Code::invalid_argument);
  const auto huge =
      teacher_specs({.batch = 1ULL << 40, .sequence = 1ULL << 40, .hidden = 1, .vocab = 1});
  EXPECT_EQ(huge.status().code(), Code::invalid_argument);
  EXPECT_EQ(huge.status().message().find("teacher shapes: shape ["), 0U);
}

TEST_F(PreallocateTest, OfATeacherMakesItsPassesHits) {
  const TeacherShapes teacher{.batch = 2, .sequence = 8, .hidden = 16, .vocab = 100, .layers = 2};
  ASSERT_TRUE(tensors_->preallocate_teacher(teacher).ok());
  EXPECT_EQ(tensors_->stats().idle_tensors, 5U);
  for (int pass = 0; pass < 3; ++pass) {
    const Tensor activations = tensors_->acquire({2, 8, 16}, DataType::f16).value();
    const Tensor logits = tensors_->acquire({2, 8, 100}, DataType::f16).value();
    const Tensor hidden = tensors_->acquire({2, 16}, DataType::f16).value();
  }
  EXPECT_EQ(tensors_->stats().misses, 0U);
  ASSERT_TRUE(tensors_->preallocate_teacher(teacher).ok());
  EXPECT_EQ(tensors_->stats().preallocated, 5U) << "the teacher is not reserved twice";
  EXPECT_EQ(tensors_->preallocate_teacher({}).code(), Code::invalid_argument);
  EXPECT_EQ(tensors_
                ->preallocate_teacher(
                    {.batch = 2, .sequence = 8, .hidden = 16, .vocab = 100, .layers = 11})
                .code(),
            Code::invalid_argument)
      << "eleven of a key, ten kept";
}

}  // namespace
}  // namespace forebay
