#include "telemetry/snapshot_samples.hpp"

#include <fmt/format.h>

#include <random>

namespace forebay::testing {
namespace {

using namespace forebay::literals;

SnapshotBlock block_of(std::uint64_t address, std::uint64_t bytes, std::uint32_t tag,
                       std::uint32_t stack, double age) {
  SnapshotBlock block;
  block.address = address;
  block.bytes = bytes;
  block.tag = tag;
  block.stack = stack;
  block.age_seconds = age;
  block.weight_bytes = static_cast<double>(bytes);
  block.weight_blocks = 1;
  return block;
}

void add_heading(Snapshot& snapshot) {
  snapshot.program = "/usr/bin/model server";
  snapshot.pid = 4711;
  snapshot.taken_at = "2026-01-02T03:04:05Z";
  snapshot.clock_seconds = 1234.5;
  snapshot.reason = "asked";
  snapshot.resident_bytes = (2_GiB).count();
  snapshot.sample_interval_bytes = (512_KiB).count();
  snapshot.grade = "sampled";
}

void add_holders(Snapshot& snapshot) {
  snapshot.devices.push_back({"host", "host", (16_GiB).count(), (5_GiB).count()});
  BudgetStats root;
  root.path = "process";
  root.limit = Bytes::unlimited();
  root.used = root.charged = root.peak = 700_MiB;
  BudgetStats cache;
  cache.path = "process/cache";
  cache.limit = 1_GiB;
  cache.used = cache.charged = cache.peak = 600_MiB;
  cache.denials = 3;
  cache.pressure = Pressure::high;
  snapshot.budgets = {root, cache};
  SnapshotPool pool{"tensors", "host", {}};
  pool.stats.reserved = 1_GiB;
  pool.stats.live = 700_MiB;
  pool.stats.idle = 324_MiB;
  pool.stats.largest_free = 100_MiB;
  pool.stats.live_blocks = 4;
  pool.stats.acquires = 10;
  pool.stats.hits = 9;
  pool.stats.misses = 1;
  snapshot.pools.push_back(pool);
  snapshot.segments.push_back({0, 0x7f0000000000, (1_GiB).count()});
  snapshot.statistics.push_back(
      {"cache", "kernels", {{"used_bytes", 1048576}, {"hits_total", 12}, {"share_ratio", 0.125}}});
}

void add_code(Snapshot& snapshot) {
  snapshot.modules.push_back({"/usr/bin/model", "00ff", 0x555500000000});
  const SnapshotFrame inner{1, 0x1000, "grow_cache(int)"};
  const SnapshotFrame outer{1, 0x2000, "main"};
  const SnapshotFrame nameless{0, 0x7fff12345678, ""};
  snapshot.stacks = {{inner, outer}, {nameless, outer}, {}};
}

void add_events(Snapshot& snapshot) {
  snapshot.events.push_back({"allocate", "tensors", 2, 4712, 1000.25, 0x7f0000001000, 4096});
  snapshot.events.push_back({"mark", "epoch 2", 0, 4711, 1001, 0, 0});
  snapshot.events.push_back({"allocate", "tensors", 2, 4712, 1002, 0x7f0000002000, 4096});
}

}  // namespace

Snapshot small_snapshot() {
  Snapshot snapshot;
  add_heading(snapshot);
  add_holders(snapshot);
  snapshot.tags = {{"", "", 0_B, 0, 10_MiB, 7},
                   {"decoder/cache", "tenant 1", 600_MiB, 3, 900_MiB, 30},
                   {"decoder/layer \"3\" \xC3\xA9\n", "", 100_MiB, 1, 100_MiB, 1}};
  snapshot.sources = {"tensors", "scratch"};
  add_code(snapshot);
  snapshot.blocks = {block_of(0x7f0000001000, (200_MiB).count(), 1, 1, 60),
                     block_of(0x7f0010001000, (300_MiB).count(), 1, 1, 3600.25),
                     block_of(0x7f0020001000, (100_MiB).count(), 1, 2, 1),
                     block_of(0x7f0030001000, (100_MiB).count(), 2, 0, -1)};
  snapshot.blocks[3].weight_bytes = 1e8 / 3;
  snapshot.blocks[3].weight_blocks = 12.75;
  snapshot.blocks[3].pool = 1;
  add_events(snapshot);
  return snapshot;
}

Snapshot large_snapshot(std::size_t blocks, std::size_t stacks) {
  constexpr std::size_t kFrames = 20;
  constexpr std::size_t kPlaces = 5000;  // calls in the program
  Snapshot snapshot = small_snapshot();
  snapshot.blocks.clear();
  snapshot.stacks.clear();
  std::mt19937_64 random{1};
  for (std::size_t i = 0; i < stacks; ++i) {
    std::vector<SnapshotFrame>& stack = snapshot.stacks.emplace_back();
    for (std::size_t depth = 0; depth < kFrames; ++depth) {
      const std::uint64_t place = random() % kPlaces;
      stack.push_back({1, 0x10000 + 37 * place,
                       fmt::format("forebay::engine::Layer<float>::step_{}(forebay::Tensor const&)",
                                   place / 4)});
    }
  }
  for (std::size_t i = 0; i < blocks; ++i) {
    SnapshotBlock block =
        block_of(0x7f0000000000 + 4096 * i, 16 + random() % 65536, 1 + random() % 2,
                 static_cast<std::uint32_t>(1 + random() % stacks),
                 static_cast<double>(random() % 360000) / 100);
    snapshot.blocks.push_back(block);
  }
  return snapshot;
}

}  // namespace forebay::testing
