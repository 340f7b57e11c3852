// Reports on snapshots, for people and as JSON.
#pragma once

#include <string>
#include <vector>

#include "json_output.hpp"
#include "snapshot_source.hpp"
#include "terminal.hpp"

namespace forebay::app {

// Bytes and blocks of one site or tag, by what was recorded.
std::string snapshot_report(const NamedSnapshot& named, const Painter& paint);
Json json_of(const NamedSnapshot& named);

std::string leaks_report(const NamedSnapshot& named, const LeakReport& report,
                         const Painter& paint);
Json json_of(const NamedSnapshot& named, const LeakReport& report);

std::string diff_report(const NamedSnapshot& before, const NamedSnapshot& after,
                        const Painter& paint);
Json json_of(const NamedSnapshot& before, const NamedSnapshot& after);

}  // namespace forebay::app
