// BiasedLock: a lock that costs its owner, one thread, no atomic operation.
//
// The owner writes that it is inside and looks whether it has been shut out; others write
// that it is and look whether it is inside. On both sides the write must come before the
// look. The owner pays nothing for that: whoever shuts it out makes every thread of the
// process pass a full fence (membarrier; where the kernel has none, and where
// ThreadSanitizer watches, the owner fences for itself).
// (Dice, Huang, Yang, "Asymmetric Dekker Synchronization", 2001.)
#pragma once

#include <atomic>
#include <cstdint>

namespace forebay::detail {

#if defined(__SANITIZE_THREAD__)
inline constexpr bool kMayFenceForOthers = false;
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
inline constexpr bool kMayFenceForOthers = false;
#else
inline constexpr bool kMayFenceForOthers = true;
#endif
#else
inline constexpr bool kMayFenceForOthers = true;
#endif

// Whether fence_all_threads() fences them. Settled before the first pool is made.
extern bool g_fences_for_others;
void prepare_fences() noexcept;
// Every running thread of the process passes a full fence before this returns.
void fence_all_threads() noexcept;

class BiasedLock {
 public:
  // Owner: whether it is inside now. If not, it must take the others' way. The sections inside
  // are short and call nothing that waits.
  bool enter() noexcept {
    if (kMayFenceForOthers && g_fences_for_others) [[likely]] {
      inside_.store(1, std::memory_order_relaxed);
      std::atomic_signal_fence(std::memory_order_seq_cst);
    } else {
      inside_.exchange(1, std::memory_order_seq_cst);
    }
    if (shut_out_.load(std::memory_order_seq_cst) == 0) [[likely]] {
      return true;
    }
    leave();
    return false;
  }
  void leave() noexcept { inside_.store(0, std::memory_order_release); }

  // Others, one at a time: between these the owner is not inside. Several locks may be shut with
  // one fence: shut() each, fence_all_threads(), wait_until_out() for each.
  void shut() noexcept { shut_out_.store(1, std::memory_order_seq_cst); }
  void wait_until_out() const noexcept;
  void open() noexcept { shut_out_.store(0, std::memory_order_release); }
  // In the child of a fork: the owner is no more, wherever it was.
  void forget_owner() noexcept { inside_.store(0, std::memory_order_relaxed); }

 private:
  std::atomic<std::uint32_t> inside_{0};
  std::atomic<std::uint32_t> shut_out_{0};
};

}  // namespace forebay::detail
