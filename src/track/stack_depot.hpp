// StackDepot: each stack once, by number, in memory of a fixed size.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "track/stack.hpp"

namespace forebay::detail {

// Invariants:
//   1. Two records that a slot leads to differ in their frames.
//   2. Numbers 1 to used() each belong to one record that a slot leads to, and say so.
//   3. Records never change but for their number, which is given once.
//
// Thread safety: thread-safe and lock-free; usable in handlers of signals.
class StackDepot {
 public:
  struct Size {
    std::uint32_t slots = 0;   // a power of two; twice the stacks, so that they are found soon
    std::uint32_t stacks = 0;  // at most; fewer if the words do not suffice
    std::uint32_t words = 0;   // for frames, and one a stack
  };
  static constexpr std::size_t bytes(const Size& size) noexcept {
    return std::size_t{size.slots} * 8 + (std::size_t{size.stacks} + 2) / 2 * 8 +
           std::size_t{size.words} * 8;
  }

  // REQUIRES: `memory` has bytes(size) of zeros, aligned to 8, that outlive this.
  StackDepot(void* memory, const Size& size) noexcept;
  StackDepot(const StackDepot&) = delete;
  StackDepot& operator=(const StackDepot&) = delete;

  // 0: no frames, or no room. A stack that is known is found when there is no more room too.
  StackId intern(std::span<const std::uintptr_t> frames) noexcept;
  std::span<const std::uintptr_t> frames_of(StackId id) const noexcept;
  StackId used() const noexcept { return used_.load(std::memory_order_acquire); }
  std::uint64_t refused() const noexcept { return refused_.load(std::memory_order_relaxed); }
  std::size_t bytes_used() const noexcept;

 private:
  using Word = std::atomic<std::uint64_t>;
  using Offset = std::uint32_t;  // of a record, in words; 0: none

  // Looked at first, so that few stacks touch few pages of the table.
  static constexpr std::uint32_t kNearbyProbes = 8;
  std::uint32_t nearby_slots() const noexcept {
    constexpr std::uint32_t kNearby = 4096;
    return size_.slots < kNearby ? size_.slots : kNearby;
  }
  StackId refuse() noexcept;
  bool holds(Offset record, std::span<const std::uintptr_t> frames) const noexcept;
  Offset new_record(std::span<const std::uintptr_t> frames) noexcept;
  StackId number_of(Offset record) noexcept;
  StackId give_number(Offset record) noexcept;
  std::uint64_t head(Offset record) const noexcept {
    return records_[record].load(std::memory_order_acquire);
  }
  void set_number(Offset record, StackId id) noexcept;
  void say_used(StackId id) noexcept;

  const Size size_;
  Word* const slots_;                         // 32 bits of the hash, record
  std::atomic<Offset>* const records_by_id_;  // [1, stacks]
  Word* const records_;                       // depth and number; frames
  std::atomic<std::uint32_t> words_used_{1};
  std::atomic<StackId> used_{0};
  std::atomic<std::uint64_t> refused_{0};
};

// Reserves the process's depot, if it was not.
void prepare_depot() noexcept;

}  // namespace forebay::detail
