// Snapshots made by hand, and their comparison.
#pragma once

#include <cstdint>
#include <string>
#include <tuple>

#include "forebay/telemetry.hpp"

namespace forebay {

// Structured bindings name all members: one that is added later does not compile until it is
// compared too.
inline auto members(const SnapshotModule& value) {
  const auto& [a, b, c] = value;
  return std::tie(a, b, c);
}
inline auto members(const SnapshotFrame& value) {
  const auto& [a, b, c] = value;
  return std::tie(a, b, c);
}
inline auto members(const SnapshotBlock& value) {
  const auto& [a, b, c, d, e, f, g, h] = value;
  return std::tie(a, b, c, d, e, f, g, h);
}
inline auto members(const SnapshotSegment& value) {
  const auto& [a, b, c] = value;
  return std::tie(a, b, c);
}
inline auto members(const SnapshotEvent& value) {
  const auto& [a, b, c, d, e, f, g] = value;
  return std::tie(a, b, c, d, e, f, g);
}
inline auto members(const SnapshotDevice& value) {
  const auto& [a, b, c, d] = value;
  return std::tie(a, b, c, d);
}
inline auto members(const Statistic& value) {
  const auto& [a, b] = value;
  return std::tie(a, b);
}
inline auto members(const StatisticsGroup& value) {
  const auto& [a, b, c] = value;
  return std::tie(a, b, c);
}
inline auto members(const TagStats& value) {
  const auto& [a, b, c, d, e, f] = value;
  return std::tie(a, b, c, d, e, f);
}
inline auto members(const BudgetStats& value) {
  const auto& [a, b, c, d, e, f, g, h, i, j, k] = value;
  return std::tie(a, b, c, d, e, f, g, h, i, j, k);
}
inline auto members(const PoolStats& value) {
  const auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, n] = value;
  return std::tie(a, b, c, d, e, f, g, h, i, j, k, l, m, n);
}
inline auto members(const SnapshotPool& value) {
  const auto& [a, b, c] = value;
  return std::tie(a, b, c);
}
inline auto members(const Snapshot& value) {
  const auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u] = value;
  return std::tie(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u);
}

template <typename T>
concept HasMembers = requires(const T& value) {
  members(value);
};
template <HasMembers T>
bool operator==(const T& a, const T& b) {
  return members(a) == members(b);
}

}  // namespace forebay

namespace forebay::testing {

// A small snapshot of everything, by hand; the numbers are told in the tests that read it.
Snapshot small_snapshot();
// `blocks` live blocks in `stacks` stacks of 20 frames, each with names, as a program has them.
Snapshot large_snapshot(std::size_t blocks, std::size_t stacks);

}  // namespace forebay::testing
