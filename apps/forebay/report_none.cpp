#include "command.hpp"

namespace forebay::app {

Result<Exit> run_report(const Config&) {
  return Status{Code::unsupported,
                "report: this build has no telemetry (Debian: nlohmann-json3-dev, libzstd-dev, "
                "zlib1g-dev, protobuf-compiler)"};
}

}  // namespace forebay::app
