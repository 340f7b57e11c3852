// Compiled several times: FOREBAY_RECURSE is the function's name. Without frame pointers, the
// register is used for something else, as compilers do.
#include "track/recursion.hpp"

#ifdef FOREBAY_WITHOUT_FRAMES
#define FOREBAY_SPOIL_FRAME_POINTER asm volatile("mov $8, %%ebp" : : : "rbp")
#else
#define FOREBAY_SPOIL_FRAME_POINTER asm volatile("")
#endif

namespace forebay::testing {

[[gnu::noinline]] int FOREBAY_RECURSE(int depth, Innermost innermost, void* context) {
  int count = depth;
  FOREBAY_SPOIL_FRAME_POINTER;
  if (depth == 0) {
    innermost(context);
  } else {
    count = FOREBAY_RECURSE(depth - 1, innermost, context);
  }
  asm volatile("" : "+r"(count));  // so that no call is the last thing done
  return count + 1;
}

}  // namespace forebay::testing
