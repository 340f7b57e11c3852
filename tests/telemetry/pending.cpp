// Stands in for what the tracker is to define; weak, so that its own win.
#include "forebay/tracker.hpp"
#include "track/stack.hpp"

namespace forebay {

[[gnu::weak]] std::string_view to_string(EventKind kind) noexcept {
  constexpr std::string_view kNames[] = {"allocate", "free",    "map",      "unmap",
                                         "reserve",  "release", "deny",     "reclaim",
                                         "evict",    "spill",   "pressure", "mark"};
  return kNames[static_cast<std::size_t>(kind)];
}

[[gnu::weak]] std::string_view to_string(TrackingGrade grade) noexcept {
  constexpr std::string_view kNames[] = {"off", "counters", "sampled", "full"};
  return kNames[static_cast<std::size_t>(grade)];
}

[[gnu::weak]] TrackerOptions Tracker::options() noexcept { return {}; }

namespace detail {
[[gnu::weak]] std::span<const std::uintptr_t> frames_of(StackId) noexcept { return {}; }
}  // namespace detail

}  // namespace forebay
