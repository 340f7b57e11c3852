// Threads that take and give for each other, that end with blocks in their hands, and others that
// look and trim meanwhile. FOREBAY_STRESS=n makes it n times as long.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include "forebay/budget.hpp"
#include "forebay/pool.hpp"

namespace forebay {
namespace {

using namespace literals;

int rounds(int once) {
  const char* const times = std::getenv("FOREBAY_STRESS");
  return once * (times == nullptr ? 1 : std::max(1, std::atoi(times)));
}

Bytes random_size(std::mt19937& random) { return Bytes{1 + random() % (16ULL << (random() % 15))}; }

template <typename Work>
void run_threads(unsigned count, Work work) {
  std::vector<std::thread> threads;
  for (unsigned i = 0; i != count; ++i) threads.emplace_back([&work, i] { work(i); });
  for (std::thread& thread : threads) thread.join();
}

// Blocks on their way from whoever took them to whoever gives them back.
class Exchange {
 public:
  // Puts one in; what comes out, if any, is somebody's, and must hold what its first byte says.
  Buffer swap(Buffer buffer, std::size_t most) {
    const std::lock_guard lock{mutex_};
    buffers_.push_back(std::move(buffer));
    if (buffers_.size() <= most) return {};
    next_ = (next_ * 31 + 7) % buffers_.size();
    std::swap(buffers_[next_], buffers_.back());
    Buffer out = std::move(buffers_.back());
    buffers_.pop_back();
    return out;
  }
  std::size_t size() const { return buffers_.size(); }
  void clear() { buffers_.clear(); }

 private:
  std::mutex mutex_;
  std::vector<Buffer> buffers_;
  std::size_t next_ = 0;
};

void fill(const Buffer& buffer, unsigned value) {
  std::memset(buffer.data(), static_cast<int>(value), buffer.bytes().size());
}
void expect_whole(const Buffer& buffer) {
  const auto bytes = buffer.bytes();
  EXPECT_EQ(bytes.front(), bytes.back());
  EXPECT_EQ(bytes.front(), bytes[bytes.size() / 2]);
}

// Looks, trims and ticks until told to stop.
class Meddler {
 public:
  explicit Meddler(Pool& pool) : thread_([this, &pool] { run(pool); }) {}
  ~Meddler() {
    done_ = true;
    thread_.join();
  }

