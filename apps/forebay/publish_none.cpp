// A build without forebay::telemetry.
#include "publish.hpp"

namespace forebay::app {

Result<std::shared_ptr<void>> publish_if_asked(const Config& config) {
  if (!config.publish) return std::shared_ptr<void>{};
  return Status{Code::unsupported, "--publish: this program was built without forebay::telemetry"};
}

}  // namespace forebay::app
