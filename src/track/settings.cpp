#include "track/settings.hpp"

#include <fmt/format.h>
#include <time.h>

#include <atomic>
#include <limits>
#include <mutex>

#include "track/hooks.hpp"

namespace forebay {
namespace detail {
namespace {

constexpr std::uint32_t wants_of(TrackingGrade grade) noexcept {
  switch (grade) {
    case TrackingGrade::off:
      return 0;
    case TrackingGrade::counters:
      return kWantContexts;
    case TrackingGrade::sampled:
      return kWantContexts | kWantSamples;
    case TrackingGrade::full:
      return kWantContexts | kWantSamples | kWantRecords;
  }
  return 0;
}

constexpr TrackingGrade kGrade = TrackingGrade::sampled;  // as TrackerOptions begin
constexpr std::uint64_t kInterval = 512ULL << 10;

struct Settings {
  std::mutex mutex;
  std::atomic<TrackingGrade> grade{kGrade};
  std::uint32_t record_wishes = 0;
  bool events = false;
  std::atomic<std::uint64_t> interval{kInterval};
  std::atomic<StackMethod> stacks{StackMethod::automatic};
  std::atomic<Clock*> clock{nullptr};  // null: the machine's
  std::atomic<std::uint32_t> marks{0};
  std::uint32_t full_from = 0;  // the first mark set since every block is recorded; 0: not now

  void publish() noexcept {
    std::uint32_t wants = wants_of(grade.load(std::memory_order_relaxed));
    if (record_wishes != 0) wants |= wants_of(TrackingGrade::full);
    if (events) wants |= kWantEvents;
    const bool full = (wants & kWantRecords) != 0;
    full_from = !full ? 0 : full_from != 0 ? full_from : marks.load(std::memory_order_relaxed) + 1;
    g_tracking.store(wants, std::memory_order_relaxed);
  }
};

constinit Settings g_settings;

}  // namespace

constinit std::atomic<std::uint32_t> g_tracking{wants_of(kGrade)};

std::uint64_t sample_interval() noexcept {
  return g_settings.interval.load(std::memory_order_relaxed);
}
StackMethod stack_method() noexcept { return g_settings.stacks.load(std::memory_order_relaxed); }

std::uint32_t coarse_now() noexcept { return static_cast<std::uint32_t>(tracker_now() / kCoarse); }

Duration tracker_now() noexcept {
  if (Clock* const clock = g_settings.clock.load(std::memory_order_acquire)) {
    return clock->now().time_since_epoch();
  }
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
  return std::chrono::seconds{now.tv_sec} + std::chrono::nanoseconds{now.tv_nsec};
}

Duration time_of(std::uint32_t coarse) noexcept {
  const Duration now = tracker_now();
  return now -
         static_cast<std::uint32_t>(static_cast<std::uint32_t>(now / kCoarse) - coarse) * kCoarse;
}

std::uint32_t marks_set() noexcept { return g_settings.marks.load(std::memory_order_relaxed); }
std::uint32_t set_mark() noexcept {
  return g_settings.marks.fetch_add(1, std::memory_order_seq_cst) + 1;
}

bool full_since(std::uint64_t mark) noexcept {
  const std::lock_guard lock{g_settings.mutex};
  return g_settings.full_from != 0 && mark >= g_settings.full_from;
}

void want_records(bool more) noexcept {
  const std::lock_guard lock{g_settings.mutex};
  g_settings.record_wishes += more ? 1U : ~0U;
  g_settings.publish();
}

void want_events(bool wanted) noexcept {
  const std::lock_guard lock{g_settings.mutex};
  g_settings.events = wanted;
  g_settings.publish();
}

}  // namespace detail

std::string_view to_string(TrackingGrade grade) noexcept {
  switch (grade) {
    case TrackingGrade::off:
      return "off";
    case TrackingGrade::counters:
      return "counters";
    case TrackingGrade::sampled:
      return "sampled";
    case TrackingGrade::full:
      return "full";
  }
  return "?";
}

Status Tracker::set_options(const TrackerOptions& options) {
  constexpr std::uint64_t kMost = std::numeric_limits<std::uint32_t>::max();
  const std::uint64_t interval = options.sample_interval.count();
  if (interval == 0 || interval > kMost) {
    return {
        Code::invalid_argument,
        fmt::format("sample_interval {} B is not allowed; it must be 1 B to 4 GiB - 1", interval)};
  }
  if (options.clock == nullptr) return {Code::invalid_argument, "the tracker needs a clock"};
  detail::Settings& settings = detail::g_settings;
  const std::lock_guard lock{settings.mutex};
  settings.grade.store(options.grade, std::memory_order_relaxed);
  settings.interval.store(interval, std::memory_order_relaxed);
  settings.stacks.store(options.stacks, std::memory_order_relaxed);
  settings.clock.store(options.clock == &Clock::steady() ? nullptr : options.clock,
                       std::memory_order_release);
  settings.publish();
  detail::this_tracking.random = 0;  // begin anew, with a gap of the new interval
  detail::this_tracking.until_sample = 0;
  return {};
}

// Without the lock, for handlers of signals too: while another thread sets options, some are new.
TrackerOptions Tracker::options() noexcept {
  const detail::Settings& settings = detail::g_settings;
  Clock* const clock = settings.clock.load(std::memory_order_acquire);
  return {.grade = settings.grade.load(std::memory_order_relaxed),
          .sample_interval = Bytes{settings.interval.load(std::memory_order_relaxed)},
          .stacks = settings.stacks.load(std::memory_order_relaxed),
          .clock = clock == nullptr ? &Clock::steady() : clock};
}

}  // namespace forebay
