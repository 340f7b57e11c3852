// Ctrl-C: the first asks the run to end with its report, the second ends the process.
#pragma once

namespace forebay::app {

// Catches SIGINT and SIGTERM once each, from construction on; at the end of its life the
// signals do again what they did before. One at a time.
class InterruptGuard {
 public:
  InterruptGuard() noexcept;
  ~InterruptGuard();
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;

  bool interrupted() const noexcept;
};

}  // namespace forebay::app
