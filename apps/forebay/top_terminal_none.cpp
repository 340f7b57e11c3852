// A build without ncurses.
#include "top_terminal.hpp"

namespace forebay::app {

Result<Exit> show_full_screen(const detail::PublishedView&, const LookAtProcess&, Duration) {
  return Status{Code::unsupported,
                "top: this build has no full screen; give --once, or install ncurses (Debian: "
                "libncurses-dev) and build anew"};
}

}  // namespace forebay::app
