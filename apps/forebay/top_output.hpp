// The object that `forebay top --json` prints.
#pragma once

#include "json_output.hpp"
#include "telemetry/published_view.hpp"

namespace forebay::app {

// `age`: as age_of() says.
Json json_of(const detail::PublishedView& view, Duration age);

}  // namespace forebay::app
