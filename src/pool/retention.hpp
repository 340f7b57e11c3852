// Retention: how much memory a pool should hold, from what it used of late.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "forebay/clock.hpp"

namespace forebay::detail {

// Remembers the most pages in use in each eighth of the past `ttl`. What was needed at any time
// in it is worth keeping; what lies above has been idle for longer.
// Thread safety: not thread-safe; the pool locks.
class Retention {
 public:
  explicit Retention(Duration ttl) noexcept : ttl_(ttl) {}

  // Told at every rise.
  void note(std::uint64_t pages_in_use) noexcept { latest_ = std::max(latest_, pages_in_use); }

  // One round: the most pages in use since `now - ttl`, given how many are now. What was used
  // since the round before counts as used now, so nothing is forgotten early.
  std::uint64_t most_used(Clock::TimePoint now, std::uint64_t pages_in_use) noexcept {
    if (ttl_ <= Duration::zero()) {
      latest_ = pages_in_use;
      return pages_in_use;
    }
    const Duration step = std::max(ttl_ / kSteps, Duration{1});
    const auto at = static_cast<std::uint64_t>(now.time_since_epoch() / step);
    const std::uint64_t passed = std::min<std::uint64_t>(at - at_, most_.size());
    for (std::uint64_t i = 0; i < passed; ++i) most_[(at - i) % most_.size()] = 0;
    at_ = at;
    std::uint64_t& here = most_[at % most_.size()];
    here = std::max({here, latest_, pages_in_use});
    latest_ = pages_in_use;
    return *std::max_element(most_.begin(), most_.end());
  }

 private:
  static constexpr int kSteps = 8;

  Duration ttl_;
  std::uint64_t latest_ = 0;  // the most since the last round
  std::uint64_t at_ = 0;      // number of the step of the last round
  std::array<std::uint64_t, kSteps + 1> most_{};
};

}  // namespace forebay::detail
