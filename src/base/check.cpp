#include "forebay/check.hpp"

#include <cstdio>
#include <cstdlib>

namespace forebay::detail {

void check_failed(const char* condition, const char* why, const char* file, int line) noexcept {
  std::fprintf(stderr, "forebay: check failed: %s (%s) at %s:%d\n", why, condition, file, line);
  std::fflush(stderr);
  std::abort();
}

}  // namespace forebay::detail
