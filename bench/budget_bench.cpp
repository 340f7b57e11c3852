// What a reservation costs, beside its peers, and whether the line holds.
//
//   budget_bench                        cost table: ns per reserve + release
//   budget_bench --overshoot 100000000  so many operations near the limit, watched
//   budget_bench --smoke                both, for a second
//
// Peers, all in the same run and interleaved (one repetition of each in turn, medians of 7):
//   mutex       one std::mutex a tree, the whole path charged under it; exact
//   cas         compare-and-swap with the limit at each level; exact
//   fetch_add   add at each level, back out when over (RMM's limiting adaptor); refuses what
//               fits while another thread is backing out, and shows use above the limit

#include <time.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "forebay/budget.hpp"

namespace {

using forebay::Budget;
using forebay::Bytes;
using forebay::Reservation;
using namespace forebay::literals;

constexpr std::size_t kMostLevels = 4;

struct alignas(64) Level {
  std::atomic<std::uint64_t> used{0};
  std::uint64_t limit = 0;
};

// Each peer: take(bytes) says whether it was granted; give(bytes) returns it.
struct Path {
  Path(std::size_t depth, std::uint64_t limit) : depth_(depth) {
    for (Level& level : levels_) level.limit = limit;
  }
  std::uint64_t used() const { return levels_[0].used.load(std::memory_order_relaxed); }

 protected:
  std::array<Level, kMostLevels> levels_;
  const std::size_t depth_;
};

struct MutexPath : Path {
  using Path::Path;
  bool take(std::uint64_t bytes) {
    const std::lock_guard lock{mutex_};
    for (std::size_t i = 0; i < depth_; ++i) {
      if (levels_[i].used.load(std::memory_order_relaxed) + bytes > levels_[i].limit) return false;
    }
    for (std::size_t i = 0; i < depth_; ++i) add(levels_[i], bytes);
    return true;
  }
  void give(std::uint64_t bytes) {
    const std::lock_guard lock{mutex_};
    for (std::size_t i = 0; i < depth_; ++i) add(levels_[i], ~bytes + 1);
  }

 private:
  static void add(Level& level, std::uint64_t bytes) {
    level.used.store(level.used.load(std::memory_order_relaxed) + bytes, std::memory_order_relaxed);
  }
  std::mutex mutex_;
};

struct CasPath : Path {
  using Path::Path;
  bool take(std::uint64_t bytes) {
    for (std::size_t i = 0; i < depth_; ++i) {
      std::uint64_t used = levels_[i].used.load(std::memory_order_relaxed);
      do {
        if (used + bytes > levels_[i].limit) {
          while (i-- > 0) levels_[i].used.fetch_sub(bytes);
          return false;
        }
      } while (!levels_[i].used.compare_exchange_weak(used, used + bytes));
    }
    return true;
  }
  void give(std::uint64_t bytes) {
    for (std::size_t i = 0; i < depth_; ++i) levels_[i].used.fetch_sub(bytes);
  }
};

struct FetchAddPath : Path {
  using Path::Path;
  bool take(std::uint64_t bytes) {
    for (std::size_t i = 0; i < depth_; ++i) {
      if (levels_[i].used.fetch_add(bytes) + bytes <= levels_[i].limit) continue;
      for (std::size_t back = 0; back <= i; ++back) levels_[back].used.fetch_sub(bytes);
      return false;
    }
    return true;
  }
  void give(std::uint64_t bytes) {
    for (std::size_t i = 0; i < depth_; ++i) levels_[i].used.fetch_sub(bytes);
  }
};

// A chain of budgets; threads use its lowest.
struct Chain {
  Chain(std::size_t depth, Bytes limit) {
    budgets.emplace_back("root", forebay::BudgetOptions{.limit = limit});
    for (std::size_t i = 1; i < depth; ++i) budgets.push_back(budgets.back().child("n").value());
  }
  ~Chain() {
    while (!budgets.empty()) budgets.pop_back();
  }
  Budget& leaf() { return budgets.back(); }
  std::vector<Budget> budgets;
};

// Of this thread alone, so that a busy machine shows as little as can be.
double cpu_nanoseconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e9 + static_cast<double>(now.tv_nsec);
}

// How much of the time of all runs with two threads they really ran: 1 on a quiet machine.
struct Overlap {
  double cpu = 0;
  double wall = 0;
};
Overlap overlap;

