#include "interrupt.hpp"

#include <signal.h>  // NOLINT(modernize-deprecated-headers): sigaction is POSIX

#include <atomic>

namespace forebay::app {
namespace {

std::atomic<bool> interrupt_seen{false};
static_assert(std::atomic<bool>::is_always_lock_free, "set in a signal handler");

extern "C" void note_interrupt(int) { interrupt_seen.store(true, std::memory_order_relaxed); }

struct sigaction before_interrupt, before_terminate;  // NOLINT: what the guard found

}  // namespace

InterruptGuard::InterruptGuard() noexcept {
  interrupt_seen.store(false, std::memory_order_relaxed);
  struct sigaction action {};
  action.sa_handler = note_interrupt;
  sigemptyset(&action.sa_mask);
  // One-shot, so that the second signal ends a run that does not stop; interrupted calls
  // go on, because only the generation loop knows how to stop.
  action.sa_flags = static_cast<int>(SA_RESETHAND | SA_RESTART);
  ::sigaction(SIGINT, &action, &before_interrupt);
  ::sigaction(SIGTERM, &action, &before_terminate);
}

InterruptGuard::~InterruptGuard() {
  ::sigaction(SIGINT, &before_interrupt, nullptr);
  ::sigaction(SIGTERM, &before_terminate, nullptr);
}

bool InterruptGuard::interrupted() const noexcept {
  return interrupt_seen.load(std::memory_order_relaxed);
}

}  // namespace forebay::app
