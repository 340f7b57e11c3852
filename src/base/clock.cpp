#include "forebay/clock.hpp"

#include "forebay/check.hpp"

namespace forebay {
namespace {

class SteadyClock final : public Clock {
 public:
  TimePoint now() const noexcept override {
    return TimePoint{std::chrono::steady_clock::now().time_since_epoch()};
  }
  void wait_until(std::condition_variable& changed, std::unique_lock<std::mutex>& lock,
                  TimePoint deadline) override {
    changed.wait_until(lock, std::chrono::steady_clock::time_point{
                                 std::chrono::duration_cast<std::chrono::steady_clock::duration>(
                                     deadline.time_since_epoch())});
  }
};

}  // namespace

Clock& Clock::steady() noexcept {
  static SteadyClock clock;
  return clock;
}

Clock::TimePoint ManualClock::now() const noexcept {
  return TimePoint{Duration{now_.load(std::memory_order_acquire)}};
}

// Looks again every millisecond instead of registering the waiter: advance() then needs
// no lock of the waiter's, and no notification can be lost.
void ManualClock::wait_until(std::condition_variable& changed, std::unique_lock<std::mutex>& lock,
                             TimePoint deadline) {
  if (now() < deadline) changed.wait_for(lock, std::chrono::milliseconds{1});
}

void ManualClock::advance(Duration by) noexcept {
  FOREBAY_CHECK(by >= Duration::zero(), "time does not run backwards");
  now_.fetch_add(by.count(), std::memory_order_acq_rel);
}

}  // namespace forebay
