// The thread that frees what expired in caches.

#include <pthread.h>

#include <algorithm>
#include <chrono>

#include "cache/core.hpp"

namespace forebay::detail {
namespace {

constexpr char kCacheThread[] = "forebay-caches";
Upkeep& expirer() noexcept { return the_upkeep<kCacheThread>(); }

// Between two looks at a cache: what comes due meanwhile is freed together. With the tick and the
// coarse clock an entry goes at most 50 ms late, on a machine that is not overloaded.
constexpr std::chrono::milliseconds kPause{32};

}  // namespace

void CacheImpl::start_expiring() {
  static const int prepared = ::pthread_atfork(
      [] { expirer().hold(); }, [] { expirer().release(false); }, [] { expirer().release(true); });
  static_cast<void>(prepared);
  expirer().add(*this, Upkeep::kNever);
  in_background = true;
}

void CacheImpl::stop_expiring() noexcept {
  if (in_background) expirer().remove(*this);
}

// From now on; not before a pause, so that a burst of new deadlines wakes the thread once.
Upkeep::TimePoint CacheImpl::time_of(std::uint64_t tick) const noexcept {
  if (tick == TimerWheel::kNever) return Upkeep::kNever;
  const std::uint64_t now = ticks();
  const auto ahead = std::chrono::nanoseconds{(tick > now ? tick - now : 0) << kTickShift};
  return std::chrono::steady_clock::now() + std::max<std::chrono::nanoseconds>(ahead, kPause);
}

Upkeep::TimePoint CacheImpl::look() noexcept {
  // Before the look, so that a deadline which is linked meanwhile wakes this thread.
  awaited.store(TimerWheel::kNever);
  if (next_due() <= ticks()) expire_all();
  const std::uint64_t due = next_due();
  std::uint64_t none = TimerWheel::kNever;
  awaited.compare_exchange_strong(none, due);
  return time_of(due);
}

void CacheImpl::await(std::uint64_t deadline) noexcept {
  std::uint64_t expected = awaited.load();
  while (deadline < expected) {
    if (!awaited.compare_exchange_weak(expected, deadline)) continue;
    if (in_background) expirer().wake(*this, time_of(deadline));
    return;
  }
}

}  // namespace forebay::detail
