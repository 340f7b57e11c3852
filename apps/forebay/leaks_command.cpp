#include <unistd.h>

#include "command.hpp"
#include "snapshot_output.hpp"

namespace forebay::app {

// Something that is live and not in the suppression file is an expectation that failed: a script
// may go by the exit code.
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
  const LeakReport report = live_of(named->snapshot, suppressions);
  const Status shown =
      write_out(config.json ? printed(json_of(*named, report))
                            : leaks_report(*named, report, Painter::of(STDOUT_FILENO)));
  if (!shown.ok() && shown.code() != Code::interrupted) return shown;
  return report.empty() ? Exit::done : Exit::expectation_failed;
}

}  // namespace forebay::app
