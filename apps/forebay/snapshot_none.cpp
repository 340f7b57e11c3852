// The commands that look at snapshots, where the component that reads them was not built.
#include "command.hpp"

namespace forebay::app {
namespace {

Status not_built() {
  return {Code::unsupported,
          "this build reads no snapshots: it needs nlohmann-json, zstd, zlib and protobuf"};
}

}  // namespace

Result<Exit> run_snapshot(const Config&) { return not_built(); }
Result<Exit> run_leaks(const Config&) { return not_built(); }
Result<Exit> run_diff(const Config&) { return not_built(); }

}  // namespace forebay::app
