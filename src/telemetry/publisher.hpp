// The publisher, with sources of one's own.
#pragma once

#include <memory>

#include "forebay/telemetry.hpp"
#include "telemetry/gather.hpp"

namespace forebay::detail {

// As Publisher::start().
Result<std::unique_ptr<Publisher>> start_publisher(const PublishOptions& options,
                                                   PublishSources sources);

// Statistics of collect_statistics(), the timeline's latest events, resident bytes: all that does
// not ask the tracker.
PublishSources common_sources();

}  // namespace forebay::detail
