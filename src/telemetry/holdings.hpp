// Holdings: the live blocks of a snapshot, added up by who holds them and from where.
#pragma once

#include <cstdint>
#include <vector>

#include "forebay/telemetry.hpp"

namespace forebay::detail {

struct Holding {
  std::uint32_t stack = 0;   // as in SnapshotBlock
  std::uint32_t tag = 0;     // likewise
  std::uint32_t source = 0;  // SnapshotBlock::pool
  double bytes = 0;          // that the blocks stand for
  double blocks = 0;
};

// Most bytes first; then by indices. Blocks that stand for nothing are left out.
std::vector<Holding> holdings_of(const Snapshot& snapshot);

// Rounds terms so that they add up to the rounded sum: what one loses, the next one gets.
class Rounding {
 public:
  std::int64_t next(double value);

 private:
  double error_ = 0;
};

}  // namespace forebay::detail
