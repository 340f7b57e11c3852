// A process that forks: parent and child each go on with pools of their own.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <thread>
#include <vector>

#include "forebay/pool.hpp"

namespace forebay {
namespace {

using namespace literals;

// Runs `work` in a forked child, and says whether it came to its end with true. A child that hangs
// is ended by an alarm.
template <typename Work>
bool in_child(Work work) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::alarm(60);
    ::_exit(work() ? 0 : 1);
  }
  int status = 0;
  return child > 0 && ::waitpid(child, &status, 0) == child && WIFEXITED(status) &&
         WEXITSTATUS(status) == 0;
}

// ThreadSanitizer ends a child of several threads that starts one.
#if defined(__SANITIZE_THREAD__)
constexpr bool kChildMayHaveThreads = false;
#else
constexpr bool kChildMayHaveThreads = true;
#endif

bool holds(const Buffer& buffer, int value) {
  for (const std::byte b : buffer.bytes()) {
    if (b != static_cast<std::byte>(value)) return false;
  }
  return true;
}

TEST(PoolFork, AChildUsesItsCopyAndTheParentsIsUnchanged) {
  if (!kChildMayHaveThreads) GTEST_SKIP() << "under ThreadSanitizer";
  const auto pool = Pool::create(Device::host());
  std::vector<Buffer> buffers;
  for (const Bytes size : {100_B, 20_KiB, 3_MiB}) {
    buffers.push_back(pool->acquire(size).value());
    std::memset(buffers.back().data(), 1, size.count());
    EXPECT_TRUE(pool->acquire(size).ok());
  }
  const PoolStats before = pool->stats();
  EXPECT_TRUE(in_child([&] {
    bool whole = true;
    for (const Buffer& buffer : buffers) whole = whole && holds(buffer, 1);
    for (const Buffer& buffer : buffers) std::memset(buffer.data(), 2, buffer.bytes().size());
    for (int i = 0; i < 100; ++i) whole = whole && pool->acquire(Bytes{1U + 7919U * i}).ok();
    buffers.clear();
    pool->validate();
    pool->release_unused();
    return whole && pool->stats().reserved == 0_B && Pool::create(Device::host()) != nullptr;
  }));
  for (const Buffer& buffer : buffers) EXPECT_TRUE(holds(buffer, 1));
  EXPECT_EQ(pool->stats().acquires, before.acquires);
  EXPECT_EQ(pool->stats().reserved, before.reserved);
  pool->validate();
}

TEST(PoolFork, AChildsThreadsFindTheirOwnCaches) {
  if (!kChildMayHaveThreads) GTEST_SKIP() << "under ThreadSanitizer";
  const auto pool = Pool::create(Device::host());
  std::thread{[&] { EXPECT_TRUE(pool->acquire(100_B).ok()); }}.join();
  EXPECT_TRUE(in_child([&] {
    std::atomic<int> ok{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([&] {
        for (int k = 0; k < 200; ++k) ok += pool->acquire(Bytes{1U + 331U * k}).ok() ? 1 : 0;
      });
    }
    for (std::thread& thread : threads) thread.join();
    pool->validate();
    return ok == 800 && pool->stats().live == 0_B;
  }));
}

// The others are anywhere: in their caches, in the pool, about to wait. Each keeps to sizes that
// it has, so that nobody is inside what the pool stands on.
TEST(PoolFork, AChildMayBeMadeWhileOthersAreInsideThePool) {
  const auto pool = Pool::create(Device::host(), {.cleanup_interval = Duration{0}});
  std::atomic<bool> done{false};
  std::atomic<int> ready{0};
  std::vector<std::thread> threads;
  for (unsigned id = 0; id < 3; ++id) {
    threads.emplace_back([&, id] {
      for (bool first = true; !done; first = false) {
        std::vector<Buffer> buffers;
        for (std::uint64_t i = 0; i < 200; ++i) {
          buffers.push_back(pool->acquire(Bytes{64 + 64 * ((i * 7 + id) % 30)}).value());
        }
        if (first) ++ready;
      }
    });
  }
  while (ready != 3) std::this_thread::yield();
  for (int i = 0; i < 30; ++i) {
    EXPECT_TRUE(in_child([&] {
      bool ok = true;
      for (int k = 0; k < 50; ++k) ok = ok && pool->acquire(Bytes{1U + 577U * k}).ok();
      pool->validate();
      pool->tick();
      return ok;
    }));
  }
  done = true;
  for (std::thread& thread : threads) thread.join();
  pool->validate();
}

TEST(PoolFork, AChildHasItsOwnThreadThatGivesBack) {
  if (!kChildMayHaveThreads) GTEST_SKIP() << "under ThreadSanitizer";
  const PoolOptions options{.ttl = Duration{0}, .cleanup_interval = std::chrono::milliseconds{1}};
  const auto pool = Pool::create(Device::host(), options);
  EXPECT_TRUE(pool->acquire(1_MiB).ok());
  // The thread is at work: a fork while it starts may find the sanitizer's own locks held.
  while (pool->stats().reserved > 0_B) std::this_thread::yield();
  EXPECT_TRUE(in_child([&] {
    const auto mine = Pool::create(Device::host(), options);
    if (!mine->acquire(4_MiB).ok()) return false;
    while (mine->stats().reserved > 0_B) std::this_thread::yield();
    return true;
  }));
}

}  // namespace
}  // namespace forebay
