#include <unistd.h>

#include <chrono>
#include <vector>

#include "command.hpp"
#include "snapshot_output.hpp"

namespace forebay::app {

// A process that runs has live blocks, and a list of them is no failure. Who says what may be
// there, by a suppression file or an age, expects nothing else: a script may go by the exit code.
Result<Exit> run_leaks(const Config& config) {
  if (config.snapshot_source.empty()) {
    return Status{Code::invalid_argument,
                  "no process or file given; allowed: forebay leaks PID|FILE"};
  }
  Suppressions suppressions;
  if (!config.suppressions.empty()) {
    Result<Suppressions> loaded = Suppressions::load(config.suppressions);
    if (!loaded.ok()) return loaded.status();
    suppressions = std::move(*loaded);
  }
  const auto named = snapshot_from(config, config.snapshot_source);
  if (!named.ok()) return named.status();
  LeakReport report = live_of(named->snapshot, suppressions);
  std::erase_if(report.groups, [&](const LeakGroup& group) {
    return group.oldest < std::chrono::seconds{config.older_than};
  });
  const Status shown =
      write_out(config.json ? printed(json_of(*named, report))
                            : leaks_report(*named, report, Painter::of(STDOUT_FILENO)));
  if (!shown.ok() && shown.code() != Code::interrupted) return shown;
  const bool expects_none = !config.suppressions.empty() || config.given("older_than");
  return expects_none && !report.empty() ? Exit::expectation_failed : Exit::done;
}

}  // namespace forebay::app
