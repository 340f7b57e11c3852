// A build without forebay::telemetry.
#include "command.hpp"

namespace forebay::app {

Result<Exit> run_top(const Config&) {
  return Status{Code::unsupported, "top: this program was built without forebay::telemetry"};
}

}  // namespace forebay::app
