// Store: a reclaimer for tests that holds bytes of a budget and gives them back when asked.
#pragma once

#include <algorithm>
#include <functional>
#include <mutex>
#include <vector>

#include "forebay/budget.hpp"

namespace forebay::testing {

class Store : public Reclaimer {
 public:
  explicit Store(Budget& budget, ReclaimerOptions options = {})
      : registration_(budget.add_reclaimer(*this, std::move(options))) {}

  // Takes a reservation in.
  void put(Reservation held) {
    const std::lock_guard lock{mutex_};
    if (held_.empty()) {
      held_ = std::move(held);
    } else if (!held_.merge(std::move(held)).ok()) {
      std::abort();
    }
  }

  Bytes reclaim(Bytes goal) noexcept override {
    if (on_reclaim) on_reclaim(goal);
    const std::lock_guard lock{mutex_};
    goals.push_back(goal);
    const Bytes given = std::min({goal, held_.bytes(), at_most});
    held_.commit(held_.bytes() - given);
    return claims.value_or(given);
  }
  Bytes reclaimable() const noexcept override {
    const std::lock_guard lock{mutex_};
    return estimates.value_or(held_.bytes());
  }

  Bytes bytes() const noexcept {
    const std::lock_guard lock{mutex_};
    return held_.bytes();
  }
  void unregister() noexcept { registration_.reset(); }

  std::vector<Bytes> goals;                // asked for so far
  Bytes at_most = Bytes::unlimited();      // gives no more in one call
  std::optional<Bytes> claims;             // says that it gave this
  std::optional<Bytes> estimates;          // says that it could give this
  std::function<void(Bytes)> on_reclaim;   // called first

 private:
  mutable std::mutex mutex_;
  Reservation held_;
  ReclaimerRegistration registration_;
};

}  // namespace forebay::testing
