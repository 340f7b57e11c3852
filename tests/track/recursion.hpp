// Functions of known depth, compiled with and without frame pointers.
#pragma once

#include <cstdint>

namespace forebay::testing {

using Innermost = void (*)(void* context);

// Calls itself `depth` times, then innermost(context).
int recurse_with_frames(int depth, Innermost innermost, void* context);
int recurse_without_frames(int depth, Innermost innermost, void* context);

}  // namespace forebay::testing
