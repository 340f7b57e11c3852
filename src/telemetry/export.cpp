// The door to the formats: each is one function over a file that is whole or absent.
#include <new>

#include "base/atomic_file.hpp"
#include "telemetry/formats.hpp"
#include "telemetry/json.hpp"
#include "telemetry/pickle.hpp"

namespace forebay {
namespace {

void write_format(const Snapshot& snapshot, ExportFormat format, detail::Output& out) {
  switch (format) {
    case ExportFormat::memory_viz: {
      detail::JsonDocument document{out};
      return detail::write_memory_viz(snapshot, document);
    }
    case ExportFormat::memory_viz_pickle: {
      detail::PickleDocument document{out};
      return detail::write_memory_viz(snapshot, document);
    }
    case ExportFormat::pprof:
      return detail::write_pprof(snapshot, out);
    case ExportFormat::chrome_trace:
      return detail::write_chrome_trace(snapshot, out);
    case ExportFormat::rmm_csv:
      return detail::write_rmm_csv(snapshot, out);
    case ExportFormat::folded:
      return detail::write_folded(snapshot, out);
  }
  out.fail({Code::invalid_argument, "no such export format; parse_export_format() names them"});
}

Status export_to(const Snapshot& snapshot, ExportFormat format, const std::string& path,
                 const StopCheck& stop) {
  auto file = detail::AtomicFile::create(path, stop);
  if (!file.ok()) return file.status();
  detail::Output out{*file};
  write_format(snapshot, format, out);
  return out.status().ok() ? file->commit() : out.status();
}

// Made when the library is loaded, so that handing it out takes no memory.
const Status kNoMemory{Code::memory_refused,
                       "exporting a snapshot: the process has no memory left for it"};

}  // namespace

Status export_snapshot(const Snapshot& snapshot, ExportFormat format, const std::string& path,
                       const StopCheck& stop) {
  try {
    return export_to(snapshot, format, path, stop);
  } catch (const std::bad_alloc&) {
    return kNoMemory;
  }
}

}  // namespace forebay
