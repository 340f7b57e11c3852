// The publisher as users start it: with the tracker and snapshots of the process.
#include "telemetry/publisher.hpp"
#include "telemetry/snapshot_json.hpp"

namespace forebay {

Result<std::unique_ptr<Publisher>> Publisher::start(const PublishOptions& options) {
  detail::PublishSources sources = detail::common_sources();
  sources.tags = Tracker::tags;
  sources.snapshot = []() -> Result<std::string> {
    return detail::snapshot_json(Snapshot::take());
  };
  return detail::start_publisher(options, std::move(sources));
}

}  // namespace forebay
