#include <unistd.h>

#include "command.hpp"
#include "events_output.hpp"
#include "interrupt.hpp"
#include "terminal.hpp"

namespace forebay::app {

Result<Exit> run_report(const Config& config) {
  if (config.recording.empty()) {
    return Status{Code::invalid_argument,
                  "no recording given; allowed: forebay report FILE, one that "
                  "Tracker::record_to wrote"};
  }
  const auto reader = events::EventReader::open(config.recording);
  if (!reader.ok()) return reader.status();
  const InterruptGuard guard;
  ProgressBar bar{"reading", is_terminal(STDERR_FILENO)};
  events::AnalysisOptions options;
  options.progress = [&](double share) {
    bar.show(share);
    return !guard.interrupted();
  };
  const auto report = events::analyse(*reader, options);
  bar.clear();
  if (!report.ok()) return report.status();
  const Status written =
      write_out(config.json ? printed(json_of(*report, config.recording, config.top))
                            : events_report(*report, config.recording, config.top,
                                            Painter::of(STDOUT_FILENO)));
  // A reader that is gone (forebay report … | head) has all it wanted.
  if (!written.ok() && written.code() != Code::interrupted) return written;
  return Exit::done;
}

}  // namespace forebay::app
