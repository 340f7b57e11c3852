// Clock: where time comes from. TTLs, deadlines, decay and monitors take one, so that
// tests and simulations turn 48 hours into seconds.
//
// Time is monotonic nanoseconds since an arbitrary start; it never jumps back.
// Thread safety: all clocks may be used from any thread.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>

#pragma GCC visibility push(default)
namespace forebay {

using Duration = std::chrono::nanoseconds;

class Clock {
 public:
  // A point on this clock; points of different clocks must not be mixed.
  using TimePoint = std::chrono::time_point<Clock, Duration>;

  virtual ~Clock() = default;
  virtual TimePoint now() const noexcept = 0;

  // Waits on `changed` until it is notified, `deadline` has passed on this clock, or
  // spuriously. `lock` is held on entry and on return.
  virtual void wait_until(std::condition_variable& changed, std::unique_lock<std::mutex>& lock,
                          TimePoint deadline) = 0;

  // The machine's monotonic clock.
  static Clock& steady() noexcept;
};

// A clock that stands still until told to move.
class ManualClock final : public Clock {
 public:
  TimePoint now() const noexcept override;
  void wait_until(std::condition_variable& changed, std::unique_lock<std::mutex>& lock,
                  TimePoint deadline) override;
  // Moves time forward. REQUIRES: by >= 0.
  void advance(Duration by) noexcept;

 private:
  std::atomic<Duration::rep> now_{0};
};

}  // namespace forebay
#pragma GCC visibility pop
