// Claims: requests for room that may have to be made by reclaiming or waited for.
#pragma once

#include <utility>

#include "budget/node.hpp"
#include "budget/reclaimers.hpp"

namespace forebay::detail {

// What a claim lacks.
struct Shortage {
  BudgetNode* limiter = nullptr;  // where; null: the claim was granted
  Bytes missing;                  // there
  Bytes room;                     // what would have fit
  Bytes wanted{};                 // what the requester was to be charged; 0: a mere move
};

// REQUIRES for attempt: the tree's mutex is held.
class Claim {
 public:
  Claim(BudgetNode* a_requester, Bytes a_asked, Bytes a_least) noexcept
      : requester(a_requester), asked(a_asked), least(a_least) {}
  Claim(const Claim&) = delete;
  Claim& operator=(const Claim&) = delete;

  // Grants it whole (all levels or none) if it fits; leases are revoked before it does not.
  virtual Shortage attempt() noexcept = 0;

  BudgetNode* const requester;        // where the new charge begins
  const Bytes asked;                  // for the account
  const Bytes least;                  // less is refused
  const BudgetNode* spare = nullptr;  // not asked to reclaim: it would free nothing for this
  // Whom it asked for room, for the account; of one that was asked again, the sums.
  std::vector<std::pair<std::shared_ptr<ReclaimerEntry>, ReclaimAnswer>> answers;

 protected:
  ~Claim() = default;
};

class GrowClaim final : public Claim {
 public:
  GrowClaim(BudgetNode* node, Bytes minimum, Bytes bytes) noexcept : Claim(node, bytes, minimum) {}
  Shortage attempt() noexcept override;

  Bytes granted;
};

class GuaranteeClaim final : public Claim {
 public:
  // REQUIRES: node is no root.
  GuaranteeClaim(BudgetNode* node, Bytes guarantee) noexcept
      : Claim(node->parent, guarantee, guarantee), node_(node) {
    spare = node;
  }
  Shortage attempt() noexcept override;

 private:
  BudgetNode* const node_;
};

class TransferClaim final : public Claim {
 public:
  TransferClaim(BudgetNode* from, BudgetNode* to, Bytes bytes) noexcept
      : Claim(to, bytes, bytes), from_(from) {}
  Shortage attempt() noexcept override;

 private:
  BudgetNode* first_over_limit() const noexcept;
  BudgetNode* const from_;
};

// Makes room, if need be, and grants. Error: memory_refused with the account. What throws
// (std::bad_alloc) leaves the claim not granted.
Status obtain(Claim& claim, Lock& lock);
// The same without reclaiming.
Status try_obtain(Claim& claim, Lock& lock);
// The same as obtain, then waits its turn.
Status obtain_or_wait(GrowClaim& claim, Lock& lock, Duration timeout);

// Grants, in order of arrival, what fits now. A waiter is passed over only by those that do
// not want room where it lacks some.
void serve_waiters(Tree& tree) noexcept;

// The account of a refusal. With `ask_holders`, the reclaimers of the largest holders are
// asked for their estimates, for which the lock is let go of.
Status refuse(const Claim& claim, const Shortage& shortage, Bytes reclaimed, bool ask_holders,
              Lock& lock);

}  // namespace forebay::detail
