// Publishing of this process's statistics, for `forebay top` and its likes.
#pragma once

#include <memory>

#include "forebay/config.hpp"
#include "forebay/status.hpp"

namespace forebay::app {

// While what it returns lives, the process publishes, if `publish` is set. Errors: as
// Publisher::start(); unsupported in a build without forebay::telemetry.
Result<std::shared_ptr<void>> publish_if_asked(const Config& config);

}  // namespace forebay::app
