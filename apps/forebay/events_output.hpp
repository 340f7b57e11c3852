// What `forebay report` says of a recording.
#pragma once

#include <string>
#include <vector>

#include "json_output.hpp"
#include "telemetry/event_analysis.hpp"
#include "telemetry/event_symbols.hpp"
#include "terminal.hpp"

namespace forebay::app {

// The sites of a report with the most of something, and none that has nothing of it.
struct TopSites {
  std::vector<const events::Site*> by_allocated;  // bytes
  std::vector<const events::Site*> by_live;       // bytes at the end
  std::vector<const events::Site*> by_temporary;  // blocks
};
TopSites top_sites(const events::EventReport& report, std::size_t most);

// What a reader of the figures has to know: damage, losses, files that are newer.
std::vector<std::string> notes_of(const events::EventReport& report, const events::Namer& namer);

std::string events_report(const events::EventReport& report, const std::string& file,
                          std::size_t most, const Painter& paint);
Json json_of(const events::EventReport& report, const std::string& file, std::size_t most);

// A function's name without its parameters, cut to `most` characters.
std::string short_function(std::string name, std::size_t most);

}  // namespace forebay::app
