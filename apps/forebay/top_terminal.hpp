// The full screen of `forebay top`.
#pragma once

#include <functional>

#include "command.hpp"
#include "telemetry/published_view.hpp"

namespace forebay::app {

using LookAtProcess = std::function<Result<detail::PublishedView>()>;

// Shows views until the user quits. A look that fails leaves the last view on the screen, and says
// why. Errors: unsupported (no ncurses in this build, or a terminal that it does not know).
Result<Exit> show_full_screen(const detail::PublishedView& first, const LookAtProcess& look,
                              Duration interval);

}  // namespace forebay::app
