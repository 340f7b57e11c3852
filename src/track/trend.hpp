// Trend: whether twelve floors of a series rise, how fast, and how surely.
#pragma once

#include <array>
#include <cstddef>
#include <span>

namespace forebay::detail {

inline constexpr std::size_t kFloors = 12;

// Minima of twelve equal parts of a window, oldest first.
using Floors = std::array<double, kFloors>;

// REQUIRES: at least kFloors values.
Floors floors_of(std::span<const double> values) noexcept;

// The median of the slopes of all pairs, in units a floor (Theil 1950; Sen 1968): up to 29 % of
// the floors may be anything.
double sen_slope(const Floors& floors) noexcept;

// The chance that floors in a random order rise as much as these or more: Kendall's test (Mann
// 1945), exact, with ties as they are. (Permutations of a multiset by their inversions: the
// Gaussian multinomial coefficients.) At best 1 / 12! = 2e-9; 5 levels in order can give 6e-7.
double kendall_p_value(const Floors& floors);

// What a step of the series is worth: the mean of its moves, weighed by themselves. The size of a
// block or sample where these come one at a time.
double typical_move(std::span<const double> values) noexcept;

// A bound for the chance that moves of these sizes, each up or down with the same chance, come
// as far up as these did (Hoeffding 1963).
double walk_p_value(std::span<const double> values) noexcept;

}  // namespace forebay::detail
