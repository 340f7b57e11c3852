// What a cache costs, beside its peers, in one run and interleaved.
//
//   cache_bench                 all rows: hits, read-through, giving back, pauses
//   cache_bench --smoke         each of them, for an instant
//   cache_bench --rounds N      medians of N rounds (default 7)
//
// Requests: Zipf 0.99 over 1 M keys; values of 64 B to 4 KiB, log-uniform by key; capacity a tenth
// of all bytes. Ours has deadlines and accounting on. Times are CPU time of the threads that ask,
// per operation: median (lowest - highest).
//
// Peers: a mutex around std::list and std::unordered_map; RocksDB's LRUCache and HyperClockCache
// where librocksdb-dev was there when this was built.

#include <malloc.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <random>
#include <span>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "cache_load.hpp"
#include "forebay/cache.hpp"

#ifdef FOREBAY_BENCH_ROCKSDB
#include <rocksdb/cache.h>
#endif

namespace {

using namespace forebay::literals;
using forebay::Bytes;
using forebay::bench::mixed;
using forebay::bench::resident_bytes;

struct Scale {
  std::size_t keys = 1'000'000;
  std::size_t requests = 1'000'000;
  int rounds = 7;
  Bytes shrink_from = 1_GiB;
  Bytes shrink_to = 100_MiB;
};

double cpu_nanoseconds() { return forebay::bench::cpu_seconds() * 1e9; }
double wall_nanoseconds() { return forebay::bench::wall_seconds() * 1e9; }

std::uint32_t draw_size(std::uint32_t key) {
  const double u = static_cast<double>(mixed(key + 1) >> 11) / 9007199254740992.0;
  return static_cast<std::uint32_t>(64.0 * std::pow(64.0, u));
}

// Drawn once: nobody is to be charged for the logarithms. For one thread, until all keys were
// asked.
std::uint32_t size_of(std::uint32_t key) {
  static std::vector<std::uint32_t> sizes;
  while (sizes.size() <= key) sizes.push_back(draw_size(static_cast<std::uint32_t>(sizes.size())));
  return sizes[key];
}

// Which key has which rank is random.
std::vector<std::uint32_t> zipf_requests(std::size_t keys, std::size_t count, std::uint64_t seed) {
  std::vector<std::uint32_t> names(keys);
  for (std::size_t i = 0; i != keys; ++i) names[i] = static_cast<std::uint32_t>(i);
  std::shuffle(names.begin(), names.end(), std::mt19937_64{1});
  std::vector<std::uint32_t> requests = forebay::bench::zipf_ranks(keys, count, 0.99, seed);
  for (std::uint32_t& request : requests) request = names[request];
  return requests;
}

// Each contender: get(key) says whether it is there, and reads a byte of it; touch(key) finds it
// and lets it go, unread; fill(key) puts it in.
class Contender {
 public:
  virtual ~Contender() = default;
  virtual const char* name() const = 0;
  virtual bool get(std::uint32_t key) = 0;
  virtual bool touch(std::uint32_t key) = 0;
  virtual void fill(std::uint32_t key) = 0;
};

// Values as long as keys say, all of one letter.
std::span<const std::byte> value_of(std::uint32_t key) {
  static const std::vector<std::byte> letters(4096, std::byte{'v'});
  return std::span{letters}.first(size_of(key));
}

class Ours final : public Contender {
 public:
  Ours(Bytes capacity, std::string policy)
      : policy_(std::move(policy)),
        cache_({.max_bytes = capacity, .policy = policy_, .max_age = std::chrono::hours{1}}) {
    name_ = "forebay " + policy_;
  }
  const char* name() const override { return name_.c_str(); }
  bool get(std::uint32_t key) override {
    const auto found = cache_.find(key);
    return found && found->bytes()[0] == std::byte{'v'};
  }
  bool touch(std::uint32_t key) override { return static_cast<bool>(cache_.find(key)); }
  void fill(std::uint32_t key) override {
    cache_.put(key, value_of(key)).status().throw_if_error();
  }
  auto& cache() { return cache_; }

