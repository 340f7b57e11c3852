// What a cache promises of time and bytes, beside its speed: each row measured against its bound.
//
//   cache_bounds_bench                 all rows
//   cache_bounds_bench --only ROW      stats, epochs, expiry, pins, loaders, entries, resident,
//   burst cache_bounds_bench --smoke         each of them, for an instant cache_bounds_bench
//   --seconds N     how long to watch entries expire (default 60)
//
// Times are CPU time unless a row says otherwise: median (lowest - highest) of its rounds.

#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "cache_load.hpp"
#include "forebay/cache.hpp"
#include "forebay/cache_streams.hpp"
#include "forebay/pool.hpp"

namespace {

using namespace forebay::literals;
using forebay::Bytes;
using forebay::Cache;
using forebay::RemovalReason;
using forebay::bench::cpu_seconds;
using forebay::bench::mixed;
using forebay::bench::resident_bytes;
using forebay::bench::seconds_of;
using forebay::bench::wall_seconds;
using Words = Cache<std::uint64_t, std::uint64_t>;

struct Scale {
  bool smoke = false;
  int seconds = 60;
  int rounds = 7;
  std::uint64_t entries = 1'000'000;
  std::uint64_t most_entries = 10'000'000;
  std::uint64_t operations = 1'000'000;
  Bytes resident = 256_MiB;
};

// Seconds of the CPU that it takes.
template <typename Work>
double taken(Work work) {
  const double begin = cpu_seconds();
  work();
  return cpu_seconds() - begin;
}

class Rounds {
 public:
  void add(double value) { values_.push_back(value); }
  double median() {
    std::sort(values_.begin(), values_.end());
    return values_[values_.size() / 2];
  }
  std::string text() {
    const double middle = median();
    char line[96];
    std::snprintf(line, sizeof line, "%.1f (%.1f - %.1f)", middle, values_.front(), values_.back());
    return line;
  }

 private:
  std::vector<double> values_;
};

void judge(double value, double most, const char* unit) {
  std::printf("; at most %g %s: %s\n", most, unit, value <= most ? "held" : "MISSED");
}

// Threads that work until this ends.
class Workers {
 public:
  Workers(int count, const std::function<void(std::uint64_t)>& step) {
    for (int t = 0; t != count; ++t) {
      threads_.emplace_back([this, step, t] {
        for (std::uint64_t i = static_cast<std::uint64_t>(t) << 32; !stop_; ++i) step(i);
      });
    }
  }
  ~Workers() {
    stop_ = true;
    for (std::thread& thread : threads_) thread.join();
  }
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

