// What the tests of stacks look at.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include "track/stack.hpp"

namespace forebay::testing {

inline std::span<const std::uintptr_t> frames(const detail::Stack& stack) {
  return {stack.frames.data(), stack.depth};
}

// How often the frame that is there most often is: the depth of the recursion.
inline std::uint32_t most_repeated(const detail::Stack& stack) {
  std::uint32_t most = 0;
  for (const std::uintptr_t frame : frames(stack)) {
    const auto count = std::ranges::count(frames(stack), frame);
    most = std::max(most, static_cast<std::uint32_t>(count));
  }
  return most;
}

// One capture, to be made by an innermost function.
struct Capture {
  StackMethod method = StackMethod::automatic;
  const void* frame = nullptr;
  detail::Stack stack{};

  static void make(void* capture) {
    auto& the = *static_cast<Capture*>(capture);
    detail::capture(the.stack, the.method, the.frame);
  }
};

}  // namespace forebay::testing
