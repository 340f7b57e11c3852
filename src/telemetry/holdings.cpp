#include "telemetry/holdings.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <tuple>

namespace forebay::detail {
namespace {

constexpr double kMost = 9e18;  // below 2^63

bool counts(double weight) { return weight > 0 && weight < kMost; }

}  // namespace

std::vector<Holding> holdings_of(const Snapshot& snapshot) {
  std::map<std::tuple<std::uint32_t, std::uint32_t, std::uint32_t>, Holding> sums;
  for (const SnapshotBlock& block : snapshot.blocks) {
    if (!counts(block.weight_bytes) && !counts(block.weight_blocks)) continue;
    Holding& sum = sums[{block.stack, block.tag, block.pool}];
    sum.stack = block.stack;
    sum.tag = block.tag;
    sum.source = block.pool;
    if (counts(block.weight_bytes)) sum.bytes += block.weight_bytes;
    if (counts(block.weight_blocks)) sum.blocks += block.weight_blocks;
  }
  std::vector<Holding> holdings;
  holdings.reserve(sums.size());
  for (const auto& [key, holding] : sums) holdings.push_back(holding);
  std::ranges::stable_sort(holdings, std::ranges::greater{}, &Holding::bytes);
  return holdings;
}

std::int64_t Rounding::next(double value) {
  const double wanted = std::min(value, kMost) + error_;
  const double rounded = std::max(0.0, std::round(wanted));
  error_ = wanted - rounded;
  return static_cast<std::int64_t>(rounded);
}

}  // namespace forebay::detail
