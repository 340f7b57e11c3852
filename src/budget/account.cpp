// The account of a refusal: who holds what, and what would help.

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "budget/claim.hpp"
#include "budget/reclaimers.hpp"
#include "track/stack.hpp"

namespace forebay::detail {
namespace {

constexpr std::size_t kMostHolders = 3;

Bytes reserved_at(BudgetNode* node) noexcept { return saturating_sub(node->own, leased_at(node)); }

void collect_holders(BudgetNode* node, std::vector<BudgetNode*>& holders) {
  if (!reserved_at(node).is_zero()) holders.push_back(node);
  for (BudgetNode* child : node->children) collect_holders(child, holders);
}

std::vector<BudgetNode*> largest_holders(BudgetNode* limiter) {
  std::vector<BudgetNode*> holders;
  collect_holders(limiter, holders);
  const auto larger = [](BudgetNode* a, BudgetNode* b) { return reserved_at(a) > reserved_at(b); };
  std::stable_sort(holders.begin(), holders.end(), larger);
  if (holders.size() > kMostHolders) holders.resize(kMostHolders);
  return holders;
}

// The one that keeps most without using it.
const BudgetNode* idlest_guarantee(const BudgetNode* node, const BudgetNode* requester) noexcept {
  const BudgetNode* idlest = nullptr;
  const auto idle = [](const BudgetNode* of) {
    return of == nullptr ? Bytes{} : saturating_sub(of->guarantee, of->charged);
  };
  for (const BudgetNode* child : node->children) {
    const BudgetNode* below = idlest_guarantee(child, requester);
    for (const BudgetNode* candidate : {child, below}) {
      if (idle(candidate) > idle(idlest) && !requester->within(candidate)) idlest = candidate;
    }
  }
  return idlest;
}

// A size that can be typed back: to_string's rounding would make "at least" too little.
std::string exact(Bytes bytes) {
  std::string text = to_string(bytes);
  const Result<Bytes> read = parse_bytes(text);
  if (!bytes.is_unlimited() && (!read || *read != bytes)) text = fmt::format("{} B", bytes.count());
  return text;
}

std::string advise_limits(const Claim& claim, const Shortage& shortage) {
  std::string advice;
  const auto add = [&](const BudgetNode* node, std::optional<Bytes> enough) {
    advice += fmt::format("{} {} to at least {}", advice.empty() ? "raise the limit of" : " and of",
                          node->path, exact(enough.value_or(Bytes::unlimited())));
  };
  add(shortage.limiter, checked_add(shortage.limiter->limit, shortage.missing));
  Bytes climbing = shortage.wanted;
  for (const BudgetNode* at = claim.requester; at != nullptr; at = at->parent) {
    const bool fits = climbing <= saturating_sub(at->limit, at->charged);
    if (at != shortage.limiter && !fits) add(at, checked_add(at->charged, climbing));
    climbing = saturating_sub(climbing, saturating_sub(at->guarantee, at->charged));
  }
  return advice;
}

std::vector<std::string> advise(const Claim& claim, const Shortage& shortage,
                                const std::vector<BudgetNode*>& holders) {
  std::vector<std::string> advice;
  if (!shortage.room.is_zero()) {
    advice.push_back(fmt::format("reserve at most {}", exact(shortage.room)));
  }
  if (!holders.empty()) {
    advice.push_back(fmt::format("release or shrink {}, which holds {}", holders.front()->path,
                                 to_string(reserved_at(holders.front()))));
  }
  if (const BudgetNode* idlest = idlest_guarantee(shortage.limiter, claim.requester)) {
    advice.push_back(fmt::format("lower the guarantee of {}, of which {} is unused", idlest->path,
                                 to_string(idlest->guarantee - idlest->charged)));
  }
  advice.push_back(advise_limits(claim, shortage));
  return advice;
}

void name_requester(Refusal& refusal) {
  const ContextName name = name_of(this_tracking.context);
  refusal.tag = name.tag;
  refusal.owner = name.owner;
  if (!std::exchange(this_tracking.knows_its_stack, true)) know_this_threads_stack();
  refusal.stack = capture_and_intern(StackMethod::automatic, nullptr);
}

}  // namespace

Status refuse(const Claim& claim, const Shortage& shortage, Bytes reclaimed, bool ask_holders,
              Lock& lock) {
  BudgetNode* const limiter = shortage.limiter;
  ++limiter->denials;
  record_event_of(limiter, EventKind::deny, claim.asked);
  const std::vector<BudgetNode*> holders = largest_holders(limiter);
  Refusal refusal{limiter->path,
                  claim.asked,
                  limiter->charged,
                  limiter->limit,
                  reclaimed,
                  {},
                  advise(claim, shortage, holders)};
  name_requester(refusal);
  std::vector<std::vector<std::shared_ptr<ReclaimerEntry>>> reclaimers;
  for (BudgetNode* holder : holders) {
    refusal.holders.push_back({holder->path, reserved_at(holder), Bytes{}});
    reclaimers.push_back(ask_holders ? holder->reclaimers : decltype(holder->reclaimers){});
  }
  // From here on the lock is let go of, and the holders may be gone.
  for (std::size_t i = 0; i < reclaimers.size(); ++i) {
    Holder& holder = refusal.holders[i];
    for (const auto& entry : reclaimers[i]) {
      const Bytes could = estimate(entry, lock);
      holder.reclaimable += std::min(could, holder.used - holder.reclaimable);
    }
  }
  for (const auto& [entry, answer] : claim.answers) {
    refusal.reclaimers.push_back(answer);
    refusal.reclaimers.back().left = estimate(entry, lock);
    refusal.reclaimers.back().kept = why_kept(entry, lock);
  }
  return Status{std::move(refusal)};
}

}  // namespace forebay::detail
