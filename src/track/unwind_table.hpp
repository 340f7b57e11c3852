// Walks a stack by unwind tables, with the rule of each place in the code kept after its first use.
#pragma once

#include <cstdint>

#include "track/cfi.hpp"
#include "track/frames.hpp"

namespace forebay::detail {

// Whether there is such an unwinder here: x86-64, a C library that finds objects without locks
// (glibc 2.35), a system that lets a process ask for its own memory.
bool has_unwind_tables() noexcept;

// Goes on from `at`, whose pc is already in the list, to the outermost frame. Whether it came
// there or the list is full; `at` is the frame where it ended.
bool walk_unwind_tables(Registers& at, StackBounds bounds, FrameList& frames) noexcept;

// The rule that a walk uses for a return address: from the cache, or found and put there.
UnwindRule rule_at(std::uintptr_t return_address) noexcept;

// Changes when rules are forgotten.
std::uint32_t unwind_generation() noexcept;

// Forgets the rules of objects that may have been unloaded. Walks notice by themselves when they
// come to an object where another was; this is for a time when one may take the loader's lock
// anyhow. Not for a handler of signals.
void notice_unloaded_objects() noexcept;

}  // namespace forebay::detail