 private:
  std::atomic<bool> stop_{false};
  std::vector<std::thread> threads_;
};

// ---- stats: reading all figures while two threads work

void stats_of(const Scale& scale, std::uint32_t shards) {
  Words cache{{.max_bytes = 16_MiB, .shards = shards}};
  const Workers workers{2, [&](std::uint64_t i) {
                          const std::uint64_t key = mixed(i) % 200'000;
                          if (!cache.find(key)) static_cast<void>(cache.put(key, i));
                        }};
  constexpr int kReads = 20'000;
  Rounds rounds;
  for (int round = 0; round != scale.rounds; ++round) {
    std::uint64_t sum = 0;
    const double took = taken([&] {
      for (int i = 0; i != kReads; ++i) sum += cache.stats().hits;
    });
    if (sum == ~std::uint64_t{0}) std::puts("");
    rounds.add(took / kReads * 1e9);
  }
  std::printf("stats, %2u shards, 2 threads at work: %s ns", shards, rounds.text().c_str());
  judge(rounds.median(), 100, "ns");
}

void stats(const Scale& scale) {
  stats_of(scale, 1);
  stats_of(scale, 16);
}

// ---- epochs: a tenth of all entries goes at once

void epochs(const Scale& scale) {
  using Key = forebay::EpochKey<std::uint64_t>;
  constexpr std::uint64_t kEpochs = 10;
  Cache<Key, std::uint64_t> cache{{.max_bytes = Bytes{scale.entries * 256}}};
  for (std::uint64_t i = 0; i != scale.entries; ++i) {
    cache.put(Key{i % kEpochs, i}, i).status().throw_if_error();
  }
  Rounds rounds;
  std::uint64_t erased = 0;
  for (std::uint64_t epoch = 1; epoch != kEpochs; ++epoch) {
    rounds.add(1e3 * taken([&] { erased += cache.erase_epochs_before(epoch); }));
  }
  std::printf("epochs, %llu entries of %llu: %s ms",
              static_cast<unsigned long long>(erased / (kEpochs - 1)),
              static_cast<unsigned long long>(scale.entries), rounds.text().c_str());
  judge(rounds.median(), 10, "ms");
}

// ---- expiry: how late entries go, and what the thread that frees them takes

struct Lateness {
  explicit Lateness(std::uint64_t most) : late(most) {}
  void note(double deadline) {
    if (!known.exchange(true)) ::pthread_getcpuclockid(::pthread_self(), &clock);
    const std::uint64_t at = count.fetch_add(1);
    if (at < late.size()) late[at] = wall_seconds() - deadline;
  }
  std::vector<double> late;
  std::atomic<std::uint64_t> count{0};
  std::atomic<bool> known{false};
  clockid_t clock{};
};

void expiry(const Scale& scale) {
  Lateness all{scale.entries};
  double begin = 0;  // of the watch: before it, the cache is being filled
  std::atomic<bool> watching{false};
  Cache<std::uint64_t, double> cache{
      {.max_bytes = Bytes{scale.entries * 256}},
      {.listener = [&](std::uint64_t, double deadline, RemovalReason reason) {
        if (reason == RemovalReason::expired && watching && deadline > begin) all.note(deadline);
      }}};
  std::mt19937_64 random{1};
  std::uniform_real_distribution<double> exponent{std::log(0.01), std::log(600.0)};
  for (std::uint64_t i = 0; i != scale.entries; ++i) {
    const double ttl = std::exp(exponent(random));
    const std::chrono::nanoseconds whole{static_cast<std::int64_t>(ttl * 1e9)};
    cache.put(i, wall_seconds() + ttl, {.ttl = whole}).status().throw_if_error();
  }
  begin = wall_seconds();
  watching = true;
  std::this_thread::sleep_for(std::chrono::milliseconds{200});
  const double cpu = all.known ? seconds_of(all.clock) : 0;
  const double from = wall_seconds();
  std::this_thread::sleep_for(std::chrono::seconds{scale.seconds});
  const double share = ((all.known ? seconds_of(all.clock) : 0) - cpu) / (wall_seconds() - from);
  watching = false;
  std::vector<double> late(all.late.begin(),
                           all.late.begin() + static_cast<std::ptrdiff_t>(std::min<std::uint64_t>(
                                                  all.count.load(), scale.entries)));
  if (late.empty()) late.push_back(0);
  std::sort(late.begin(), late.end());
  const auto at = [&](double part) {
    return 1e3 * late[static_cast<std::size_t>(part * static_cast<double>(late.size() - 1))];
  };
  std::printf(
      "expiry, %zu of %llu in %d s, wall time late: p50 %.1f, p99 %.1f, p99.99 %.1f, "
      "longest %.1f ms",
      late.size(), static_cast<unsigned long long>(scale.entries), scale.seconds, at(0.5), at(0.99),
      at(0.9999), at(1));
  judge(at(1), 100, "ms");
  std::printf("  the thread that frees: %.2f %% of a core", 100 * share);
  judge(100 * share, 1, "%");
}

// ---- pins: putting where nineteen of twenty entries are pinned

void pins(const Scale& scale) {
  const std::uint64_t entries = scale.entries / 10;
  struct Contender {
    std::unique_ptr<Words> cache;
    Rounds rounds;
    std::uint64_t refused = 0;
  };
  std::array<Contender, 2> contenders;
  for (Contender& contender : contenders) {
    contender.cache = std::make_unique<Words>(
        forebay::CacheOptions{.max_bytes = Bytes{entries * 80}, .policy = "lru", .shards = 4});
    for (std::uint64_t i = 0; i != entries; ++i) static_cast<void>(contender.cache->put(i, i));
  }
  std::vector<Words::Handle> held;
  for (std::uint64_t i = 0; i != entries; ++i) {
    if (i % 20 == 0) continue;
    if (auto found = contenders[1].cache->find(i)) held.push_back(std::move(found));
  }
  std::uint64_t next = entries;
  for (int round = 0; round != scale.rounds; ++round) {
    for (Contender& contender : contenders) {
      const double took = taken([&] {
        for (std::uint64_t i = 0; i != entries; ++i) {
          contender.refused += contender.cache->put(next + i, i).ok() ? 0U : 1U;
        }
      });
      contender.rounds.add(took / static_cast<double>(entries) * 1e9);
    }
    next += entries;
  }
  const double ratio = contenders[1].rounds.median() / contenders[0].rounds.median();
  std::printf("pins, %zu of %llu pinned: a put %s ns, without pins %s ns, %llu refused: %.2fx",
              held.size(), static_cast<unsigned long long>(contenders[1].cache->stats().entries),
              contenders[1].rounds.text().c_str(), contenders[0].rounds.text().c_str(),
              static_cast<unsigned long long>(contenders[1].refused), ratio);
  judge(ratio, 3, "x");
}

// ---- loaders: many threads ask for one key

void loaders(const Scale& scale) {
  constexpr int kThreads = 64;
  Words cache;
  std::atomic<std::uint64_t> runs{0};
  std::uint64_t wrong = 0;
  for (int round = 0; round != scale.rounds; ++round) {
    const auto key = static_cast<std::uint64_t>(round);
    std::atomic<int> ready{0};
    std::atomic<int> failed{0};
    std::vector<std::thread> threads;
    for (int t = 0; t != kThreads; ++t) {
      threads.emplace_back([&] {
        ++ready;
        while (ready != kThreads) std::this_thread::yield();
        const auto got = cache.get_or_compute(key, [&](std::uint64_t asked) {
          ++runs;
          std::this_thread::sleep_for(std::chrono::milliseconds{20});
          return asked * 2;
        });
        if (!got || **got != key * 2) ++failed;
      });
    }
    for (std::thread& thread : threads) thread.join();
    wrong += static_cast<std::uint64_t>(failed);
  }
  const double each = static_cast<double>(runs) / scale.rounds;
  std::printf("loaders, %d threads for one key, %d times: %.2f loads a key, %llu wrong answers",
              kThreads, scale.rounds, each, static_cast<unsigned long long>(wrong));
  judge(each + static_cast<double>(wrong), 1, "load");
}

// ---- entries: what an operation takes as the cache grows

// One line of memory after another, in an order that no prefetcher knows: what one miss of the
// machine's own caches takes, with as many bytes as the cache has.
double chase_nanoseconds(Bytes footprint, std::uint64_t steps) {
  struct alignas(64) Line {
    std::uint64_t next;
  };
  const std::uint64_t count = std::max<std::uint64_t>(footprint.count() / sizeof(Line), 16);
  std::vector<Line> lines(count);
  std::vector<std::uint32_t> order(count);
  for (std::uint64_t i = 0; i != count; ++i) order[i] = static_cast<std::uint32_t>(i);
  std::shuffle(order.begin(), order.end(), std::mt19937_64{3});
  for (std::uint64_t i = 0; i != count; ++i) lines[order[i]].next = order[(i + 1) % count];
  std::uint64_t at = 0;
  const double took = taken([&] {
    for (std::uint64_t i = 0; i != steps; ++i) at = lines[at].next;
  });
  if (at == count) std::puts("");
  return took / static_cast<double>(steps) * 1e9;
}

// Ranks of Zipf 0.99 by the inverse of the integral; which key has which rank is random.
std::vector<std::uint64_t> zipf_requests(std::uint64_t keys, std::uint64_t count) {
  std::mt19937_64 random{static_cast<std::uint64_t>(keys)};
  std::uniform_real_distribution<double> draw{0, 1};
  const double most = std::pow(static_cast<double>(keys), 0.01) - 1;
  std::vector<std::uint64_t> requests(count);
  for (std::uint64_t& request : requests) {
    const auto rank = static_cast<std::uint64_t>(std::pow(draw(random) * most + 1, 100.0));
    request = mixed(std::min(rank, keys)) % keys;
  }
  return requests;
}

std::vector<std::uint64_t> even_requests(std::uint64_t keys, std::uint64_t count) {
  std::vector<std::uint64_t> requests(count);
  for (std::uint64_t i = 0; i != count; ++i) requests[i] = mixed(i + keys) % keys;
  return requests;
}

// Nanoseconds of a request: of all that are there, or with puts of those that are not.
Rounds request_costs(const Scale& scale, Words& cache, const std::vector<std::uint64_t>& requests) {
  Rounds costs;
  for (int round = 0; round != scale.rounds; ++round) {
    const double took = taken([&] {
      for (const std::uint64_t key : requests) {
        if (!cache.find(key)) static_cast<void>(cache.put(key, key));
      }
    });
    costs.add(took / static_cast<double>(requests.size()) * 1e9);
  }
  return costs;
}

struct Costs {
  double hit = 0;
  double through = 0;
  double chase = 0;
};

Costs costs_with(const Scale& scale, std::uint64_t entries) {
  Rounds hits;
  Rounds even;
  Rounds through;
  Bytes used;
  {
    Words cache{{.max_bytes = Bytes{entries * 88}, .policy = "lru"}};
    for (std::uint64_t i = 0; i != entries; ++i) static_cast<void>(cache.put(i, i));
    used = cache.stats().used;
    hits = request_costs(scale, cache, zipf_requests(entries, scale.operations));
    even = request_costs(scale, cache, even_requests(entries, scale.operations));
    if (cache.stats().misses != 0) std::puts("  some were lost");
    through = request_costs(scale, cache, zipf_requests(entries * 4, scale.operations));
  }
  const Costs costs{hits.median(), through.median(), chase_nanoseconds(used, scale.operations)};
  std::printf(
      "entries, %9llu (%s), ns: a hit %s, of keys drawn evenly %s, read-through %s; a line "
      "of memory %.1f\n",
      static_cast<unsigned long long>(entries), to_string(used).c_str(), hits.text().c_str(),
      even.text().c_str(), through.text().c_str(), costs.chase);
  return costs;
}

void entries(const Scale& scale) {
  Costs least;
  Costs last;
  for (std::uint64_t n = scale.most_entries / 1000; n <= scale.most_entries; n *= 10) {
    last = costs_with(scale, n);
    if (least.hit == 0) least = last;
  }
  std::printf("  from the least to the most: a line of memory %.1fx, hits %.2fx",
              last.chase / least.chase, last.hit / least.hit);
  judge(last.hit / least.hit, 2, "x");
  std::printf("  read-through %.2fx", last.through / least.through);
  judge(last.through / least.through, 2, "x");
}

// ---- resident: what the process grows by, for what is charged. Each in a process of its own.

template <std::size_t Size>
void fill_resident(const std::string& policy, Bytes most) {
  using Value = std::array<char, Size>;
  const Bytes before = resident_bytes();
  Cache<std::uint64_t, Value> cache{{.max_bytes = most, .policy = policy}};
  Value value;
  value.fill('v');
  // Twice what fits: what was evicted is part of the truth.
  const std::uint64_t count = 2 * most.count() / Size;
  for (std::uint64_t i = 0; i != count; ++i) cache.put(i, value).status().throw_if_error();
  const auto stats = cache.stats();
  const auto used = static_cast<double>((stats.used + stats.reserved).count());
  const auto grown = static_cast<double>((resident_bytes() - before).count());
  std::printf(
      "resident, %s, values of %6zu B: %llu, charged %s, the process grew by %.1f %% of that",
      policy.c_str(), Size, static_cast<unsigned long long>(stats.entries),
      to_string(stats.used + stats.reserved).c_str(), 100 * grown / used);
  judge(std::abs(100 * grown / used - 100), 5, "% off");
}

bool resident_child(const std::string& policy, const std::string& size, Bytes most) {
  if (size == "64") fill_resident<64>(policy, most);
  if (size == "1024") fill_resident<1024>(policy, most);
  if (size == "65536") fill_resident<65536>(policy, most);
  return size == "64" || size == "1024" || size == "65536";
}

void resident_of(const Scale& scale, const char* policy) {
  const std::string most = std::to_string(scale.resident.count());
  for (const char* size : {"64", "1024", "65536"}) {
    std::fflush(stdout);
    const pid_t child = ::fork();
    if (child == 0) {
      ::execl("/proc/self/exe", "cache_bounds_bench", "--child", policy, size, most.c_str(),
              nullptr);
      ::_exit(127);
    }
    int status = 0;
    if (child < 0 || ::waitpid(child, &status, 0) != child || status != 0) {
      std::printf("resident, values of %s B: its process failed\n", size);
    }
  }
}

void resident(const Scale& scale) {
  resident_of(scale, "lru");
  resident_of(scale, "auto");
}

// ---- burst: eight threads put as fast as they can

void burst(const Scale& scale) {
  constexpr Bytes kLine = 20_MiB;
  using Value = std::array<char, 1024>;
  const Bytes before = resident_bytes();
  auto pool = forebay::Pool::create(forebay::Device::host(), {.name = "values"});
  Cache<std::uint64_t, Value> cache{{.max_bytes = kLine, .memory = pool}};
  std::atomic<std::uint64_t> refused{0};
  Bytes highest;
  Bytes highest_resident;
  {
    const Workers workers{8, [&](std::uint64_t i) {
                            if (!cache.put(mixed(i) % 1'000'000, Value{})) ++refused;
                          }};
    const double end = wall_seconds() + (scale.smoke ? 0.2 : 5);
    while (wall_seconds() < end) {
      highest = std::max(highest, pool->stats().live + cache.stats().bookkeeping);
      highest_resident = std::max(highest_resident, resident_bytes());
    }
  }
  const auto stats = cache.stats();
  std::printf("burst, 8 threads, line %s, %llu puts, %llu refused: charged at most %s",
              to_string(kLine).c_str(), static_cast<unsigned long long>(stats.insertions),
              static_cast<unsigned long long>(refused.load()), to_string(stats.peak).c_str());
  judge(static_cast<double>(stats.peak.count()), static_cast<double>(kLine.count()), "B");
  std::printf("  blocks and bookkeeping as sampled, at most %s", to_string(highest).c_str());
  judge(static_cast<double>(highest.count()), static_cast<double>(kLine.count()), "B");
  std::printf("  the process grew by at most %s\n",
              to_string(saturating_sub(highest_resident, before)).c_str());
}

// ---- streams: pushing where nobody drains, and appending where the oldest go

template <typename Push>
Rounds push_costs(const Scale& scale, int threads, Push push) {
  Rounds costs;
  for (int round = 0; round != scale.rounds; ++round) {
    std::atomic<double> sum{0};
    std::vector<std::thread> running;
    for (int t = 0; t != threads; ++t) {
      running.emplace_back([&] {
        const double took = taken([&] {
          for (std::uint64_t i = 0; i != scale.operations; ++i) push(i);
        });
        for (double old = sum; !sum.compare_exchange_weak(old, old + took);) {
        }
      });
    }
    for (std::thread& thread : running) thread.join();
    costs.add(sum / threads / static_cast<double>(scale.operations) * 1e9);
  }
  return costs;
}

void streams(const Scale& scale) {
  struct Event {
    std::array<std::uint64_t, 8> words;
  };
  for (const int threads : {1, 2}) {
    forebay::TelemetryBuffer<Event> buffer{{.max_bytes = 1_MiB}};
    Rounds costs = push_costs(scale, threads, [&](std::uint64_t i) { buffer.push(Event{{i}}); });
    const auto stats = buffer.stats();
    std::printf("streams, %d thread(s): a push of 64 B %s ns, %llu newest dropped", threads,
                costs.text().c_str(), static_cast<unsigned long long>(stats.dropped_newest));
    judge(costs.median(), 100, "ns");
    forebay::StreamRing<Event> ring{{.max_bytes = 1_MiB}};
    costs = push_costs(scale, threads,
                       [&](std::uint64_t i) { static_cast<void>(ring.append(Event{{i}})); });
    std::printf("  an append of 64 B %s ns\n", costs.text().c_str());
  }
}

struct Row {
  const char* name;
  void (*run)(const Scale&);
};
constexpr std::array<Row, 9> kRows{{{"stats", stats},
                                    {"epochs", epochs},
                                    {"expiry", expiry},
                                    {"pins", pins},
                                    {"loaders", loaders},
                                    {"entries", entries},
                                    {"resident", resident},
                                    {"burst", burst},
                                    {"streams", streams}}};

int usage() {
  std::fputs("usage: cache_bounds_bench [--smoke] [--seconds N] [--rounds N] [--only ROW]\nrows:",
             stderr);
  for (const Row& row : kRows) std::fprintf(stderr, " %s", row.name);
  std::fputs("\n", stderr);
  return 2;
}

}  // namespace

int main(int argc, char** argv) {
  Scale scale;
  std::string only;
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    if (flag == "--smoke") {
      scale = {.smoke = true,
               .seconds = 1,
               .rounds = 1,
               .entries = 20'000,
               .most_entries = 20'000,
               .operations = 20'000,
               .resident = 8_MiB};
    } else if (flag == "--seconds" && i + 1 < argc) {
      scale.seconds = std::max(1, std::atoi(argv[++i]));
    } else if (flag == "--rounds" && i + 1 < argc) {
      scale.rounds = std::max(1, std::atoi(argv[++i]));
    } else if (flag == "--only" && i + 1 < argc) {
      only = argv[++i];
    } else if (flag == "--child" && i + 3 < argc) {
      const Bytes most{std::strtoull(argv[i + 3], nullptr, 10)};
      return resident_child(argv[i + 1], argv[i + 2], most) ? 0 : 2;
    } else {
      return usage();
    }
  }
  bool found = false;
  for (const Row& row : kRows) {
    if (!only.empty() && only != row.name) continue;
    found = true;
    row.run(scale);
    std::fflush(stdout);
  }
  return found ? 0 : usage();
}
