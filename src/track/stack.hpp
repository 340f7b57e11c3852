// Stacks: found quickly, kept once.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "forebay/tracker.hpp"

// Used by component forebay::telemetry, which may be a library of its own.
#pragma GCC visibility push(default)
namespace forebay::detail {

inline constexpr std::uint32_t kMostFrames = 48;

struct Stack {
  std::array<std::uintptr_t, kMostFrames> frames;  // return addresses, innermost first
  std::uint32_t depth = 0;
};

// Ascertains where the calling thread's stack ends, for the walks to come. May take locks and
// allocate: called once a thread, off the hot path. A walk on a thread that never did finds
// frames by its own bounds or none.
void know_this_threads_stack() noexcept;

// The stack of the calling thread, without the frames of functions that `frame` (of
// __builtin_frame_address(0)) called: it begins with the caller of the function whose frame that
// is. Null: with the caller of capture(). Takes no lock, allocates nothing, calls nothing of the
// dynamic loader that does; may be called from a handler of signals. Reads nothing outside the
// thread's stack, whatever is on it.
void capture(Stack& stack, StackMethod method, const void* frame) noexcept;

// The number of a stack: the same frames have the same number; 0 if there is no room left.
// Lock-free; takes memory that was reserved before. Safe in a handler of signals.
StackId intern(const Stack& stack) noexcept;
// Both. Null: with the caller of capture_and_intern().
StackId capture_and_intern(StackMethod method, const void* frame) noexcept;
// Valid for good.
std::span<const std::uintptr_t> frames_of(StackId id) noexcept;
// Stacks are numbered from 1 to this.
StackId stacks_used() noexcept;
std::size_t stack_bytes() noexcept;       // memory taken
std::uint64_t stacks_refused() noexcept;  // interns that found no room

// Names an address of this process: by the loaded objects and the symbol tables of their files.
// For return addresses pass address - 1. Slow; allocates.
Frame symbolize(std::uintptr_t address);

}  // namespace forebay::detail
#pragma GCC visibility pop
