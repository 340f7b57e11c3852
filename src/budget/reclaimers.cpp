#include "budget/reclaimers.hpp"

#include <algorithm>
#include <exception>
#include <tuple>

namespace forebay {
namespace detail {
namespace {

void collect(BudgetNode* node, const BudgetNode* spare,
             std::vector<std::shared_ptr<ReclaimerEntry>>& found) {
  if (node == spare) return;
  found.insert(found.end(), node->reclaimers.begin(), node->reclaimers.end());
  for (BudgetNode* child : node->children) collect(child, spare, found);
}

}  // namespace

std::vector<std::shared_ptr<ReclaimerEntry>> reclaimers_under(BudgetNode* limiter,
                                                              const BudgetNode* spare) {
  std::vector<std::shared_ptr<ReclaimerEntry>> found;
  collect(limiter, spare, found);
  std::stable_sort(found.begin(), found.end(), [](const auto& a, const auto& b) {
    return std::tie(a->options.stage, a->options.priority) <
           std::tie(b->options.stage, b->options.priority);
  });
  return found;
}

Bytes reach_of(const ReclaimerEntry& entry, const BudgetNode* limiter,
               const BudgetNode* requester) noexcept {
  Bytes reach = Bytes::unlimited();
  for (const BudgetNode* at = entry.node; at != nullptr && at != limiter; at = at->parent) {
    if (requester->within(at)) break;
    reach = std::min(reach, saturating_sub(at->charged, at->guarantee));
  }
  return reach;
}

Given ask(const std::shared_ptr<ReclaimerEntry>& entry, const BudgetNode* limiter, Bytes goal,
          Lock& lock) noexcept {
  ReliefTally tally{limiter};
  Bytes claimed;
  const SubjectId asked_of = entry->node->subject;
  entry->reclaiming = true;
  call_unlocked(*entry->tree, lock, *entry, &tally,
                [&] { claimed = entry->reclaimer.reclaim(goal); });
  entry->reclaiming = false;
  ++entry->times_asked;
  record(EventKind::reclaim, asked_of, Bytes{tally.freed}, 0, this_tracking.context);
  return {Bytes{tally.freed}, claimed};
}

Bytes estimate(const std::shared_ptr<ReclaimerEntry>& entry, Lock& lock) noexcept {
  Bytes bytes;
  if (entry->node == nullptr) return bytes;
  call_unlocked(*entry->tree, lock, *entry, nullptr,
                [&] { bytes = entry->reclaimer.reclaimable(); });
  return bytes;
}

std::string why_kept(const std::shared_ptr<ReclaimerEntry>& entry, Lock& lock) {
  std::string why;
  if (entry->node == nullptr) return why;
  std::exception_ptr thrown;
  call_unlocked(*entry->tree, lock, *entry, nullptr, [&] {
    try {
      why = entry->reclaimer.kept_because();
    } catch (...) {
      thrown = std::current_exception();
    }
  });
  if (thrown != nullptr) std::rethrow_exception(thrown);
  return why;
}

void detach_reclaimers(BudgetNode* node) noexcept {
  for (const auto& entry : node->reclaimers) entry->node = nullptr;
  node->reclaimers.clear();
}

}  // namespace detail

ReclaimerRegistration::ReclaimerRegistration(std::shared_ptr<detail::ReclaimerEntry> entry) noexcept
    : entry_(std::move(entry)) {}

ReclaimerRegistration::ReclaimerRegistration(ReclaimerRegistration&& other) noexcept = default;

ReclaimerRegistration& ReclaimerRegistration::operator=(ReclaimerRegistration&& other) noexcept {
  if (this != &other) {
    reset();
    entry_ = std::move(other.entry_);
  }
  return *this;
}

void ReclaimerRegistration::reset() noexcept {
  const std::shared_ptr<detail::ReclaimerEntry> entry = std::move(entry_);
  if (entry == nullptr) return;
  detail::Lock lock{entry->tree->mutex};
  if (entry->node != nullptr) {
    std::erase(entry->node->reclaimers, entry);
    entry->node = nullptr;
  }
  detail::wait_for_calls(*entry->tree, lock, *entry);
}

}  // namespace forebay
