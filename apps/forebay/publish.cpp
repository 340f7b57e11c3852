#include "publish.hpp"

#include "forebay/telemetry.hpp"

namespace forebay::app {

Result<std::shared_ptr<void>> publish_if_asked(const Config& config) {
  if (!config.publish) return std::shared_ptr<void>{};
  Result<std::unique_ptr<Publisher>> publisher =
      Publisher::start({.directory = config.publish_directory});
  if (!publisher.ok()) return publisher.status();
  return std::shared_ptr<void>{std::move(*publisher)};
}

}  // namespace forebay::app
