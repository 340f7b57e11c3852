// Leaks: live blocks, grouped.
#pragma once

#include "forebay/tracker.hpp"

namespace forebay::detail {

// Blocks that were taken after mark `after` (0: all), grouped by tag, owner, source and stack.
// `now` is the tracker's; `exact`: every block since then was recorded.
LeakReport group_leaks(const LiveTable& table, std::uint64_t after, Duration now,
                       const Suppressions& suppressions, bool exact);

}  // namespace forebay::detail
