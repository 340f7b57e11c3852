// HitRing: the entries of one shard that one thread has hit, in order, until somebody tells the
// shard's policy.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "cache/policy.hpp"

namespace forebay::detail {

// Thread safety: one thread pushes; whoever holds the shard's lock drains.
class HitRing {
 public:
  // Enough that a thread which only hits takes the lock for one hit in 64.
  static constexpr std::uint32_t kSize = 64;

  // False if it is full.
  bool push(EntryId id) noexcept {
    const std::uint32_t tail = tail_.load(std::memory_order_relaxed);
    if (tail - head_.load(std::memory_order_acquire) == kSize) return false;
    ids_[tail % kSize].store(id, std::memory_order_relaxed);
    tail_.store(tail + 1, std::memory_order_release);
    return true;
  }
  template <typename Visit>
  void drain(Visit visit) noexcept {
    const std::uint32_t tail = tail_.load(std::memory_order_acquire);
    std::uint32_t head = head_.load(std::memory_order_relaxed);
    if (head == tail) return;
    for (; head != tail; ++head) visit(ids_[head % kSize].load(std::memory_order_relaxed));
    head_.store(head, std::memory_order_release);
  }

 private:
  alignas(64) std::atomic<std::uint32_t> tail_{0};
  std::atomic<std::uint32_t> head_{0};
  std::array<std::atomic<EntryId>, kSize> ids_{};
};

}  // namespace forebay::detail
