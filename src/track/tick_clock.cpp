#include "track/tick_clock.hpp"

#include <fcntl.h>
#include <time.h>  // NOLINT(modernize-deprecated-headers): clock_gettime is POSIX
#include <unistd.h>

#include <array>
#include <string_view>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace forebay::detail {

constinit std::atomic<bool> g_ticks_are_counter{false};

namespace {

#if defined(__x86_64__)

// "Invariant TSC": the counter's rate does not change with the core's, nor stops when it sleeps.
bool counter_is_invariant() noexcept {
  unsigned a = 0;
  unsigned b = 0;
  unsigned c = 0;
  unsigned d = 0;
  return __get_cpuid(0x80000007, &a, &b, &c, &d) != 0 && (d & (1U << 8)) != 0;
}

// The kernel gives the counter up where cores do not agree; its word counts, if it is to be had.
bool kernel_trusts_counter() noexcept {
  constexpr const char* kFile = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
  const int file = ::open(kFile, O_RDONLY | O_CLOEXEC);
  if (file < 0) return true;
  std::array<char, 32> text{};
  const ssize_t length = ::read(file, text.data(), text.size());
  ::close(file);
  if (length <= 0) return true;
  const std::string_view name{text.data(), static_cast<std::size_t>(length)};
  // Virtual machines' clocks are computed from the counter too.
  return name.starts_with("tsc") || name.starts_with("kvm-clock") || name.starts_with("hyperv");
}

#endif

}  // namespace

std::uint64_t steady_nanoseconds() noexcept {
  constexpr std::uint64_t kPerSecond = 1'000'000'000;
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * kPerSecond +
         static_cast<std::uint64_t>(now.tv_nsec);
}

void choose_tick_clock() noexcept {
#if defined(__x86_64__)
  g_ticks_are_counter.store(counter_is_invariant() && kernel_trusts_counter(),
                            std::memory_order_relaxed);
#endif
}

// Of a few tries the one that took least: nothing came between its two clocks.
TickAnchor take_anchor() noexcept {
  constexpr int kTries = 5;
  TickAnchor best;
  std::uint64_t least = ~0ULL;
  for (int i = 0; i < kTries; ++i) {
    const std::uint64_t before = read_ticks();
    const std::uint64_t nanoseconds = steady_nanoseconds();
    const std::uint64_t took = read_ticks() - before;
    if (took >= least) continue;
    least = took;
    best = {before + took / 2, nanoseconds};
  }
  return best;
}

TickScale::TickScale(const TickAnchor& first, const TickAnchor& second) noexcept : first_(first) {
  if (second.ticks <= first.ticks || second.nanoseconds <= first.nanoseconds) return;
  nanoseconds_per_tick_ = static_cast<double>(second.nanoseconds - first.nanoseconds) /
                          static_cast<double>(second.ticks - first.ticks);
}

Duration TickScale::at(std::uint64_t ticks) const noexcept {
  const auto since = static_cast<double>(static_cast<std::int64_t>(ticks - first_.ticks));
  return Duration{static_cast<std::int64_t>(first_.nanoseconds) +
                  static_cast<std::int64_t>(since * nanoseconds_per_tick_)};
}

}  // namespace forebay::detail
