// Caches of all policies beside one another, for long: deadlines, pins, erasures, epochs, loaders,
// lines that move, a budget that has less than all of them want; `auto` meets loads that change. At
// each checkpoint all counters add up and all structures are whole; what the process has resident
// does not grow.
//
// FOREBAY_SOAK=n operations instead of a million. FOREBAY_SOAK=1000000000 takes some twenty minutes
// of CPU time with the release preset; long runs say how far they are.

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
constexpr Bytes kLine = 256_KiB;
constexpr std::uint64_t kKeys = 3000;
// `auto` has no tournament below 2 MiB.
constexpr Bytes kAutoLine = 8_MiB;
constexpr std::uint64_t kAutoKeys = 40'000;
// Less than the lines of all: those that want more take it from others.
constexpr Bytes kBudget = 10_MiB;
constexpr std::uint64_t kThreads = 2;
constexpr std::uint64_t kLong = 100'000'000;

std::uint64_t operations() {
  const char* asked = std::getenv("FOREBAY_SOAK");
  return asked == nullptr ? 1'000'000 : std::strtoull(asked, nullptr, 10);
}

// What a checkpoint costs is not to be noticed.
std::uint64_t checkpoints() { return std::clamp<std::uint64_t>(operations() / 2'500'000, 20, 400); }

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

using Key = EpochKey<std::uint64_t>;
using Values = Cache<Key, Checked>;

// One cache, and what its users say happened to it.
struct Soaked {
  Soaked(const char* name, Budget& budget)
      : automatic(std::string_view{name} == "auto"),
        line(automatic ? kAutoLine : kLine),
        keys(automatic ? kAutoKeys : kKeys),
        cache({.name = name,
               .max_bytes = line,
               .policy = name,
               .shards = 2,
               .budget = &budget,
               .miss_ratio_curve = automatic},
              {.weigher = [](const Key&, const Checked& value) { return value.weight(); },
               .listener = [this](const Key&, const Checked&, RemovalReason) { ++told; }}) {}
  const bool automatic;
  const Bytes line;
  const std::uint64_t keys;
  std::atomic<std::uint64_t> epoch{1};
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
  // From one phase to the next `auto` has reason to choose anew.
  void begin_phase(std::uint64_t number) { looping_ = number % 2 != 0; }

