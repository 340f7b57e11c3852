// Walks that were made before: a program takes memory at the same places again and again, and its
// stack is then word for word the same.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <span>

#include "track/frames.hpp"

namespace forebay::detail {

// A walk from one frame to the outermost, with the words of the stack that it went by: return
// addresses, and those frame pointers that a rule built on. A walk that begins at the same place
// of the code with the same stack pointer, and for which each of those words is what it was, would
// find the same frames by the same rules: it need not be made.
//
// Thread safety: thread-safe and lock-free; usable in handlers of signals. Who comes while another
// one writes finds nothing, or keeps nothing.
class KnownWalk {
 public:
  // What it was kept with, if it is the walk from `at`; else 0.
  StackId id_of(const Registers& at, StackBounds bounds) const noexcept;
  // Appends the frames beyond `at`, if it is the walk from there.
  bool add_frames(const Registers& at, StackBounds bounds, FrameList& frames) const noexcept;
  // Becomes the walk from `at`, which found `frames`, the first of them that of `at` itself. Stays
  // as it was if the walk went by too many words, or by rules of rare kinds.
  void become(const Registers& at, StackBounds bounds, std::span<const std::uintptr_t> frames,
              StackId id) noexcept;

 private:
  static constexpr std::uint32_t kMostWords = 78;
  struct Word {
    std::uintptr_t place = 0;  // in words above the pair that `at` was found by
    std::uintptr_t value = 0;
    bool is_frame = false;
  };
  class Words;
  bool is_from(const Registers& at, StackBounds bounds) const noexcept;
  bool has_same_words(const Registers& at, StackBounds bounds) const noexcept;

  // Odd while the rest changes. What is stored after it is released, and what is loaded before it
  // is looked at again is acquired.
  std::atomic<std::uint32_t> version_{0};
  std::atomic<std::uint32_t> generation_{0};
  std::atomic<std::uint32_t> count_{0};
  std::atomic<StackId> id_{0};
  std::atomic<std::uintptr_t> pc_{0};
  std::atomic<std::uintptr_t> sp_{0};
  std::atomic<std::uintptr_t> high_{0};
  std::array<std::atomic<std::uint64_t>, 2> frames_{};  // a bit a word: whether it is a frame
  std::array<std::atomic<std::uint32_t>, kMostWords> places_{};
  std::array<std::atomic<std::uintptr_t>, kMostWords> values_{};
};

// Those of the process, the latest of each place; 130 KiB, taken as they are used.
class KnownWalks {
 public:
  StackId id_of(const Registers& at, StackBounds bounds) const noexcept;
  bool add_frames(const Registers& at, StackBounds bounds, FrameList& frames) const noexcept;
  // With `id` 0: for its frames only. Else once it comes twice in a row, so that a program that
  // never takes the same way twice does not pay for each.
  void keep(const Registers& at, StackBounds bounds, std::span<const std::uintptr_t> frames,
            StackId id) noexcept;

 private:
  // Two, for places that are come to in two ways.
  struct Set {
    std::array<KnownWalk, 2> walks;
    std::atomic<StackId> latest{0};
    std::atomic<std::uint32_t> turn{0};
  };
  static std::size_t place_of(const Registers& at) noexcept;

  std::array<Set, 64> sets_;
};

}  // namespace forebay::detail