 private:
  std::string policy_;
  std::string name_;
  forebay::Cache<std::uint64_t, forebay::CacheBytes> cache_;
};

class MutexLru final : public Contender {
 public:
  explicit MutexLru(Bytes capacity) : capacity_(capacity.count()) {}
  const char* name() const override { return "mutex + list + unordered_map"; }
  bool get(std::uint32_t key) override {
    const std::lock_guard lock{mutex_};
    const Node* const found = find(key);
    return found != nullptr && *found->value.get() == 'v';
  }
  bool touch(std::uint32_t key) override {
    const std::lock_guard lock{mutex_};
    return find(key) != nullptr;
  }
  void fill(std::uint32_t key) override {
    const std::uint32_t size = size_of(key);
    std::unique_ptr<char[]> value{new char[size]};
    std::memcpy(value.get(), value_of(key).data(), size);
    const std::lock_guard lock{mutex_};
    while (used_ + size > capacity_) {
      used_ -= order_.back().size;
      index_.erase(order_.back().key);
      order_.pop_back();
    }
    if (index_.contains(key)) return;
    order_.push_front({key, size, std::move(value)});
    index_[key] = order_.begin();
    used_ += size;
  }

 private:
  struct Node {
    std::uint64_t key;
    std::uint32_t size;
    std::unique_ptr<char[]> value;
  };
  const Node* find(std::uint32_t key) {
    const auto found = index_.find(key);
    if (found == index_.end()) return nullptr;
    order_.splice(order_.begin(), order_, found->second);
    return &*found->second;
  }
  std::mutex mutex_;
  std::list<Node> order_;
  std::unordered_map<std::uint64_t, std::list<Node>::iterator> index_;
  std::uint64_t used_ = 0;
  const std::uint64_t capacity_;
};

#ifdef FOREBAY_BENCH_ROCKSDB
class Rocks final : public Contender {
 public:
  Rocks(const char* name, std::shared_ptr<rocksdb::Cache> cache)
      : name_(name), cache_(std::move(cache)) {}
  const char* name() const override { return name_; }
  bool get(std::uint32_t key) override {
    const Key made{key};
    rocksdb::Cache::Handle* const found = cache_->Lookup(made.slice());
    if (found == nullptr) return false;
    const bool right = *static_cast<const char*>(cache_->Value(found)) == 'v';
    cache_->Release(found);
    return right;
  }
  bool touch(std::uint32_t key) override {
    const Key made{key};
    rocksdb::Cache::Handle* const found = cache_->Lookup(made.slice());
    if (found != nullptr) cache_->Release(found);
    return found != nullptr;
  }
  void fill(std::uint32_t key) override {
    const std::uint32_t size = size_of(key);
    auto* const value = new char[size];
    std::memcpy(value, value_of(key).data(), size);
    const Key made{key};
    const auto status =
        cache_->Insert(made.slice(), value, size,
                       [](const rocksdb::Slice&, void* old) { delete[] static_cast<char*>(old); });
    if (!status.ok()) std::abort();
  }

