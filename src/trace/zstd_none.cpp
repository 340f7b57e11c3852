#include "trace/input.hpp"

namespace forebay::trace {

Result<std::unique_ptr<Input>> unpack_zstd(std::unique_ptr<Input>, std::string) {
  return Status{Code::unsupported,
                "is packed by zstd, which this build cannot read; install zstd (Debian: "
                "libzstd-dev) and build again, or unpack it"};
}

}  // namespace forebay::trace
