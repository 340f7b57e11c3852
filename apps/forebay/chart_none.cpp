// Without cairo.
#include "chart.hpp"

namespace forebay::app {

Status check_chart(const std::string&) {
  return {Code::unsupported,
          "--chart: this build cannot draw; install cairo (Debian: libcairo2-dev) and build again"};
}

Status draw_chart(const trace::Replay&, const std::string&, const std::string& file) {
  return check_chart(file);
}

Status draw_curves(const trace::CacheReplay&, const std::string&, const std::string& file) {
  return check_chart(file);
}

}  // namespace forebay::app
