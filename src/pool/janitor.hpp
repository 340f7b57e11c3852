// The thread that gives idle memory of pools back by age: one for the process, there as long
// as a pool wants it.
#pragma once

#include "forebay/clock.hpp"

namespace forebay::detail {

class PoolCore;

// Calls core->tick() about every `interval` until stop_cleaning(). Throws std::system_error if
// the process can have no more threads.
void start_cleaning(PoolCore* core, Duration interval);
// On return the pool is not being cleaned, and will not be.
void stop_cleaning(PoolCore* core) noexcept;

// Around a fork. The child has no such thread until it makes a pool.
void hold_cleaning() noexcept;
void release_cleaning(bool in_child) noexcept;

}  // namespace forebay::detail
