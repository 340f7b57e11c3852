#include "telemetry/sample_snapshot.hpp"

namespace forebay::testing {
namespace {

constexpr std::uint64_t kMiB = 1 << 20;
constexpr std::uint64_t kBase = 0x7f00'0000'0000;

enum Tag : std::uint32_t { none, layer, kv, odd };

void add_names(Snapshot& s) {
  s.version = Snapshot::kVersion;
  s.program = "trainer \"A\"";
  s.pid = 4242;
  s.taken_at = "2024-05-06T23:59:59.500000Z";
  s.clock_seconds = 1000;
  s.reason = "asked";
  s.sample_interval_bytes = 512 << 10;
  s.grade = "full";
  s.devices = {{"host", "host", 64 << 10, 1 << 10}};
  s.sources = {"tensors", "slices", "track\xC3\xA9"};
  s.tags = {{"", "", Bytes{0}, 0, Bytes{0}, 0},
            {"decoder/layer3", "request 7", Bytes{5 * kMiB}, 2, Bytes{9 * kMiB}, 4},
            {"kv;cache", "", Bytes{3 * kMiB}, 3, Bytes{3 * kMiB}, 3},
            {"odd \"quote\"\nline\t\xff\xfe", "ow\\ner\x80", Bytes{4096}, 1, Bytes{4096}, 1}};
  s.modules = {{"/usr/bin/trainer", "0123abcd", 0x5555'5555'0000},
               {"/usr/lib/lib\"odd\".so", "", 0x7fff'0000'0000}};
  s.stacks = {{{1, 0x1234, "void forward<int>(int, char)"}, {1, 0x2345, "main"}},
              {{2, 0x77, ""}, {1, 0x2345, "main"}},
              {{0, 0xdead'beef, ""}}};
}

void add_pools(Snapshot& s) {
  s.budgets.resize(2);
  s.budgets[0].path = "process";
  s.budgets[0].charged = Bytes{40 * kMiB};
  s.budgets[1].path = "process/teacher";
  s.budgets[1].charged = Bytes{8 * kMiB};
  s.pools.resize(2);
  s.pools[0].name = "tensors";
  s.pools[0].upstream = "host";
  s.pools[0].stats.live = Bytes{22 * kMiB};
  s.pools[0].stats.reserved = Bytes{40 * kMiB};
  s.pools[1].name = "slices";
  s.pools[1].upstream = "tensors";
  s.pools[1].stats.live = Bytes{2 * kMiB};
  s.pools[1].stats.reserved = Bytes{16 * kMiB};
  s.segments = {{0, kBase, 32 * kMiB},
                {0, kBase + 64 * kMiB, 8 * kMiB},
                {1, kBase + 16 * kMiB, 16 * kMiB}};  // within a block of the other pool
}

SnapshotBlock block(std::uint64_t address, std::uint64_t bytes, std::uint32_t source,
                    std::uint32_t tag, std::uint32_t stack) {
  return {.address = address,
          .bytes = bytes,
          .pool = source,
          .tag = tag,
          .stack = stack,
          .age_seconds = 1,
          .weight_bytes = static_cast<double>(bytes),
          .weight_blocks = 1};
}

void add_blocks(Snapshot& s) {
  s.blocks = {block(kBase + 16 * kMiB, 16 * kMiB, 0, none, 0),  // what the other pool lives in
              block(kBase, 4 * kMiB, 0, layer, 1),
              block(kBase + 5 * kMiB, kMiB, 0, layer, 1),
              block(kBase + 6 * kMiB, kMiB, 0, kv, 2),
              block(kBase + 16 * kMiB, kMiB, 1, kv, 2),
              block(kBase + 18 * kMiB, kMiB, 1, kv, 3),
              block(0x5000'0000, 4096, 2, odd, 3)};
  s.blocks[6].weight_bytes = 524288.5;  // a sample
  s.blocks[6].weight_blocks = 128.25;
}

void add_events(Snapshot& s) {
  const auto event = [&](const char* kind, const char* subject, double at, std::uint64_t address,
                         std::uint64_t bytes, std::uint32_t tag) {
    s.events.push_back({kind, subject, tag == none ? 0 : tag + 1, 4243, at, address, bytes});
  };
  event("free", "tensors", 999.1, kBase + 9 * kMiB, kMiB, layer);       // taken before
  event("allocate", "tensors", 999.2, kBase + 10 * kMiB, kMiB, layer);  // its end was lost
  event("reserve", "process/teacher", 999.25, 0, 4 * kMiB, none);
  event("map", "tensors", 999.3, 0, 8 * kMiB, none);
  event("allocate", "tensors", 999.4, kBase + 12 * kMiB, 2 * kMiB, kv);
  event("mark", "step \"1\"\n", 999.45, 0, 0, none);
  event("free", "tensors", 999.5, kBase + 12 * kMiB, 2 * kMiB, kv);
  event("allocate", "tensors", 999.6, kBase, 4 * kMiB, layer);
  event("allocate", "slices", 999.7, kBase + 16 * kMiB, kMiB, kv);
  event("allocate", "track\xC3\xA9", 999.75, 0x6000'0000, 8192, none);  // of no pool
  event("deny", "process", 999.8, 0, 64 * kMiB, layer);
  event("free", "track\xC3\xA9", 999.85, 0x6000'0000, 8192, none);
  event("reclaim", "cache", 1000.2, 0, kMiB, none);
  event("allocate", "track\xC3\xA9", 1000.6, 0x5000'0000, 4096, odd);  // after midnight
}

}  // namespace

Snapshot sample_snapshot() {
  Snapshot s;
  add_names(s);
  add_pools(s);
  add_blocks(s);
  add_events(s);
  s.clock_seconds = 1000.0;
  return s;
}

Snapshot large_snapshot(std::size_t blocks) {
  Snapshot s;
  add_names(s);
  s.pools.resize(1);
  s.pools[0].name = "tensors";
  s.pools[0].upstream = "host";
  s.segments = {{0, kBase, blocks * 8192}};
  constexpr std::uint64_t kStacks = 300;
  s.stacks.clear();
  for (std::uint64_t i = 0; i < kStacks; ++i) s.stacks.push_back({{1, 0x1000 + i, ""}});
  s.blocks.reserve(blocks);
  s.events.reserve(blocks);
  for (std::size_t i = 0; i < blocks; ++i) {
    const std::uint64_t address = kBase + i * 8192;
    s.blocks.push_back(block(address, 4096, 0, static_cast<std::uint32_t>(i % 4),
                             static_cast<std::uint32_t>(i / 4 % kStacks + 1)));
    s.events.push_back({"allocate", "tensors", static_cast<std::uint32_t>(i % 4 + 1), 1,
                        900 + static_cast<double>(i) * 1e-6, address, 4096});
  }
  return s;
}

SampleTotals totals_of(const Snapshot& snapshot) {
  SampleTotals totals;
  for (const auto& segment : snapshot.segments) totals.segments_bytes += segment.bytes;
  for (const auto& b : snapshot.blocks) {
    totals.blocks_bytes += b.bytes;
    totals.weight_bytes += b.weight_bytes;
    totals.weight_blocks += b.weight_blocks;
  }
  return totals;
}

}  // namespace forebay::testing
