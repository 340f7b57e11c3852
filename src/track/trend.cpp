#include "track/trend.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

namespace forebay::detail {
namespace {

using Polynomial = std::vector<double>;

// times (1 + q + ... + q^(terms - 1))
Polynomial times_run(const Polynomial& a, std::size_t terms) {
  Polynomial product(a.size() + terms - 1);
  for (std::size_t i = 0; i < a.size(); ++i) {
    for (std::size_t j = 0; j < terms; ++j) product[i + j] += a[i];
  }
  return product;
}

// The same, divided; exact, since it is a factor.
Polynomial over_run(Polynomial a, std::size_t terms) {
  const std::size_t size = a.size() - (terms - 1);
  for (std::size_t i = 0; i < size; ++i) {
    for (std::size_t j = 1; j < terms && i + j < a.size(); ++j) a[i + j] -= a[i];
  }
  a.resize(size);
  return a;
}

// How many orders of floors with these ties have 0, 1, 2, ... inversions. All counts are below
// 2^53, so that doubles are exact.
Polynomial orders_by_inversions(Floors floors) {
  Polynomial orders{1};
  for (std::size_t n = 2; n <= kFloors; ++n) orders = times_run(orders, n);
  std::sort(floors.begin(), floors.end());
  for (std::size_t i = 0; i < kFloors;) {
    const auto after = std::upper_bound(floors.begin(), floors.end(), floors[i]);
    const auto next = static_cast<std::size_t>(after - floors.begin());
    for (std::size_t n = 2; n <= next - i; ++n) orders = over_run(std::move(orders), n);
    i = next;
  }
  return orders;
}

}  // namespace

Floors floors_of(std::span<const double> values) noexcept {
  Floors floors{};
  for (std::size_t i = 0; i < kFloors; ++i) {
    const auto from = static_cast<std::ptrdiff_t>(i * values.size() / kFloors);
    const auto to = static_cast<std::ptrdiff_t>((i + 1) * values.size() / kFloors);
    floors[i] = *std::min_element(values.begin() + from, values.begin() + to);
  }
  return floors;
}

double sen_slope(const Floors& floors) noexcept {
  std::array<double, kFloors*(kFloors - 1) / 2> slopes{};
  std::size_t n = 0;
  for (std::size_t i = 0; i < kFloors; ++i) {
    for (std::size_t j = i + 1; j < kFloors; ++j) {
      slopes[n++] = (floors[j] - floors[i]) / static_cast<double>(j - i);
    }
  }
  const auto middle = slopes.begin() + slopes.size() / 2;
  std::nth_element(slopes.begin(), middle, slopes.end());
  return (*middle + *std::max_element(slopes.begin(), middle)) / 2;
}

double kendall_p_value(const Floors& floors) {
  std::size_t inversions = 0;
  for (std::size_t i = 0; i < kFloors; ++i) {
    for (std::size_t j = i + 1; j < kFloors; ++j) inversions += floors[i] > floors[j] ? 1 : 0;
  }
  const Polynomial orders = orders_by_inversions(floors);
  const auto upto = orders.begin() + static_cast<std::ptrdiff_t>(inversions) + 1;
  return std::accumulate(orders.begin(), upto, 0.0) /
         std::accumulate(orders.begin(), orders.end(), 0.0);
}

double typical_move(std::span<const double> values) noexcept {
  double sum = 0;
  double squares = 0;
  double before = 0;
  for (std::size_t i = 1; i < values.size(); ++i) {
    const double move = values[i] - values[i - 1];
    sum += std::abs(move);
    squares += (move - before) * (move - before) / 2;
    before = move;
  }
  return sum == 0 ? 0 : squares / sum;
}

double walk_p_value(std::span<const double> values) noexcept {
  double squares = 0;
  for (std::size_t i = 1; i < values.size(); ++i) {
    squares += (values[i] - values[i - 1]) * (values[i] - values[i - 1]);
  }
  const double way = values.back() - values.front();
  return way <= 0 ? 1 : std::exp(-way * way / (2 * squares));
}

}  // namespace forebay::detail