// CPU nanoseconds per iteration of body(thread, iterations), by the slowest thread.
double time_threads(int count, std::uint64_t iterations,
                    const std::function<void(int, std::uint64_t)>& body) {
  std::vector<double> took(static_cast<std::size_t>(count));
  std::vector<double> wall(took.size());
  std::atomic<int> ready{0};
  std::vector<std::thread> threads;
  threads.reserve(took.size());
  for (int i = 0; i < count; ++i) {
    threads.emplace_back([&, i] {
      body(i, iterations / 100 + 1);  // warm
      ++ready;
      while (ready < count) {
      }
      const auto wall_start = std::chrono::steady_clock::now();
      const double start = cpu_nanoseconds();
      body(i, iterations);
      const std::chrono::duration<double, std::nano> elapsed =
          std::chrono::steady_clock::now() - wall_start;
      took[static_cast<std::size_t>(i)] = cpu_nanoseconds() - start;
      wall[static_cast<std::size_t>(i)] = elapsed.count();
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (std::size_t i = 0; count > 1 && i < took.size(); ++i) {
    overlap.cpu += took[i];
    overlap.wall += wall[i];
  }
  return *std::max_element(took.begin(), took.end()) / static_cast<double>(iterations);
}

template <typename PeerPath>
std::function<double(int, std::uint64_t)> peer(std::size_t depth) {
  return [depth](int threads, std::uint64_t iterations) {
    PeerPath path{depth, std::uint64_t{1} << 40};
    return time_threads(threads, iterations, [&](int, std::uint64_t n) {
      for (std::uint64_t i = 0; i < n; ++i) {
        if (!path.take(4096)) std::abort();
        path.give(4096);
      }
    });
  };
}

std::function<double(int, std::uint64_t)> forebay_pair(std::size_t depth) {
  return [depth](int threads, std::uint64_t iterations) {
    Chain chain{depth, 1_TiB};
    Budget& leaf = chain.leaf();
    return time_threads(threads, iterations, [&](int, std::uint64_t n) {
      for (std::uint64_t i = 0; i < n; ++i) {
        if (!leaf.reserve(4_KiB)) std::abort();
      }
    });
  };
}

// The same where no lease is allowed: each operation takes the lock.
std::function<double(int, std::uint64_t)> forebay_tight(std::size_t depth) {
  return [depth](int threads, std::uint64_t iterations) {
    Chain chain{depth, 128_KiB};
    Budget& leaf = chain.leaf();
    return time_threads(threads, iterations, [&](int, std::uint64_t n) {
      for (std::uint64_t i = 0; i < n; ++i) {
        if (!leaf.reserve(4_KiB)) std::abort();
      }
    });
  };
}

struct Case {
  std::string name;
  std::function<double(int, std::uint64_t)> run;
  std::uint64_t share;  // 1/share of the iterations: it is slower
};

void print_costs(std::uint64_t iterations, int repetitions) {
  std::printf("CPU ns per reserve + release of 4 KiB, median (lowest - highest) of %d\n",
              repetitions);
  std::printf("%-6s %-8s %-22s %-22s\n", "depth", "", "1 thread", "2 threads, per thread");
  for (const std::size_t depth : {std::size_t{1}, std::size_t{2}, std::size_t{4}}) {
    const std::vector<Case> cases{{"forebay", forebay_pair(depth), 1},
                                  {"tight", forebay_tight(depth), 8},
                                  {"mutex", peer<MutexPath>(depth), 4},
                                  {"cas", peer<CasPath>(depth), 4},
                                  {"add", peer<FetchAddPath>(depth), 4}};
    std::vector<std::array<std::vector<double>, 2>> took(cases.size());
    for (int repetition = 0; repetition < repetitions; ++repetition) {
      for (std::size_t i = 0; i < cases.size(); ++i) {
        for (int threads : {1, 2}) {
          const double ns = cases[i].run(threads, iterations / cases[i].share);
          took[i][static_cast<std::size_t>(threads - 1)].push_back(ns);
        }
      }
    }
    for (std::size_t i = 0; i < cases.size(); ++i) {
      std::printf("%-6zu %-8s", depth, cases[i].name.c_str());
      for (auto& times : took[i]) {
        std::sort(times.begin(), times.end());
        std::printf(" %6.1f (%.1f - %.1f)%*s", times[times.size() / 2], times.front(), times.back(),
                    2, "");
      }
      std::printf("\n");
    }
  }
  std::printf("two threads had a core each for %.0f %% of the time\n",
              100 * overlap.cpu / overlap.wall);
}

struct NearLimit {
  std::uint64_t refused = 0;  // of what fits
  std::uint64_t over = 0;     // looks that saw more than the limit
  std::uint64_t looks = 0;
  double seconds = 0;
};

// Thread 0 takes 60 of 100 parts, asks for 60 more, which never fit, and returns the first;
// thread 1 takes and returns 40, which always fit. A turn is three operations and two; a
// third thread looks.
template <typename Turn, typename Look>
NearLimit near_limit(std::uint64_t operations, Turn turn, Look is_over) {
  NearLimit result;
  std::atomic<bool> stop{false};
  std::thread watcher{[&] {
    do {
      result.over += is_over();
      ++result.looks;
    } while (!stop);
  }};
  std::atomic<std::uint64_t> refused{0};
  std::atomic<int> ready{0};
  const auto start = std::chrono::steady_clock::now();
  std::vector<std::thread> threads;
  threads.reserve(2);
  for (int thread = 0; thread < 2; ++thread) {
    threads.emplace_back([&, thread] {
      std::uint64_t mine = 0;
      ++ready;
      while (ready < 2) {
      }
      for (std::uint64_t i = 0; i < operations / 5; ++i) mine += turn(thread);
      refused += mine;
    });
  }
  for (std::thread& thread : threads) thread.join();
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  stop = true;
  watcher.join();
  result.refused = refused;
  result.seconds = elapsed.count();
  return result;
}

NearLimit near_limit_of_budget(std::uint64_t operations, Bytes part) {
  Chain chain{2, part * 100};
  return near_limit(
      operations,
      [&](int thread) -> std::uint64_t {
        if (thread == 1) return chain.budgets[0].try_reserve(part * 40).ok() ? 0 : 1;
        const auto first = chain.leaf().try_reserve(part * 60);
        const auto second = chain.leaf().try_reserve(part * 60);
        if (first.ok() && second.ok()) std::abort();
        return first.ok() ? 0 : 1;
      },
      [&] {
        const auto stats = chain.budgets[0].stats();
        return stats.charged > stats.limit || stats.used > stats.limit;
      });
}

// The same with small amounts beside a large one, so that leases are at work at the limit.
NearLimit near_limit_with_leases(std::uint64_t operations) {
  Chain chain{2, 64_MiB};
  return near_limit(
      operations,
      [&](int thread) -> std::uint64_t {
        if (thread == 1) {
          std::uint64_t refused = 0;
          for (int i = 0; i < 3; ++i) refused += chain.leaf().try_reserve(100_KiB).ok() ? 0 : 1;
          return refused;
        }
        const auto first = chain.leaf().try_reserve(64_KiB);
        const auto rest = chain.budgets[0].try_reserve(64_MiB - 164_KiB);
        const auto more = chain.leaf().try_reserve(101_KiB);
        if (first.ok() && rest.ok() && more.ok()) std::abort();
        return (first.ok() ? 0U : 1U) + (rest.ok() ? 0U : 1U);
      },
      [&] {
        const auto stats = chain.budgets[0].stats();
        return stats.charged > stats.limit || stats.used > stats.limit;
      });
}

template <typename PeerPath>
NearLimit near_limit_of_peer(std::uint64_t operations) {
  PeerPath path{2, 100};
  return near_limit(
      operations,
      [&](int thread) -> std::uint64_t {
        if (thread == 1) {
          if (!path.take(40)) return 1;
          path.give(40);
          return 0;
        }
        const bool first = path.take(60);
        const bool second = path.take(60);
        if (first) path.give(60);
        if (second) path.give(60);
        return first || second ? 0 : 1;
      },
      [&] { return path.used() > 100; });
}

void print_near_limit(const char* name, std::uint64_t operations, const NearLimit& result) {
  std::printf(
      "%-22s %11llu operations in %5.1f s: %llu refusals of what fits, %llu of %llu looks "
      "over the limit\n",
      name, static_cast<unsigned long long>(operations), result.seconds,
      static_cast<unsigned long long>(result.refused), static_cast<unsigned long long>(result.over),
      static_cast<unsigned long long>(result.looks));
}

bool print_overshoot(std::uint64_t operations) {
  std::printf("near the limit, 2 threads and one that looks\n");
  const NearLimit tight = near_limit_of_budget(operations / 2, 1_B);
  print_near_limit("forebay, no leases", operations / 2, tight);
  const NearLimit leases = near_limit_with_leases(operations / 2);
  print_near_limit("forebay, leases", operations / 2, leases);
  print_near_limit("cas", operations / 2, near_limit_of_peer<CasPath>(operations / 2));
  print_near_limit("fetch_add", operations / 2, near_limit_of_peer<FetchAddPath>(operations / 2));
  return tight.refused + tight.over + leases.refused + leases.over == 0;
}

}  // namespace

int main(int argc, char** argv) {
  const bool smoke = argc == 2 && std::strcmp(argv[1], "--smoke") == 0;
  const bool overshoot = argc == 3 && std::strcmp(argv[1], "--overshoot") == 0;
  if (argc != 1 && !smoke && !overshoot) {
    std::fprintf(stderr, "usage: %s [--smoke | --overshoot OPERATIONS]\n", argv[0]);
    return 2;
  }
  if (!overshoot) print_costs(smoke ? 50'000 : 4'000'000, smoke ? 3 : 7);
  bool exact = true;
  if (smoke) exact = print_overshoot(300'000);
  if (overshoot) exact = print_overshoot(std::strtoull(argv[2], nullptr, 10));
  return exact ? 0 : 1;
}
