#include "pool/biased_lock.hpp"

#include <linux/membarrier.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "forebay/check.hpp"

namespace forebay::detail {
namespace {

long membarrier(int command) noexcept { return ::syscall(__NR_membarrier, command, 0U, 0); }

}  // namespace

bool g_fences_for_others = false;

void prepare_fences() noexcept {
  static const bool prepared = [] {
    g_fences_for_others = membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) == 0;
    return true;
  }();
  static_cast<void>(prepared);
}

void fence_all_threads() noexcept {
  // (ThreadSanitizer knows no fences; there the owner's exchange does for both.)
  if constexpr (kMayFenceForOthers) std::atomic_thread_fence(std::memory_order_seq_cst);
  if (!kMayFenceForOthers || !g_fences_for_others) return;
  FOREBAY_CHECK(membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED) == 0,
                "the kernel took back a barrier that it had granted");
}

// An owner inside is a few instructions from leaving, unless it was preempted.
void BiasedLock::wait_until_out() const noexcept {
  for (int spins = 0; inside_.load(std::memory_order_seq_cst) != 0; ++spins) {
    if (spins > 64) ::sched_yield();
  }
}

}  // namespace forebay::detail
