#include "budget/claim.hpp"

#include <algorithm>

namespace forebay::detail {
namespace {

// What must be given back at the limiting node before `bytes` more fit: also what it is over
// a lowered limit.
Bytes missing_at(const Room& room, Bytes bytes) noexcept {
  return checked_add(bytes - room.bytes, saturating_sub(room.limiter->charged, room.limiter->limit))
      .value_or(Bytes::unlimited());
}

}  // namespace

Shortage GrowClaim::attempt() noexcept {
  const Room room = exact_room(requester, asked);
  granted = std::min(asked, room.bytes);
  if (granted < least) return {room.limiter, missing_at(room, least), room.bytes, least};
  grant(requester, granted);
  return {};
}

Shortage GuaranteeClaim::attempt() noexcept {
  if (asked > node_->limit) return {node_, asked - node_->limit, node_->limit};
  while (true) {
    const Bytes growth = saturating_sub(std::max(asked, node_->charged), node_->charge());
    const Room room = room_at(requester);
    if (growth <= room.bytes) break;
    if (room.limiter->open_below == 0) {
      return {room.limiter, missing_at(room, growth), saturating_sub(asked, growth - room.bytes),
              growth};
    }
    close_leases(room.limiter, kAllLeases);
  }
  revoke_before_raise(requester, saturating_sub(asked, node_->charge()));
  const Bytes before = node_->charge();
  node_->guarantee = asked;
  climb(requester, saturating_sub(node_->charge(), before));
  descend(requester, saturating_sub(before, node_->charge()));
  settle(requester);
  return {};
}

// Makes the change and takes it back if it does not fit: nobody sees it meanwhile, and what
// the two paths share, guarantees included, needs no case of its own.
Shortage TransferClaim::attempt() noexcept {
  BudgetNode* const to = requester;
  while (true) {
    revoke_before_raise(to, asked);
    for (BudgetNode* at = to; at != nullptr; at = at->parent) at->before = at->charged;
    uncharge(from_, asked);
    charge(to, asked);
    BudgetNode* const over = first_over_limit();
    if (over == nullptr) break;
    const Bytes missing = over->charged - over->limit;
    uncharge(to, asked);
    charge(from_, asked);
    if (over->open_below == 0) return {over, missing, saturating_sub(asked, missing)};
    close_leases(over, kAllLeases);
  }
  settle(from_);
  settle(to);
  return {};
}

// A node that was over its limit before may stay so, but not grow.
BudgetNode* TransferClaim::first_over_limit() const noexcept {
  BudgetNode* at = requester;
  while (at != nullptr && at->charged <= std::max(at->limit, at->before)) at = at->parent;
  return at;
}

}  // namespace forebay::detail
