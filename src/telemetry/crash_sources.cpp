#include "telemetry/crash.hpp"
#include "track/stack.hpp"

namespace forebay::detail {

CrashSources crash_sources() noexcept {
  CrashSources sources;
  sources.options = []() noexcept { return Tracker::options(); };
  sources.frames = [](StackId id) noexcept { return frames_of(id); };
  return sources;
}

}  // namespace forebay::detail