  void step() {
    const std::size_t which = random_() % caches_.size();
    Soaked& soaked = *caches_[which];
    const Key key{soaked.epoch.load(std::memory_order_relaxed), key_of(soaked)};
    switch (random_() % 32) {
      case 0:
        soaked.cache.erase(key);
        break;
      case 1:
        put(soaked, key, {.ttl = std::chrono::milliseconds{1 + random_() % 200}});
        break;
      case 2:
        put(soaked, key,
            {.cost = static_cast<float>(1 + key.id % 50),
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

  // Some keys often, most of them seldom; or a loop of more than fits.
  std::uint64_t key_of(const Soaked& soaked) {
    if (soaked.automatic && looping_) return ++looped_ % (kAutoKeys / 2);
    const std::uint64_t one = random_() % soaked.keys;
    return std::min(one, random_() % soaked.keys);
  }
  void put(Soaked& soaked, const Key& key, const EntryOptions& options) {
    // Refused at times: while a line is being lowered, or pins hold all there is.
    static_cast<void>(soaked.cache.put(key, Checked{key.id}, options));
  }
  void look_up(Soaked& soaked, std::size_t which, const Key& key) {
    ++soaked.lookups;
    auto found = soaked.cache.find(key);
    if (!found) return put(soaked, key, {});
    if (!found->is(key.id)) ++wrong_;
    if (random_() % 64 == 0) held_[which] = std::move(found);
  }
  void load(Soaked& soaked, std::size_t which, const Key& key) {
    ++soaked.lookups;
    auto made = soaked.cache.get_or_compute(key, [](const Key& k) -> Result<Checked> {
      if (k.id % 17 == 0) return Status{Code::io_error, "on script"};
      return Checked{k.id};
    });
    if (!made) return;
    if (!(*made)->is(key.id)) ++wrong_;
    if (random_() % 4 == 0) held_[which] = std::move(*made);
  }
  void seldom(Soaked& soaked) {
    switch (random_() % 64) {
      case 0:
        soaked.cache.set_max_bytes(line_of(soaked));
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
        for (const auto& entry : soaked.cache.snapshot()) {
          wrong_ += entry->is(entry.key().id) ? 0 : 1;
        }
        break;
      case 5:
        if (random_() % 16 == 0) soaked.cache.erase_epochs_before(soaked.epoch++);
        break;
      case 6:
        for (const MissRatioPoint& point : soaked.cache.miss_ratio_curve()) {
          wrong_ += point.objects >= 0 && point.objects <= 1 ? 0 : 1;
        }
        break;
      default:
        break;
    }
  }

  // Once in a while below what a tournament and a curve need.
  Bytes line_of(const Soaked& soaked) {
    if (random_() % 2 == 0) return soaked.line;
    return Bytes{soaked.line.count() / (random_() % 64 == 0 ? 8 : 2)};
  }

  std::vector<std::unique_ptr<Soaked>>& caches_;
  std::mt19937_64 random_;
  bool looping_ = false;
  std::uint64_t looped_ = 0;
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
  EXPECT_LE(stats.peak, soaked.line);
  EXPECT_LE(stats.used + stats.reserved, stats.max_bytes);
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

void work(std::vector<Worker>& workers, std::uint64_t count, std::uint64_t phase) {
  std::vector<std::thread> threads;
  threads.reserve(workers.size());
  for (Worker& worker : workers) {
    threads.emplace_back([&worker, count, phase] {
      worker.begin_phase(phase);
      for (std::uint64_t i = 0; i != count; ++i) worker.step();
      worker.let_go();
    });
  }
  for (std::thread& thread : threads) thread.join();
}

// No one works meanwhile: from here on what is charged only falls.
void expect_consistent(const std::vector<std::unique_ptr<Soaked>>& caches, const Budget& budget) {
  const Bytes charged = budget.stats().used;
  Bytes used;
  for (const auto& soaked : caches) {
    // Of entries past their deadline, too, so that the sums are of what is there.
    soaked->cache.cleanup_expired();
    expect_sums(*soaked);
    const CacheStats stats = soaked->cache.stats();
    used += stats.used + stats.reserved;
  }
  budget.validate();
  EXPECT_LE(used, charged);
  EXPECT_LE(charged, kBudget);
}

void say(std::uint64_t done, std::uint64_t resident, std::uint64_t switches) {
  if (operations() < kLong) return;
  std::printf("%5.1f %%: resident %.2f MiB, auto chose anew %llu times\n",
              100 * static_cast<double>(done) / static_cast<double>(checkpoints()),
              static_cast<double>(resident) / 1048576.0, static_cast<unsigned long long>(switches));
  std::fflush(stdout);
}

// Bytes that these grow by from the first to the last, as a line of least squares has it.
double growth(const std::vector<double>& resident) {
  const auto count = static_cast<double>(resident.size());
  const double middle = (count - 1) / 2;
  double together = 0;
  double alone = 0;
  for (std::size_t i = 0; i != resident.size(); ++i) {
    const double at = static_cast<double>(i) - middle;
    together += at * resident[i];
    alone += at * at;
  }
  return together / alone * (count - 1);
}

TEST(CacheSoak, CountersAddUpAndNothingGrows) {
  Budget budget{"soak", {.limit = kBudget}};
  {
    std::vector<std::unique_ptr<Soaked>> caches;
    caches.reserve(kPolicies.size() + 1);
    for (const char* policy : kPolicies) caches.push_back(std::make_unique<Soaked>(policy, budget));
    caches.push_back(std::make_unique<Soaked>("auto", budget));
    const Values& automatic = caches.back()->cache;
    std::vector<Worker> workers;
    workers.reserve(kThreads);
    for (std::uint64_t t = 0; t != kThreads; ++t) workers.emplace_back(caches, t + 1);
    std::vector<double> resident;
    resident.reserve(checkpoints());
    // Phases last for several checkpoints, as a tournament needs turnovers to see anything.
    for (std::uint64_t i = 0; i != checkpoints(); ++i) {
      work(workers, operations() / checkpoints() / kThreads, i / 4);
      expect_consistent(caches, budget);
      resident.push_back(static_cast<double>(resident_bytes()));
      say(i + 1, resident_bytes(), automatic.policy_report().switches);
    }
    for (const Worker& worker : workers) EXPECT_EQ(worker.wrong(), 0U);
    // By then all caches have been as full as they get, but in a short run.
    const auto half = resident.begin() + static_cast<std::ptrdiff_t>(resident.size() / 2);
    const double grown = growth({half, resident.end()});
    std::printf("resident %.1f MiB, grown by %.2f in the second half\n",
                resident.back() / 1048576.0, grown / 1048576.0);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // they keep what was freed
    EXPECT_LE(grown, (operations() < kLong ? 4 : 0.5) * 1048576);
#endif
    if (operations() >= kLong) {
      EXPECT_GT(automatic.policy_report().switches, 0U);
    }
  }
  EXPECT_EQ(budget.stats().used, 0_B);
}

}  // namespace
}  // namespace forebay