 private:
  void run(Pool& pool) {
    while (!done_) {
      const PoolStats stats = pool.stats();
      EXPECT_EQ(stats.live + stats.idle, stats.reserved);
      EXPECT_LE(stats.live, stats.reserved);
      EXPECT_LT(stats.live_blocks, 1U << 20);
      EXPECT_EQ(stats.hits + stats.misses, stats.acquires);
      pool.validate();
      pool.tick();
      pool.trim(1_MiB);
      static_cast<void>(pool.reclaimable());
      std::this_thread::yield();
    }
  }
  std::atomic<bool> done_{false};
  std::thread thread_;
};

void exchange_blocks(const std::shared_ptr<Pool>& pool, bool touch) {
  Exchange exchange;
  const int count = rounds(3000);
  constexpr unsigned kThreads = 4;
  {
    const Meddler meddler{*pool};
    run_threads(kThreads, [&](unsigned id) {
      std::mt19937 random{id};
      for (int i = 0; i < count; ++i) {
        Buffer buffer = pool->acquire(random_size(random), {.stream = Stream{id % 2 * 64}}).value();
        if (touch) fill(buffer, id + static_cast<unsigned>(i));
        const Buffer other = exchange.swap(std::move(buffer), 60);
        if (touch && !other.empty()) expect_whole(other);
      }
    });
  }
  pool->validate();
  const PoolStats stats = pool->stats();
  EXPECT_EQ(stats.acquires, kThreads * static_cast<std::uint64_t>(count));
  EXPECT_EQ(stats.live_blocks, exchange.size());
  exchange.clear();
  EXPECT_EQ(pool->stats().live, 0_B);
  pool->release_unused();
  EXPECT_EQ(pool->stats().reserved, 0_B);
}

TEST(PoolThreads, GiveEachOthersBlocksBackWhileOthersLookAndTrim) {
  exchange_blocks(Pool::create(Device::host()), true);
}

TEST(PoolThreads, DoSoOnStreams) {
  exchange_blocks(Pool::create(SimulatedDevice::create({.stream_ordered = true})), false);
}

TEST(PoolThreads, DoSoInSegments) {
  exchange_blocks(Pool::create(Pool::create(Device::host())), true);
}

TEST(PoolThreads, DoSoUnderACap) {
  exchange_blocks(Pool::create(Device::host(), {.max_retained = 1_MiB}), true);
}

TEST(PoolThreads, DoSoUnderABudgetsLineWithReclaiming) {
  Budget process{"process", {.limit = 24_MiB}};
  {
    const auto first = Pool::create(process.meter(Device::host()), {.name = "first"});
    const auto second = Pool::create(process.meter(Device::host()), {.name = "second"});
    const auto one = process.add_reclaimer(*first, {.name = "first"});
    const auto two = process.add_reclaimer(*second, {.name = "second"});
    const int count = rounds(800);
    run_threads(4, [&](unsigned id) {
      std::mt19937 random{id};
      std::vector<Buffer> held;
      for (int i = 0; i < count; ++i) {
        auto buffer = (random() % 2 == 0 ? first : second)->acquire(random_size(random) * 8);
        if (buffer) held.push_back(std::move(*buffer));
        if (!buffer || held.size() > 10) held.clear();
      }
    });
    first->validate();
    second->validate();
    EXPECT_LE(process.stats().peak, 24_MiB);
    EXPECT_EQ(first->stats().reserved + second->stats().reserved, process.stats().used);
  }
  EXPECT_EQ(process.stats().used, 0_B);
}

TEST(PoolThreads, OnesThatEndLeaveNothingBehind) {
  const auto pool = Pool::create(Device::host());
  std::vector<Buffer> survivors(64);
  for (int round = 0; round < rounds(3); ++round) {
    run_threads(64, [&](unsigned id) {
      std::vector<Buffer> mine;
      std::mt19937 random{id};
      for (int i = 0; i < 50; ++i) mine.push_back(pool->acquire(random_size(random)).value());
      survivors[id] = std::move(mine.back());
    });
    pool->validate();
    EXPECT_EQ(pool->stats().live_blocks, 64U);
    EXPECT_EQ(pool->stats().acquires, 3200U * static_cast<unsigned>(round + 1));
  }
  survivors.clear();
  EXPECT_EQ(pool->stats().live, 0_B);
  pool->release_unused();
  EXPECT_EQ(pool->stats().reserved, 0_B) << "in the hands of a thread that is gone";
}

TEST(PoolThreads, PeaksOfThreadsAddUpToWhatWasLive) {
  const auto pool = Pool::create(Device::host());
  run_threads(4, [&](unsigned) {
    for (int i = 0; i < 100; ++i) {
      const Buffer first = pool->acquire(64_KiB).value();
      const Buffer second = pool->acquire(64_KiB).value();
    }
  });
  EXPECT_GE(pool->stats().peak_live, 128_KiB);
  EXPECT_LE(pool->stats().peak_live, 4 * 128_KiB);
  EXPECT_EQ(pool->stats().live, 0_B);
}

TEST(PoolThreads, MakeAndEndPoolsOfTheirOwn) {
  run_threads(6, [](unsigned id) {
    std::mt19937 random{id};
    for (int i = 0; i < rounds(40); ++i) {
      const auto pool = Pool::create(Device::host());
      const auto other = Pool::create(pool);
      std::vector<Buffer> buffers;
      for (int k = 0; k < 20; ++k) {
        buffers.push_back((k % 2 == 0 ? pool : other)->acquire(random_size(random)).value());
      }
      if (i % 10 == 0) pool->validate();
    }
  });
}

TEST(PoolThreads, APoolMayEndOnAnotherThreadThanThoseThatUsedIt) {
  for (int i = 0; i < rounds(20); ++i) {
    auto pool = Pool::create(Device::host());
    std::atomic<bool> used{false};
    std::atomic<bool> ended{false};
    std::thread user{[&] {
      for (const Bytes size : {100_B, 100_KiB}) EXPECT_TRUE(pool->acquire(size).ok());
      used = true;
      while (!ended) std::this_thread::yield();
      // Its caches of the pool are gone; what it still knows of them must not matter.
      const auto next = Pool::create(Device::host());
      EXPECT_TRUE(next->acquire(100_B).ok());
    }};
    while (!used) std::this_thread::yield();
    pool.reset();
    ended = true;
    user.join();
  }
}

// ---- Objects of a thread that give back as it ends

struct AtExit {
  std::vector<Buffer> buffers;
  std::shared_ptr<Pool> pool;
  ~AtExit() {
    buffers.clear();
    if (pool == nullptr) return;
    EXPECT_TRUE(pool->acquire(100_B).ok());  // works, without a cache
    EXPECT_TRUE(pool->acquire(100_KiB).ok());
  }
};
thread_local AtExit at_exit;

TEST(PoolThreads, ObjectsOfAThreadMayGiveBackAndTakeAsItEnds) {
  const auto pool = Pool::create(Device::host());
  run_threads(8, [&](unsigned id) {
    // Touched first, so that it ends after the thread's caches are retired; or last.
    if (id % 2 == 0) at_exit.pool = pool;
    for (const Bytes size : {100_B, 20_KiB, 100_KiB}) {
      Buffer buffer = pool->acquire(size).value();
      at_exit.buffers.push_back(std::move(buffer));
    }
    at_exit.pool = pool;
  });
  EXPECT_EQ(pool->stats().live_blocks, 0U);
  EXPECT_EQ(pool->stats().acquires, 8U * 5U);
  pool->validate();
  pool->release_unused();
  EXPECT_EQ(pool->stats().reserved, 0_B);
}

// ---- The thread that gives back by itself

TEST(PoolThreads, OneOfTheProcessGivesBackByAge) {
  const auto pool = Pool::create(
      Device::host(), {.ttl = Duration{0}, .cleanup_interval = std::chrono::milliseconds{1}});
  { const Buffer buffer = pool->acquire(8_MiB).value(); }
  while (pool->stats().reserved > 0_B) std::this_thread::yield();
}

TEST(PoolThreads, PoolsThatAreCleanedMayEndAtAnyTime) {
  run_threads(4, [](unsigned) {
    for (int i = 0; i < rounds(50); ++i) {
      const auto pool = Pool::create(
          Device::host(), {.ttl = Duration{0}, .cleanup_interval = std::chrono::microseconds{1}});
      EXPECT_TRUE(pool->acquire(1_MiB).ok());
    }
  });
}

}  // namespace
}  // namespace forebay
