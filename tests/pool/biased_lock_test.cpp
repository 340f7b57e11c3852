// BiasedLock: its owner and whoever shuts it out are never inside together.
#include "pool/biased_lock.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <mutex>
#include <thread>
#include <vector>

namespace forebay::detail {
namespace {

TEST(BiasedLock, AnOwnerThatIsShutOutIsNotInside) {
  prepare_fences();
  BiasedLock lock;
  EXPECT_TRUE(lock.enter());
  lock.leave();
  lock.shut();
  fence_all_threads();
  lock.wait_until_out();
  EXPECT_FALSE(lock.enter());
  EXPECT_FALSE(lock.enter());
  lock.open();
  EXPECT_TRUE(lock.enter());
  lock.leave();
}

TEST(BiasedLock, OwnersAndOthersNeverMeet) {
  prepare_fences();
  constexpr int kOwners = 3;
  constexpr int kRounds = 3000;
  struct alignas(64) Guarded {
    BiasedLock lock;
    std::uint64_t a = 0;  // plain: a race here is for ThreadSanitizer to find
    std::uint64_t b = 0;
    std::uint64_t refused = 0;
  };
  std::vector<Guarded> all(kOwners);
  std::atomic<bool> done{false};
  std::vector<std::thread> owners;
  for (Guarded& mine : all) {
    owners.emplace_back([&] {
      while (!done.load(std::memory_order_relaxed)) {
        if (!mine.lock.enter()) {
          ++mine.refused;
          std::this_thread::yield();
          continue;
        }
        ++mine.a;
        ++mine.b;
        mine.lock.leave();
      }
    });
  }
  std::mutex others;  // one at a time
  const auto look = [&] {
    for (int round = 0; round < kRounds; ++round) {
      const std::lock_guard guard{others};
      for (Guarded& one : all) one.lock.shut();
      fence_all_threads();
      for (Guarded& one : all) one.lock.wait_until_out();
      for (Guarded& one : all) {
        ASSERT_EQ(one.a, one.b) << "its owner is inside";
        one.b = ++one.a;
      }
      for (Guarded& one : all) one.lock.open();
    }
  };
  std::thread second{look};
  look();
  second.join();
  done = true;
  for (std::thread& owner : owners) owner.join();
  for (const Guarded& one : all) EXPECT_GE(one.a, 2U * kRounds);
}

}  // namespace
}  // namespace forebay::detail
