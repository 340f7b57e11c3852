// A snapshot made by hand: two pools, one upon the other, a tracked resource, odd names, and a
// timeline of which parts are missing.
#pragma once

#include "forebay/telemetry.hpp"

namespace forebay::testing {

// The sums that tests compare with.
struct SampleTotals {
  std::uint64_t segments_bytes = 0;  // of the pools' segments
  std::uint64_t blocks_bytes = 0;    // of all blocks
  double weight_bytes = 0;
  double weight_blocks = 0;
};

Snapshot sample_snapshot();
// `blocks` blocks in one pool, with as many events.
Snapshot large_snapshot(std::size_t blocks);
SampleTotals totals_of(const Snapshot& snapshot);

}  // namespace forebay::testing
