#include <fmt/format.h>
#include <unistd.h>

#include "command.hpp"
#include "interrupt.hpp"
#include "snapshot_output.hpp"

namespace forebay::app {
namespace {

struct Export {
  ExportFormat format = ExportFormat::memory_viz;
  std::string file;
};

// "pprof=heap.pb.gz". All are read before anything is written.
Result<std::vector<Export>> exports_of(const Config& config) {
  std::vector<Export> exports;
  for (const std::string& text : config.exports) {
    const std::size_t sign = text.find('=');
    if (sign == std::string::npos || sign + 1 == text.size()) {
      return Status{Code::invalid_argument,
                    fmt::format("{}: {} is not allowed; allowed: FORMAT=FILE",
                                config.origin("export").where, printable(text))};
    }
    const Result<ExportFormat> format = parse_export_format(text.substr(0, sign));
    if (!format.ok()) return format.status().with_context(config.origin("export").where);
    exports.push_back({*format, text.substr(sign + 1)});
  }
  return exports;
}

Status write_all(const Config& config, const Snapshot& snapshot,
                 const std::vector<Export>& exports) {
  const InterruptGuard guard;
  const StopCheck stop = [&guard] { return guard.interrupted(); };
  if (!config.out.empty()) {
    if (Status status = write_snapshot(snapshot, config.out, stop); !status.ok()) return status;
  }
  for (const Export& one : exports) {
    Status status = export_snapshot(snapshot, one.format, one.file, stop);
    if (!status.ok()) return status;
  }
  return {};
}

}  // namespace

Result<Exit> run_snapshot(const Config& config) {
  if (config.snapshot_source.empty()) {
    return Status{Code::invalid_argument,
                  "no process or file given; allowed: forebay snapshot PID|FILE"};
  }
  const auto exports = exports_of(config);
  if (!exports.ok()) return exports.status();
  const auto named = snapshot_from(config, config.snapshot_source);
  if (!named.ok()) return named.status();
  Status written = write_all(config, named->snapshot, *exports);
  if (!written.ok()) return written;
  const Status shown = write_out(config.json ? printed(json_of(*named))
                                             : snapshot_report(*named, Painter::of(STDOUT_FILENO)));
  if (!shown.ok() && shown.code() != Code::interrupted) return shown;
  return Exit::done;
}

}  // namespace forebay::app
