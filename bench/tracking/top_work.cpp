// What it costs a busy process to be looked at by `forebay top`.

#include <memory>
#include <vector>

#include "forebay/budget.hpp"
#include "forebay/pool.hpp"
#include "forebay/telemetry.hpp"
#include "forebay/tracker.hpp"
#include "pool/measure.hpp"
#include "tracking/heavy_work.hpp"
#include "tracking/work.hpp"

namespace forebay::bench {
namespace {

struct Slice {
  double operations = 0;
  double own_ns = 0;    // processor time of the worker
  double other_ns = 0;  // of the process's other threads
  double wall = 0;      // ns
};

// Works for so long by the wall.
Slice work(Pool& pool, std::vector<Buffer>& blocks, double nanoseconds) {
  constexpr std::uint64_t kBetweenLooks = 4096;
  Slice slice;
  const double process = process_cpu_ns();
  const double own = thread_cpu_ns();
  const double start = wall_ns();
  std::uint64_t at = 1;
  while (slice.wall < nanoseconds) {
    for (std::uint64_t i = 0; i != kBetweenLooks; ++i) {
      at = at * 6364136223846793005ULL + 1442695040888963407ULL;
      Buffer& block = blocks[(at >> 33) % blocks.size()];
      block.reset();
      block = pool.acquire(Bytes{16 + (at >> 40) % 4080}).value();
    }
    slice.operations += 2 * kBetweenLooks;
    slice.wall = wall_ns() - start;
  }
  slice.own_ns = thread_cpu_ns() - own;
  slice.other_ns = process_cpu_ns() - process - slice.own_ns;
  return slice;
}

}  // namespace

// `count`: milliseconds of each half, with and without a publisher.
Figures top_work(const WorkOptions& options) {
  Budget budget{"process", {.limit = Bytes{1ULL << 40}}};
  const auto pool = Pool::create(budget.meter(Device::host()));
  const TagScope tag{"decoder"};
  auto blocks = heavy_blocks(*pool, 100'000);
  const double nanoseconds = static_cast<double>(options.count) * 1e6;
  work(*pool, blocks, nanoseconds / 4);  // warms up
  PublishOptions publishing;
  publishing.directory = options.folder;
  auto publisher = Publisher::start(publishing).value();
  const Slice with = work(*pool, blocks, nanoseconds);
  publisher.reset();
  const Slice without = work(*pool, blocks, nanoseconds);
  const double by_itself = without.other_ns / without.wall;  // the pool's own thread
  return {{"share_of_wall", with.other_ns / with.wall - by_itself},
          {"share_of_work", (with.other_ns - by_itself * with.wall) / with.own_ns},
          {"operations_a_second", with.operations / (with.wall / 1e9)},
          {"with_ns", with.own_ns / with.operations},
          {"without_ns", without.own_ns / without.operations}};
}

}  // namespace forebay::bench
