#include <fmt/format.h>
#include <unistd.h>

#include "command.hpp"
#include "snapshot_output.hpp"

namespace forebay::app {

Result<Exit> run_diff(const Config& config) {
  if (config.snapshots.size() != 2) {
    return Status{
        Code::invalid_argument,
        fmt::format("{} given; allowed: two snapshots, forebay diff A B", config.snapshots.size())};
  }
  const auto before = snapshot_from(config, config.snapshots[0]);
  if (!before.ok()) return before.status();
  const auto after = snapshot_from(config, config.snapshots[1]);
  if (!after.ok()) return after.status();
  const Status shown =
      write_out(config.json ? printed(json_of(*before, *after))
                            : diff_report(*before, *after, Painter::of(STDOUT_FILENO)));
  if (!shown.ok() && shown.code() != Code::interrupted) return shown;
  return Exit::done;
}

}  // namespace forebay::app
