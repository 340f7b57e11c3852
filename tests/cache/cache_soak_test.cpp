// Caches of all policies beside one another, for long: deadlines, pins, erasures, loaders, lines
// that move. At each checkpoint all counters add up and all structures are whole; what the process
// has resident does not grow.
//
// FOREBAY_SOAK=n operations instead of a million; FOREBAY_SOAK=1000000000 takes hours.

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "forebay/cache.hpp"

namespace forebay {
namespace {

using namespace forebay::literals;

constexpr std::array kPolicies{"lru",  "lfu",   "random",   "utility", "hybrid",
                               "fifo", "clock", "sieve",    "s3fifo",  "arc",
                               "lirs", "twoq",  "wtinylfu", "gdsf",    "learned"};
constexpr int kThreads = 2;
constexpr int kCheckpoints = 20;

std::uint64_t operations() {
  const char* asked = std::getenv("FOREBAY_SOAK");
  return asked == nullptr ? 1'000'000 : std::strtoull(asked, nullptr, 10);
}

// A value of some size that knows its key, and says when it is read after its end.
class Checked {
 public:
  explicit Checked(std::uint64_t key) : key_(key), text_(key % 700, 'v'), mark_(kAlive) {}
  Checked(Checked&& other) noexcept
      : key_(other.key_), text_(std::move(other.text_)), mark_(kAlive) {}
  Checked& operator=(Checked&&) = delete;
  ~Checked() { mark_ = 0; }
  bool is(std::uint64_t key) const { return mark_ == kAlive && key_ == key; }
  Bytes weight() const { return Bytes{text_.capacity()}; }

 private:
  static constexpr std::uint64_t kAlive = 0x616c697665000000;
  std::uint64_t key_;
  std::string text_;
  std::uint64_t mark_;
};

using Values = Cache<std::uint64_t, Checked>;

// One cache, and what its users say happened to it.
struct Soaked {
  Soaked(const char* name, Budget& budget)
      : cache({.name = name, .max_bytes = 256_KiB, .policy = name, .shards = 2, .budget = &budget},
              {.weigher = [](std::uint64_t, const Checked& value) { return value.weight(); },
               .listener = [this](std::uint64_t, const Checked&, RemovalReason) { ++told; }}) {}
  std::atomic<std::uint64_t> told{0};
  std::atomic<std::uint64_t> lookups{0};
  Values cache;
};

class Worker {
 public:
  Worker(std::vector<std::unique_ptr<Soaked>>& caches, std::uint64_t seed)
      : caches_(caches), random_(seed), held_(caches.size()) {}

  std::uint64_t wrong() const { return wrong_; }
  void let_go() { std::fill(held_.begin(), held_.end(), std::nullopt); }

  void step() {
    const std::size_t which = random_() % caches_.size();
    Soaked& soaked = *caches_[which];
    // Some keys often, most of them seldom.
    const std::uint64_t key = std::min(random_() % 3000, random_() % 3000);
    switch (random_() % 32) {
      case 0:
        soaked.cache.erase(key);
        break;
      case 1:
        put(soaked, key, {.ttl = std::chrono::milliseconds{1 + random_() % 200}});
        break;
      case 2:
        put(soaked, key,
            {.cost = static_cast<float>(1 + key % 50),
             .utility = static_cast<float>(random_() % 10)});
        break;
      case 3:
        load(soaked, which, key);
        break;
      case 4:
        held_[which].reset();
        break;
      case 5:
        seldom(soaked);
        break;
      default:
        look_up(soaked, which, key);
    }
  }

 private:
  using Held = std::optional<Values::Handle>;

  void put(Soaked& soaked, std::uint64_t key, const EntryOptions& options) {
    // Refused at times: while a line is being lowered, or pins hold all there is.
    static_cast<void>(soaked.cache.put(key, Checked{key}, options));
  }
  void look_up(Soaked& soaked, std::size_t which, std::uint64_t key) {
    ++soaked.lookups;
    auto found = soaked.cache.find(key);
    if (!found) return put(soaked, key, {});
    if (!found->is(key)) ++wrong_;
    if (random_() % 64 == 0) held_[which] = std::move(found);
  }
  void load(Soaked& soaked, std::size_t which, std::uint64_t key) {
    ++soaked.lookups;
    auto made = soaked.cache.get_or_compute(key, [](std::uint64_t k) -> Result<Checked> {
      if (k % 17 == 0) return Status{Code::io_error, "on script"};
      return Checked{k};
    });
    if (!made) return;
    if (!(*made)->is(key)) ++wrong_;
    if (random_() % 4 == 0) held_[which] = std::move(*made);
  }
  void seldom(Soaked& soaked) {
    switch (random_() % 64) {
      case 0:
        soaked.cache.set_max_bytes(random_() % 2 == 0 ? 128_KiB : 256_KiB);
        break;
      case 1:
        soaked.cache.cleanup_expired();
        break;
      case 2:
        static_cast<void>(soaked.cache.reclaim(16_KiB));
        break;
      case 3:
        if (random_() % 16 == 0) soaked.cache.clear();
        break;
      case 4:
        for (const auto& entry : soaked.cache.snapshot()) wrong_ += entry->is(entry.key()) ? 0 : 1;
        break;
      default:
        break;
    }
  }

