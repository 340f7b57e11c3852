#include "tracking/heavy_work.hpp"

#include <array>
#include <cmath>
#include <cstdlib>
#include <map>
#include <mutex>
#include <new>
#include <random>
#include <shared_mutex>
#include <thread>
#include <utility>

#include "forebay/tracker.hpp"
#include "pool/measure.hpp"

namespace forebay::bench {
namespace {

constexpr std::uint64_t kThreads = 2;
constexpr std::uint64_t kLiveEach = 100'000;
constexpr std::uint64_t kSeed = 88172645463325252ULL;

struct MallocOps {
  using Block = void*;
  static void take(Block& into, std::size_t bytes) {
    into = std::malloc(bytes);
    if (into == nullptr) throw std::bad_alloc{};
  }
  static void give(Block& block) { std::free(std::exchange(block, nullptr)); }
  static void* address(Block block) { return block; }
};

struct PoolOps {
  using Block = Buffer;
  Pool* pool;
  void take(Block& into, std::size_t bytes) const { into = pool->acquire(Bytes{bytes}).value(); }
  static void give(Block& block) { block.reset(); }
  static void* address(const Block& block) { return block.data(); }
};

struct MapOps : PoolOps {
  struct Map {
    std::shared_mutex mutex;
    std::map<void*, std::size_t> blocks;
  };
  Map* map;
  void take(Block& into, std::size_t bytes) const {
    PoolOps::take(into, bytes);
    const std::unique_lock lock{map->mutex};
    map->blocks.emplace(into.data(), bytes);
  }
  void give(Block& block) const {
    if (block.empty()) return;
    {
      const std::unique_lock lock{map->mutex};
      map->blocks.erase(block.data());
    }
    block.reset();
  }
};

// A place in the code: one of kPaths functions, so many calls of itself deep. That takes one jump
// and one return that the processor cannot foretell, so that the walk itself costs little.
struct Place {
  std::uint32_t levels;
  std::uint32_t path;
};
constexpr std::uint32_t kPaths = 48;

std::vector<Place> make_places() {
  constexpr std::uint32_t kLeast = 3;  // levels below the first call
  constexpr std::uint32_t kMost = 18;
  std::vector<Place> places;
  for (std::uint32_t levels = kLeast; levels <= kMost; ++levels) {
    for (std::uint32_t path = 0; path < kPaths; ++path) places.push_back({levels, path});
  }
  return places;
}

std::vector<std::uint32_t> make_sizes() {
  std::mt19937 random{1};
  std::uniform_real_distribution<double> exponent{std::log(16.0), std::log(4096.0)};
  std::vector<std::uint32_t> sizes(1U << 16);
  for (auto& size : sizes) size = static_cast<std::uint32_t>(std::exp(exponent(random)));
  return sizes;
}

// The path's number in the assembler's text keeps the functions apart.
template <typename Ops, std::uint32_t kPath>
[[gnu::noinline]] void descend(const Ops& ops, std::uint32_t levels, std::size_t bytes,
                               typename Ops::Block& into) {
  if (levels == 0) {
    ops.take(into, bytes);
  } else {
    descend<Ops, kPath>(ops, levels - 1, bytes, into);
  }
  asm volatile("# path %0" ::"i"(kPath) : "memory");
}

template <typename Ops, std::uint32_t... kPath>
constexpr auto make_paths(std::integer_sequence<std::uint32_t, kPath...>) {
  return std::array{&descend<Ops, kPath>...};
}

template <typename Ops>
void walk(const Ops& ops, Place place, std::size_t bytes, typename Ops::Block& into) {
  static constexpr auto kWays =
      make_paths<Ops>(std::make_integer_sequence<std::uint32_t, kPaths>{});
  kWays[place.path](ops, place.levels, bytes, into);
}

class Random {
 public:
  explicit Random(std::uint64_t number) : state_(kSeed + number) {}
  std::uint64_t operator()() {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return state_;
  }

 private:
  std::uint64_t state_;
};

struct Plan {
  std::vector<std::uint32_t> sizes = make_sizes();
  std::vector<Place> places = make_places();
  std::size_t size(std::uint64_t random) const { return sizes[(random >> 20) % sizes.size()]; }
  Place place(std::uint64_t random) const { return places[(random >> 40) % places.size()]; }
};

template <typename Ops>
void take_and_drop(const Ops& ops, const Plan& plan, std::uint64_t number, std::uint64_t pairs) {
  const TagScope tag{number == 0 ? "decoder/layer3" : "loader/batch"};
  std::vector<typename Ops::Block> live(kLiveEach);
  Random random{number};
  for (std::uint64_t i = 0; i != pairs; ++i) {
    const std::uint64_t now = random();
    auto& block = live[now % kLiveEach];
    ops.give(block);
    walk(ops, plan.place(now), plan.size(now), block);
    *static_cast<volatile char*>(Ops::address(block)) = 1;
  }
  for (auto& block : live) ops.give(block);
}

template <typename Ops>
Figures measure(const Ops& ops, std::uint64_t pairs) {
  const Plan plan;
  const double start = process_cpu_ns();
  std::vector<std::thread> threads;
  for (std::uint64_t number = 0; number != kThreads; ++number) {
    threads.emplace_back([&, number] { take_and_drop(ops, plan, number, pairs / kThreads); });
  }
  for (auto& thread : threads) thread.join();
  return {{"cpu_ns", (process_cpu_ns() - start) / static_cast<double>(pairs)},
          {"peak_bytes", peak_bytes()}};
}

}  // namespace

Figures heavy_work(Supplier supplier, std::uint64_t pairs) {
  if (supplier == Supplier::malloc) return measure(MallocOps{}, pairs);
  const auto pool = Pool::create(Device::host());
  if (supplier == Supplier::pool) return measure(PoolOps{pool.get()}, pairs);
  MapOps::Map map;
  return measure(MapOps{{pool.get()}, &map}, pairs);
}

std::vector<Buffer> heavy_blocks(Pool& pool, std::uint64_t count) {
  const Plan plan;
  std::vector<Buffer> blocks(count);
  Random random{0};
  for (Buffer& block : blocks) {
    const std::uint64_t now = random();
    walk(PoolOps{&pool}, plan.place(now), plan.size(now), block);
  }
  return blocks;
}

}  // namespace forebay::bench
