// The thread that gives idle memory of pools back by age.
#pragma once

#include "base/upkeep.hpp"

namespace forebay::detail {

inline constexpr char kPoolThread[] = "forebay-pools";
inline Upkeep& cleaning() noexcept { return the_upkeep<kPoolThread>(); }

}  // namespace forebay::detail
