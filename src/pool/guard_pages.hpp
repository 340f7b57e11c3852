// Guard pages: some large blocks end at a page that faults when touched, and the fault says
// which block it was.
#pragma once

#include <cstdint>

#include "pool/size_class.hpp"

namespace forebay::detail {

inline constexpr std::uint64_t kGuard = kPage;  // bytes behind a guarded block

// From now on a fault in a guard page prints a line that names pool and block, before whoever
// handled faults until now (the system, if nobody) does what it did. Once for the process.
void report_faults() noexcept;

}  // namespace forebay::detail
