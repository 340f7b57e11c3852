// A view with something in every table, for tests.
#pragma once

#include <gtest/gtest.h>

#include "telemetry/published_view.hpp"

namespace forebay::testing {

inline detail::PublishedView some_view() {
  using namespace literals;
  detail::PublishedView view;
  view.pid = 4711;
  view.program = "trainer";
  view.updates = 12;
  view.taken = std::chrono::seconds{1'700'000'000};
  view.interval = std::chrono::milliseconds{200};
  view.publisher_cpu = std::chrono::microseconds{300};
  view.publisher_since = std::chrono::seconds{60};
  view.line = 1_GiB;
  view.used = 900_MiB;
  view.resident = 950_MiB;
  view.pressure = Pressure::high;
  view.budgets = {{.path = "process",
                   .limit = 1_GiB,
                   .guarantee = {},
                   .used = 880_MiB,
                   .charged = 900_MiB,
                   .peak = 1000_MiB,
                   .available = 124_MiB,
                   .denials = 3,
                   .warnings = 2,
                   .pressure = Pressure::high,
                   .shrinking = false},
                  {.path = "process/teacher",
                   .limit = 512_MiB,
                   .guarantee = 64_MiB,
                   .used = 300_MiB,
                   .charged = 300_MiB,
                   .peak = 400_MiB,
                   .available = 212_MiB,
                   .denials = 0,
                   .warnings = 0,
                   .pressure = Pressure::normal,
                   .shrinking = true}};
  view.pools = {{.name = "activations",
                 .live = 200_MiB,
                 .idle = 56_MiB,
                 .reserved = 256_MiB,
                 .largest_free = 14_MiB,
                 .live_blocks = 1234,
                 .refused = 1,
                 .fragmentation = 0.75,
                 .hit_rate = 0.98}};
  view.tags = {{.tag = "decoder/layer3",
                .owner = "tenant-a",
                .live = 150_MiB,
                .live_blocks = 600,
                .allocated = 9_GiB,
                .allocations = 99'000},
               {.tag = "",
                .owner = "",
                .live = 50_MiB,
                .live_blocks = 634,
                .allocated = 1_GiB,
                .allocations = 5000}};
  view.groups = {{"cache",
                  "prefix",
                  {{"used_bytes", 1048576.0},
                   {"limit_bytes", 2097152.0},
                   {"hits_total", 75},
                   {"misses_total", 25}}},
                 {"kv", "kv0", {{"pages_used", 10}, {"used_bytes", 4096}}}};
  view.events = {{.kind = EventKind::map,
                  .thread = 7,
                  .age = std::chrono::seconds{2},
                  .bytes = 2_MiB,
                  .subject = "activations",
                  .tag = "decoder/layer3"},
                 {.kind = EventKind::deny,
                  .thread = 8,
                  .age = std::chrono::milliseconds{5},
                  .bytes = 64_MiB,
                  .subject = "process",
                  .tag = ""}};
  return view;
}

}  // namespace forebay::testing
