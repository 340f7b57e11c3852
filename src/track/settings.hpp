// Settings of the tracker, as the paths that record read them.
#pragma once

#include <cstdint>

#include "forebay/tracker.hpp"

namespace forebay::detail {

std::uint64_t sample_interval() noexcept;  // bytes, below 4 GiB
StackMethod stack_method() noexcept;
// By the tracker's clock, in units of 10 ms; as the machine's own it is read to its last tick.
std::uint32_t coarse_now() noexcept;
Duration tracker_now() noexcept;
// The latest time, by that clock, of which coarse_now() said this.
Duration time_of(std::uint32_t coarse) noexcept;
inline constexpr Duration kCoarse = std::chrono::milliseconds{10};

std::uint32_t marks_set() noexcept;
std::uint32_t set_mark() noexcept;  // its number
// Whether every block was recorded from that mark on.
bool full_since(std::uint64_t mark) noexcept;

// Somebody (a scope that looks for leaks) wants every block recorded, whatever the grade.
void want_records(bool more) noexcept;
// The timeline records blocks' events, or no more.
void want_events(bool wanted) noexcept;

}  // namespace forebay::detail
