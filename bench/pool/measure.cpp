#include "pool/measure.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <stdexcept>

namespace forebay::bench {

double Samples::median() const {
  auto sorted = values_;
  std::sort(sorted.begin(), sorted.end());
  const std::size_t middle = sorted.size() / 2;
  return sorted.size() % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}
double Samples::least() const { return *std::min_element(values_.begin(), values_.end()); }
double Samples::most() const { return *std::max_element(values_.begin(), values_.end()); }

double nanoseconds_per_tick() {
  static const double rate = [] {
    constexpr double kLongEnough = 2e7;
    const double start = wall_ns();
    const std::uint64_t ticks = ticks_before();
    while (wall_ns() - start < kLongEnough) {
    }
    return (wall_ns() - start) / static_cast<double>(ticks_after() - ticks);
  }();
  return rate;
}

std::uint64_t ticks_of_nothing() {
  std::array<std::uint64_t, 1001> took{};
  for (auto& ticks : took) {
    const std::uint64_t start = ticks_before();
    ticks = ticks_after() - start;
  }
  std::nth_element(took.begin(), took.begin() + took.size() / 2, took.end());
  return took[took.size() / 2];
}

double resident_bytes() {
  static const int file = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
  std::array<char, 128> text{};
  if (pread(file, text.data(), text.size() - 1, 0) <= 0) {
    throw std::runtime_error{"/proc/self/statm cannot be read"};
  }
  char* at = text.data();
  std::strtoull(at, &at, 10);  // the first number is the address space
  return static_cast<double>(std::strtoull(at, &at, 10)) * static_cast<double>(getpagesize());
}

}  // namespace forebay::bench
