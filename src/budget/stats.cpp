// Looking at the tree: figures of nodes, and the check of the invariants.
//
// Leases are read one after the other while other threads use them. `charged` is exact;
// `used` of a node may lag by the operations that are under way. A snapshot closes all
// leases first, for it has to be one instant.

#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "budget/node.hpp"

namespace forebay {

std::string_view to_string(Pressure pressure) noexcept {
  switch (pressure) {
    case Pressure::normal:
      return "normal";
    case Pressure::high:
      return "high";
    case Pressure::critical:
      return "critical";
  }
  return "unknown";
}

namespace detail {
namespace {

Bytes used_at(BudgetNode* node) noexcept {
  Bytes used = node->own - leased_at(node);
  for (BudgetNode* child : node->children) used += used_at(child);
  return used;
}

// By how much `charged` would fall if all leases at and below were revoked.
Bytes revocable(BudgetNode* node) noexcept {
  if (node->open_below == 0) return Bytes{};
  Bytes bytes = leased_at(node);
  for (BudgetNode* child : node->children) {
    const Bytes without = saturating_sub(child->charged, revocable(child));
    bytes += child->charge() - std::max(child->guarantee, without);
  }
  return bytes;
}

BudgetStats stats_with(BudgetNode* node, Bytes used) {
  return {node->path,     node->limit,    node->guarantee,    used,
          node->charged,  node->peak,     available_at(node), node->denials,
          node->warnings, node->pressure, node->shrinking};
}

[[noreturn]] void broken(const BudgetNode* node, const char* invariant) noexcept {
  char why[512];
  fmt::format_to_n(why, sizeof why - 1, "{}: {}", node->path, invariant).out[0] = '\0';
  check_failed("validate", why, __FILE__, __LINE__);
}

void require(bool holds, const BudgetNode* node, const char* invariant) noexcept {
  if (!holds) broken(node, invariant);
}

void validate_leases(BudgetNode* node) noexcept {
  std::uint64_t below = static_cast<std::uint64_t>(std::popcount(node->open));
  for (BudgetNode* child : node->children) below += child->open_below;
  require(node->open_below == below, node, "count of open leases");
  for (std::uint32_t slot = 0; slot < lease_count(); ++slot) {
    const std::uint64_t cap = node->lease(slot).cap();
    const bool open = (node->open >> slot & 1) != 0;
    require(open ? cap != 0 : cap == 0 && node->lease(slot).bytes() == 0, node, "closed lease");
    require(!open || cap == node->lease_cap, node, "cap of a lease");
    require(node->lease(slot).bytes() <= cap, node, "lease <= its cap");
  }
}

void validate_node(BudgetNode* node) noexcept {
  require(node->charged <= node->limit || node->shrinking, node, "charged <= limit");
  require(node->guarantee <= node->limit, node, "guarantee <= limit");
  require(node->peak >= node->charged, node, "peak >= charged");
  Bytes charged = node->own;
  for (BudgetNode* child : node->children) {
    require(child->parent == node, child, "parent of a child");
    charged += child->charge();
  }
  require(node->charged == charged, node, "charged = own + the children's charges");
  validate_leases(node);
  for (BudgetNode* child : node->children) validate_node(child);
}

}  // namespace

// Bytes that moved from one lease to another while we looked may be seen in both.
Bytes leased_at(BudgetNode* node) noexcept {
  Bytes leased;
  for (std::uint64_t open = node->open; open != 0; open &= open - 1) {
    leased += Bytes{node->lease(static_cast<std::uint32_t>(std::countr_zero(open))).bytes()};
  }
  return std::min(leased, node->own);
}

// As room_at, with the leases counted as free.
Bytes available_at(BudgetNode* node) noexcept {
  Bytes available = Bytes::unlimited();
  Bytes within_guarantees;
  for (BudgetNode* at = node; at != nullptr; at = at->parent) {
    const Bytes charged = saturating_sub(at->charged, revocable(at));
    const auto here = checked_add(within_guarantees, saturating_sub(at->limit, charged));
    available = std::min(available, here.value_or(Bytes::unlimited()));
    within_guarantees = checked_add(within_guarantees, saturating_sub(at->guarantee, charged))
                            .value_or(Bytes::unlimited());
  }
  return available;
}

// `used` is known when the children have been seen.
Bytes append_stats(BudgetNode* node, std::vector<BudgetStats>& all) {
  const std::size_t index = all.size();
  Bytes used = node->own - leased_at(node);
  all.push_back(stats_with(node, used));
  for (BudgetNode* child : node->children) used += append_stats(child, all);
  all[index].used = used;
  return used;
}

BudgetStats stats_of(BudgetNode* node) { return stats_with(node, used_at(node)); }

std::vector<BudgetStats> snapshot_of(BudgetNode* node) {
  close_leases(node, kAllLeases);
  std::vector<BudgetStats> all;
  append_stats(node, all);
  return all;
}

void add_statistics(std::vector<StatisticsGroup>& groups) {
  const auto bytes = [](Bytes of) { return static_cast<double>(of.count()); };
  for (const BudgetStats& budget : all_budgets()) {
    groups.push_back({"budget",
                      budget.path,
                      {{"used_bytes", bytes(budget.used)},
                       {"charged_bytes", bytes(budget.charged)},
                       {"limit_bytes", bytes(budget.limit)},
                       {"guarantee_bytes", bytes(budget.guarantee)},
                       {"available_bytes", bytes(budget.available)},
                       {"peak_bytes", bytes(budget.peak)},
                       {"denials_total", static_cast<double>(budget.denials)},
                       {"warnings_total", static_cast<double>(budget.warnings)},
                       {"pressure", static_cast<double>(budget.pressure)}}});
  }
}

void validate_tree(BudgetNode* node) noexcept {
  while (node->parent != nullptr) node = node->parent;
  validate_node(node);
}

}  // namespace detail
}  // namespace forebay
