// Leak reports: live blocks by who took them and where.
#pragma once

#include <cstdint>
#include <string>

#include "forebay/tracker.hpp"

// Used by component forebay::telemetry, which may be a library of its own.
#pragma GCC visibility push(default)
namespace forebay::detail {

// Blocks of `live` that were taken after `after_mark` marks, by tag, owner, source and stack; most
// bytes first. Blocks of which no more than a tag is known are left out: they have no mark.
// `now`: by the clock of LiveBlock::born. `exact`: the grade was full since the mark.
LeakReport group_leaks(const LiveTable& live, std::uint64_t after_mark, Duration now,
                       const Suppressions& suppressions, bool exact);

// "3.5 MiB": an amount that may be an estimate.
std::string amount_of(double bytes);
// "cache::insert (libserver.so+0x1234)", the innermost `most` frames a line each, indented. Empty
// if the stack is not known.
std::string frames_to_text(StackId stack, std::size_t most);
// The innermost function that is not of this library or the standard one, as far as they have
// names; else the innermost that has one.
std::string place_of(StackId stack);

}  // namespace forebay::detail
#pragma GCC visibility pop
