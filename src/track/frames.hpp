// What the two ways to walk a stack share.
#pragma once

#include <cstdint>
#include <span>

#include "track/stack.hpp"

// A walk reads words of frames that are others', which the sanitizers would take for an error.
#define FOREBAY_READS_STACKS __attribute__((no_sanitize("address", "thread", "undefined")))

namespace forebay::detail {

// Addresses that may be read: from the stack pointer to the end of the stack that it is on.
struct StackBounds {
  std::uintptr_t low = 0;
  std::uintptr_t high = 0;
  bool contains(std::uintptr_t address) const noexcept { return address >= low && address < high; }
};

// Of the calling thread, if it said; else empty. Not of a stack for signals or of a fiber.
StackBounds this_threads_stack() noexcept;

// What of a function's registers its caller is found by.
struct Registers {
  std::uintptr_t pc = 0;  // a return address: the place is that before it
  std::uintptr_t sp = 0;
  std::uintptr_t fp = 0;
};

class FrameList {
 public:
  // Some may be there.
  explicit FrameList(Stack& stack, std::uint32_t depth = 0) noexcept
      : first_(stack.frames.data()), next_(first_ + depth) {}
  bool full() const noexcept { return next_ == first_ + kMostFrames; }
  void add(std::uintptr_t pc) noexcept { *next_++ = pc; }
  std::uint32_t depth() const noexcept { return static_cast<std::uint32_t>(next_ - first_); }
  std::span<const std::uintptr_t> frames() const noexcept { return {first_, depth()}; }

 private:
  std::uintptr_t* first_;
  std::uintptr_t* next_;
};

// Neither the first page nor the kernel's half: what else cannot be code is not looked at.
constexpr bool may_be_code(std::uintptr_t pc) noexcept {
  constexpr std::uintptr_t kFirst = 4096;
  constexpr std::uintptr_t kEnd = 1ULL << 47;
  return pc - kFirst < kEnd - kFirst;
}

[[gnu::always_inline]] FOREBAY_READS_STACKS inline std::uintptr_t word_at(
    std::uintptr_t address) noexcept {
  // NOLINTNEXTLINE(performance-no-int-to-ptr): frames are found as numbers
  return *reinterpret_cast<const volatile std::uintptr_t*>(address);
}

}  // namespace forebay::detail
