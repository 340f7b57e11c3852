// Charts of a replay, as SVG or PNG.
#pragma once

#include <string>

#include "trace/cache_replay.hpp"
#include "trace/replay.hpp"

namespace forebay::app {

// Whether a file of this name can be drawn: the build has cairo, the name ends in .svg or
// .png, its folder is there and it is none itself. Asked before the work. Errors: unsupported,
// invalid_argument.
Status check_chart(const std::string& file);

// Above, reserved and live bytes over the trace; below, fragmentation. `title` is the
// trace's name. Errors: those of check_chart; io_error.
Status draw_chart(const trace::Replay& replay, const std::string& title, const std::string& file);

// Miss ratios over the capacity, a line a policy, the offline optimum dashed. Errors: as above.
Status draw_curves(const trace::CacheReplay& replay, const std::string& title,
                   const std::string& file);

}  // namespace forebay::app
