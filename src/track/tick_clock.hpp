// Ticks: the cheapest clock there is, for stamps that are turned into time when they are read.
#pragma once

#include <atomic>
#include <cstdint>

#include "forebay/clock.hpp"

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

namespace forebay::detail {

// By Clock::steady(). Safe in a handler of signals.
std::uint64_t steady_nanoseconds() noexcept;

// Whether a tick is one of the processor's time stamp counter, which then runs evenly and alike on
// all cores; else it is a nanosecond of the system's clock.
extern constinit std::atomic<bool> g_ticks_are_counter;
// Decides it. Reads files: call it once, before the first stamp.
void choose_tick_clock() noexcept;

inline std::uint64_t read_ticks() noexcept {
#if defined(__x86_64__)
  if (g_ticks_are_counter.load(std::memory_order_relaxed)) [[likely]] {
    return __rdtsc();
  }
#endif
  return steady_nanoseconds();
}

// The same moment by both clocks, to about 50 ns.
struct TickAnchor {
  std::uint64_t ticks = 0;
  std::uint64_t nanoseconds = 0;
};
TickAnchor take_anchor() noexcept;

// Ticks as time: on the straight line through two anchors, so that what lies between them is as
// exact as they are, however long ago they were taken.
class TickScale {
 public:
  TickScale(const TickAnchor& first, const TickAnchor& second) noexcept;
  Duration at(std::uint64_t ticks) const noexcept;

 private:
  TickAnchor first_;
  double nanoseconds_per_tick_ = 1;
};

}  // namespace forebay::detail
