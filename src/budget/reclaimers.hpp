// Reclaimers: who is registered, and who is asked for how much, in which order.
#pragma once

#include <vector>

#include "budget/callback.hpp"

namespace forebay::detail {

// One registration. Guarded by the tree's mutex; whoever calls holds a shared_ptr.
class ReclaimerEntry : public Callback {
 public:
  ReclaimerEntry(BudgetNode* a_node, Reclaimer& a_reclaimer, ReclaimerOptions a_options)
      : tree(a_node->tree), node(a_node), reclaimer(a_reclaimer), options(std::move(a_options)) {}

  const std::shared_ptr<Tree> tree;
  BudgetNode* node;  // null once unregistered
  Reclaimer& reclaimer;
  const ReclaimerOptions options;
  bool reclaiming = false;        // a thread is in reclaim(); it is not asked by another
  std::uint64_t times_asked = 0;  // calls of reclaim() that ended
};

// REQUIRES for all: the tree's mutex is held.

// Those at and below `limiter`, in the order in which they are asked; none below `spare`.
std::vector<std::shared_ptr<ReclaimerEntry>> reclaimers_under(BudgetNode* limiter,
                                                              const BudgetNode* spare);
// How much the entry's node can give back to `limiter` for the sake of `requester`: what is
// inside the guarantee of a node that the requester is not below stays where it is.
Bytes reach_of(const ReclaimerEntry& entry, const BudgetNode* limiter,
               const BudgetNode* requester) noexcept;
// Asks; the result is what left the counters by this thread, and what it says it gave. The lock
// is let go of meanwhile.
struct Given {
  Bytes freed;
  Bytes claimed;
};
Given ask(const std::shared_ptr<ReclaimerEntry>& entry, const BudgetNode* limiter, Bytes goal,
          Lock& lock) noexcept;
// Its own estimate. The lock is let go of meanwhile.
Bytes estimate(const std::shared_ptr<ReclaimerEntry>& entry, Lock& lock) noexcept;
// What it holds back, in its own words. Likewise.
std::string why_kept(const std::shared_ptr<ReclaimerEntry>& entry, Lock& lock);
// The node goes: its registrations stay with their holders, and mean nothing.
void detach_reclaimers(BudgetNode* node) noexcept;

}  // namespace forebay::detail