 private:
  // HyperClockCache takes keys of 16 bytes alone, and expects them hashed.
  struct Key {
    explicit Key(std::uint64_t key) : words{mixed(key + 1), key} {}
    rocksdb::Slice slice() const { return {reinterpret_cast<const char*>(words), sizeof words}; }
    std::uint64_t words[2];
  };
  const char* name_;
  std::shared_ptr<rocksdb::Cache> cache_;
};
#endif

std::vector<std::unique_ptr<Contender>> contenders(Bytes capacity) {
  std::vector<std::unique_ptr<Contender>> made;
  made.push_back(std::make_unique<Ours>(capacity, "auto"));
  made.push_back(std::make_unique<Ours>(capacity, "lru"));
  made.push_back(std::make_unique<Ours>(capacity, "sieve"));
  made.push_back(std::make_unique<MutexLru>(capacity));
#ifdef FOREBAY_BENCH_ROCKSDB
  made.push_back(
      std::make_unique<Rocks>("RocksDB LRUCache", rocksdb::NewLRUCache(capacity.count(), 4)));
  made.push_back(std::make_unique<Rocks>(
      "RocksDB HyperClockCache",
      rocksdb::HyperClockCacheOptions{capacity.count(), 969, 4}.MakeSharedCache()));
#endif
  return made;
}

struct Row {
  std::vector<double> nanoseconds;
  double extra = 0;
  void print(const char* name, const char* what) {
    std::sort(nanoseconds.begin(), nanoseconds.end());
    std::printf("  %-30s %7.1f (%.1f - %.1f)", name, nanoseconds[nanoseconds.size() / 2],
                nanoseconds.front(), nanoseconds.back());
    if (what != nullptr) std::printf("  %s %.3f", what, extra);
    std::printf("\n");
  }
};

// CPU time an operation, over all threads; each starts at another place of the requests.
double timed(int threads, const std::vector<std::uint32_t>& requests,
             const std::function<void(std::uint32_t)>& ask) {
  std::vector<double> took(static_cast<std::size_t>(threads));
  std::vector<std::thread> running;
  std::atomic<int> ready{0};
  for (int t = 0; t != threads; ++t) {
    running.emplace_back([&, t] {
      const std::size_t begin =
          requests.size() / static_cast<std::size_t>(threads) * static_cast<std::size_t>(t);
      ++ready;
      while (ready != threads) {
      }
      const double start = cpu_nanoseconds();
      for (std::size_t i = begin; i != requests.size(); ++i) ask(requests[i]);
      for (std::size_t i = 0; i != begin; ++i) ask(requests[i]);
      took[static_cast<std::size_t>(t)] = cpu_nanoseconds() - start;
    });
  }
  for (std::thread& thread : running) thread.join();
  double sum = 0;
  for (const double t : took) sum += t;
  return sum / static_cast<double>(threads) / static_cast<double>(requests.size());
}

void read_through(Contender& contender, std::uint32_t key) {
  if (!contender.get(key)) contender.fill(key);
}

void speed(const Scale& scale) {
  const auto requests = zipf_requests(scale.keys, scale.requests, 2);
  std::uint64_t all = 0;
  for (std::uint32_t key = 0; key != scale.keys; ++key) all += size_of(key);
  const Bytes capacity{all / 10};
  std::printf("capacity %s\n", to_string(capacity).c_str());
  auto made = contenders(capacity);
  for (auto& contender : made) {
    for (int i = 0; i != 2; ++i) {
      for (const std::uint32_t key : requests) read_through(*contender, key);
    }
  }
  for (const int threads : {1, 2}) {
    std::vector<Row> found_only(made.size());
    std::vector<Row> hits(made.size());
    std::vector<Row> through(made.size());
    for (int round = 0; round != scale.rounds; ++round) {
      for (std::size_t i = 0; i != made.size(); ++i) {
        Contender& contender = *made[i];
        std::vector<std::uint32_t> resident;
        for (const std::uint32_t key : requests) {
          if (contender.get(key)) resident.push_back(key);
        }
        std::atomic<int> lost{0};
        found_only[i].nanoseconds.push_back(timed(threads, resident, [&](std::uint32_t key) {
          if (!contender.touch(key)) ++lost;
        }));
        hits[i].nanoseconds.push_back(timed(threads, resident, [&](std::uint32_t key) {
          if (!contender.get(key)) ++lost;
        }));
        if (lost != 0) std::printf("  %s lost %d\n", contender.name(), lost.load());
        hits[i].extra = static_cast<double>(resident.size()) / static_cast<double>(requests.size());
        through[i].nanoseconds.push_back(
            timed(threads, requests, [&](std::uint32_t key) { read_through(contender, key); }));
        std::size_t found = 0;
        for (const std::uint32_t key : requests) {
          if (contender.get(key)) {
            ++found;
          } else {
            contender.fill(key);
          }
        }
        through[i].extra = static_cast<double>(found) / static_cast<double>(requests.size());
      }
    }
    std::printf("hits, value not read, %d thread%s: CPU ns\n", threads, threads == 1 ? "" : "s");
    for (std::size_t i = 0; i != made.size(); ++i) found_only[i].print(made[i]->name(), nullptr);
    std::printf("hits, value read, %d thread%s: CPU ns\n", threads, threads == 1 ? "" : "s");
    for (std::size_t i = 0; i != made.size(); ++i) hits[i].print(made[i]->name(), nullptr);
    std::printf("read-through, %d thread%s: CPU ns\n", threads, threads == 1 ? "" : "s");
    for (std::size_t i = 0; i != made.size(); ++i) through[i].print(made[i]->name(), "hit rate");
  }
}

// Lowers the line while a thread reads one key in `part`, the newest ones; what the system got
// back, and how long a find took. With a part of 1 the reader makes old entries new all over the
// memory, so that few pages become free.
void give_back(const Scale& scale, std::uint32_t part) {
  Ours ours{scale.shrink_from, "lru"};
  std::uint32_t keys = 0;
  while (ours.cache().stats().evicted == 0) ours.fill(keys++);
  std::atomic<bool> stop{false};
  double longest = 0;
  double longest_cpu = 0;
  std::uint64_t asked = 0;
  std::thread reader{[&] {
    for (std::uint64_t i = 0; !stop; ++i) {
      const double begin = wall_nanoseconds();
      const double begin_cpu = cpu_nanoseconds();
      static_cast<void>(ours.get(keys - 1 - static_cast<std::uint32_t>(mixed(i) % (keys / part))));
      longest_cpu = std::max(longest_cpu, cpu_nanoseconds() - begin_cpu);
      longest = std::max(longest, wall_nanoseconds() - begin);
      ++asked;
    }
  }};
  const Bytes used = ours.cache().stats().used;
  const Bytes before = resident_bytes();
  const double begin = wall_nanoseconds();
  const double begin_cpu = cpu_nanoseconds();
  ours.cache().set_max_bytes(scale.shrink_to);
  const double took = wall_nanoseconds() - begin;
  const double took_cpu = cpu_nanoseconds() - begin_cpu;
  const Bytes after = resident_bytes();
  stop = true;
  reader.join();
  const Bytes released = used - ours.cache().stats().used;
  std::printf("giving back, a reader of 1 key in %u, %u entries, %s -> %s: %.0f ms (CPU %.0f)\n",
              part, keys, to_string(scale.shrink_from).c_str(), to_string(scale.shrink_to).c_str(),
              took / 1e6, took_cpu / 1e6);
  std::printf(
      "  charge released %s, resident %s -> %s: %.1f %%; longest of %llu finds %.0f us (CPU "
      "%.0f)\n",
      to_string(released).c_str(), to_string(before).c_str(), to_string(after).c_str(),
      100.0 * static_cast<double>(forebay::saturating_sub(before, after).count()) /
          static_cast<double>(released.count()),
      static_cast<unsigned long long>(asked), longest / 1e3, longest_cpu / 1e3);
}

void print_tail(const char* what, std::vector<double>& took) {
  std::sort(took.begin(), took.end());
  const auto at = [&](double part) {
    return took[static_cast<std::size_t>(part * static_cast<double>(took.size() - 1))] / 1e3;
  };
  std::printf("  %-34s p50 %.2f, p99 %.2f, p99.99 %.1f, longest %.1f us\n", what, at(0.5), at(0.99),
              at(0.9999), took.back() / 1e3);
}

// What one call takes of the CPU while much goes at once.
void pauses(const Scale& scale) {
  const std::size_t entries = scale.keys;
  forebay::Cache<std::uint64_t, std::uint64_t> cache{{.max_bytes = Bytes{entries * 100}}};
  const auto fill = [&](std::chrono::milliseconds ttl) {
    for (std::size_t i = 0; i != entries; ++i) {
      cache.put(i, i, {.ttl = ttl}).status().throw_if_error();
    }
  };
  std::printf("pauses, %zu entries: CPU time of a call\n", entries);
  const auto watch = [&](const char* what, const std::function<void()>& meanwhile) {
    std::vector<double> took;
    std::atomic<bool> stop{false};
    std::thread worker{[&] {
      meanwhile();
      stop = true;
    }};
    for (std::uint64_t i = 0; !stop || took.size() < 20'000; ++i) {
      const double begin = cpu_nanoseconds();
      if (i % 4 == 0) {
        static_cast<void>(cache.put(entries + i % 1000, i));
      } else {
        static_cast<void>(cache.find(mixed(i) % entries));
      }
      took.push_back(cpu_nanoseconds() - begin);
    }
    worker.join();
    print_tail(what, took);
  };
  fill(std::chrono::milliseconds{1});
  watch("while all expire", [&] {
    while (cache.stats().entries > 1000) cache.cleanup_expired();
  });
  fill(std::chrono::hours{1});
  watch("while 90 % are evicted", [&] { cache.set_max_bytes(Bytes{entries * 10}); });
}

bool is_part(const std::string& name) {
  return name == "speed" || name == "back" || name == "pauses";
}

}  // namespace

int main(int argc, char** argv) {
  Scale scale;
  std::string only;
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    if (flag == "--smoke") {
      scale = {
          .keys = 5000, .requests = 20'000, .rounds = 1, .shrink_from = 8_MiB, .shrink_to = 1_MiB};
    } else if (flag == "--rounds" && i + 1 < argc) {
      scale.rounds = std::max(1, std::atoi(argv[++i]));
    } else if (flag == "--only" && i + 1 < argc && is_part(argv[i + 1])) {
      only = argv[++i];
    } else {
      std::fprintf(stderr,
                   "usage: cache_bench [--smoke] [--rounds N] [--only speed|back|pauses]\n");
      return 2;
    }
  }
  if (only.empty() || only == "speed") speed(scale);
  if (only.empty() || only == "back") {
    give_back(scale, 20);
    give_back(scale, 1);
  }
  if (only.empty() || only == "pauses") pauses(scale);
  return 0;
}