  std::vector<std::unique_ptr<Soaked>>& caches_;
  std::mt19937_64 random_;
  std::vector<Held> held_;
  std::uint64_t wrong_ = 0;
};

std::uint64_t left_of(const CacheStats& stats) {
  return stats.evicted + stats.expired + stats.erased + stats.replaced + stats.cleared;
}

// The thread that frees what expired is at work meanwhile, and an entry that is on its way out has
// been counted and not yet told: looks again until nothing is on its way.
CacheStats settled(const Soaked& soaked) {
  CacheStats stats = soaked.cache.stats();
  for (int tries = 0; tries != 100'000; ++tries) {
    if (left_of(stats) == soaked.told && stats.insertions == stats.entries + soaked.told) break;
    std::this_thread::yield();
    stats = soaked.cache.stats();
  }
  return stats;
}

void expect_sums(const Soaked& soaked) {
  soaked.cache.validate();
  const CacheStats stats = settled(soaked);
  EXPECT_EQ(stats.hits + stats.misses, stats.lookups);
  EXPECT_EQ(stats.lookups, soaked.lookups);
  EXPECT_EQ(stats.leaving, 0U);
  EXPECT_EQ(stats.set_aside, 0U);
  EXPECT_LE(stats.stale, stats.misses);
  EXPECT_LE(stats.peak, 256_KiB);
  EXPECT_EQ(stats.insertions, stats.entries + left_of(stats));
  EXPECT_EQ(left_of(stats), soaked.told);
}

std::uint64_t resident_bytes() {
  std::FILE* const file = std::fopen("/proc/self/statm", "r");
  if (file == nullptr) return 0;
  unsigned long long pages = 0;
  if (std::fscanf(file, "%*s %llu", &pages) != 1) pages = 0;
  std::fclose(file);
  return pages * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

void work(std::vector<Worker>& workers, std::uint64_t count) {
  std::vector<std::thread> threads;
  for (Worker& worker : workers) {
    threads.emplace_back([&worker, count] {
      for (std::uint64_t i = 0; i != count; ++i) worker.step();
      worker.let_go();
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(CacheSoak, CountersAddUpAndNothingGrows) {
  Budget budget{"soak", {.limit = 8_MiB}};
  {
    std::vector<std::unique_ptr<Soaked>> caches;
    for (const char* policy : kPolicies) caches.push_back(std::make_unique<Soaked>(policy, budget));
    std::vector<Worker> workers;
    for (int t = 0; t != kThreads; ++t) {
      workers.emplace_back(caches, static_cast<std::uint64_t>(t) + 1);
    }
    std::array<std::uint64_t, kCheckpoints> resident{};
    for (std::uint64_t& now : resident) {
      work(workers, operations() / kCheckpoints / kThreads);
      // From here on what is charged only falls: no one puts.
      const Bytes charged = budget.stats().used;
      Bytes used;
      for (const auto& soaked : caches) {
        // Of entries past their deadline, too, so that the sums are of what is there.
        soaked->cache.cleanup_expired();
        expect_sums(*soaked);
        used += soaked->cache.stats().used;
      }
      budget.validate();
      EXPECT_LE(used, charged);
      now = resident_bytes();
    }
    for (const Worker& worker : workers) EXPECT_EQ(worker.wrong(), 0U);
    // The second half begins with all caches as full as they get.
    const auto middle = resident.begin() + kCheckpoints / 2;
    const std::uint64_t earlier = *std::max_element(resident.begin() + 2, middle);
    const std::uint64_t later = *std::max_element(middle, resident.end());
    std::printf("resident %.1f MiB in the first half, %.1f in the second\n",
                static_cast<double>(earlier) / 1048576.0, static_cast<double>(later) / 1048576.0);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // they keep what was freed
    EXPECT_LE(later, earlier + (4_MiB).count());
#endif
  }
  EXPECT_EQ(budget.stats().used, 0_B);
}

}  // namespace
}  // namespace forebay
