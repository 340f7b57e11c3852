// Where a snapshot comes from: a file, or a process that is asked for one.
#pragma once

#include <string>

#include "forebay/config.hpp"
#include "forebay/telemetry.hpp"

namespace forebay::app {

// What was read, and the name that messages give it.
struct NamedSnapshot {
  std::string name;
  Snapshot snapshot;
};

// Digits alone are a process's number, all else a file's path ("./4711" too). Errors: not_found,
// and those of reading and asking.
Result<NamedSnapshot> snapshot_from(const Config& config, const std::string& source);

}  // namespace forebay::app
