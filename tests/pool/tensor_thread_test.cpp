// TensorPool with several threads, and with nobody's lock held below.
#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include "forebay/tensor.hpp"
#include "support/watched_resource.hpp"

namespace forebay {
namespace {

using namespace literals;
using testing::WatchedResource;

constexpr int kThreads = 4;
constexpr int kSteps = 1500;

// Tensors of a few keys, each filled with a pattern that must still be there at its end.
void churn(TensorPool& tensors, unsigned seed) {
  std::minstd_rand random{seed};
  std::vector<std::pair<Tensor, int>> live;
  for (int step = 0; step < kSteps; ++step) {
    if (live.size() > 6 || (!live.empty() && random() % 2 == 0)) {
      std::swap(live[random() % live.size()], live.back());
      const auto [tensor, pattern] = std::move(live.back());
      live.pop_back();
      for (const std::byte byte : tensor.bytes()) {
        ASSERT_EQ(static_cast<int>(byte), pattern) << "two have the same memory";
      }
      continue;
    }
    const Shape shape{1 + random() % 3, 1 + random() % 4};
    const auto dtype = random() % 2 == 0 ? DataType::f32 : DataType::int4;
    Tensor tensor = tensors.acquire(shape, dtype).value();
    const int pattern = static_cast<int>(random() % 256);
    std::memset(tensor.data(), pattern, tensor.size().count());
    live.emplace_back(std::move(tensor), pattern);
  }
}

void run_threads(const std::function<void(unsigned)>& work) {
  std::vector<std::thread> threads;
  for (unsigned seed = 1; seed <= kThreads; ++seed) threads.emplace_back(work, seed);
  for (std::thread& thread : threads) thread.join();
}

TEST(TensorThreads, NeverShareATensor) {
  // With five keys, what the threads hold may leave no place for idle ones; 24 are all there are.
  for (const std::uint64_t max_keys : {5U, 24U}) {
    const auto pool = Pool::create(Device::host());
    const auto tensors = TensorPool::create(pool, {.max_idle_per_key = 3, .max_keys = max_keys});
    run_threads([&](unsigned seed) { churn(*tensors, seed); });
    EXPECT_EQ(tensors->stats().live_tensors, 0U);
    EXPECT_GT(tensors->stats().acquires, kThreads * kSteps / 2U);
    if (max_keys == 24) {
      EXPECT_GT(tensors->stats().hits, kThreads * kSteps / 4U);
    }
    tensors->validate();
    pool->validate();
  }
}

TEST(TensorThreads, MayReclaimCleanUpAndLookMeanwhile) {
  const auto pool = Pool::create(Device::host());
  const auto tensors = TensorPool::create(pool);
  std::atomic<bool> done{false};
  std::thread janitor{[&] {
    const std::vector<TensorSpec> specs{{{2, 2}, DataType::f32, 2}};
    while (!done.load()) {
      tensors->reclaim(1_KiB);
      tensors->cleanup_unused(2);
      tensors->tick();
      EXPECT_TRUE(tensors->preallocate(specs).ok());
      const TensorPoolStats stats = tensors->stats();
      EXPECT_EQ(stats.hits + stats.misses, stats.acquires);
      EXPECT_LE(tensors->top().size(), 5U);
      tensors->validate();
    }
  }};
  run_threads([&](unsigned seed) { churn(*tensors, seed); });
  done.store(true);
  janitor.join();
  tensors->validate();
  pool->validate();
}

TEST(TensorThreads, GiveTensorsBackThatOthersTook) {
  const auto tensors = TensorPool::create(Pool::create(Device::host()));
  std::mutex mutex;
  std::vector<Tensor> handed_over;
  run_threads([&](unsigned seed) {
    for (int i = 0; i < 500; ++i) {
      Tensor other;
      if (seed % 2 == 0) {
        Tensor tensor = tensors->acquire({64}, DataType::f32).value();
        const std::lock_guard lock{mutex};
        handed_over.push_back(std::move(tensor));
      } else {
        const std::lock_guard lock{mutex};
        if (handed_over.empty()) continue;
        other = std::move(handed_over.back());
        handed_over.pop_back();
      }
    }
  });
  handed_over.clear();
  EXPECT_EQ(tensors->stats().live_tensors, 0U);
  EXPECT_EQ(tensors->stats().acquires, 1000U);
  tensors->validate();
}

// Upstream asks the tensor pool something: with a lock held there, this would never end.
TEST(TensorThreads, HoldNoLockWhileMemoryComesAndGoes) {
  const auto upstream = std::make_shared<WatchedResource>();
  std::shared_ptr<TensorPool> tensors;
  int calls = 0;
  upstream->on_call = [&] {
    ++calls;
    if (tensors != nullptr) static_cast<void>(tensors->stats());
  };
  const auto pool = Pool::create(upstream);
  tensors = TensorPool::create(pool, {.max_idle_per_key = 1});
  {
    const Tensor first = tensors->acquire({1 << 20}, DataType::f32).value();
    const Tensor second = tensors->acquire({1 << 20}, DataType::f32).value();
  }
  const std::vector<TensorSpec> specs{{{1 << 21}, DataType::f32, 1}};
  EXPECT_TRUE(tensors->preallocate(specs).ok());
  tensors->reclaim(1_B);
  tensors->cleanup_unused(100);
  pool->release_unused();
  EXPECT_GT(calls, 3);
  upstream->on_call = nullptr;
}

}  // namespace
}  // namespace forebay
