// What the settings mean on this machine.
#pragma once

#include <filesystem>

#include "forebay/config.hpp"
#include "forebay/governor.hpp"

namespace forebay::app {

// The line that the settings ask for, or what machine and cgroup leave of it.
LineChoice line_of(const Config& config, const MemoryReading& reading);

// The model's file: the one that is set, or the one that `make setup` keeps in the cache
// folder. Error: not_found, if there is none.
Result<std::filesystem::path> model_of(const Config& config);

// Threads to compute with: as set, or the cores that this process may use and that are
// idle, 1 to 8: a thread more than there are idle cores slows all of them down, and beyond 8
// memory is the bound.
int threads_of(const Config& config);

}  // namespace forebay::app
