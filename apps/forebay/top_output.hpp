// The object that `forebay top --json` prints.
#pragma once

#include "json_output.hpp"
#include "telemetry/published_view.hpp"

namespace forebay::app {

Json json_of(const detail::PublishedView& view);

}  // namespace forebay::app
