#include <pthread.h>

#include <algorithm>
#include <bit>
#include <new>
#include <thread>

#include "budget/listener.hpp"
#include "budget/node.hpp"
#include "budget/reclaimers.hpp"

namespace forebay::detail {
namespace {

// A lease may hold 1/256 of the least limit above it, up to 1 MiB, and all leases below a
// node together 1/8 of its limit: that much `charged` may differ from `used`. Under
// 256 KiB of limit there are none.
constexpr std::uint64_t kLeaseShare = 256;
constexpr std::uint64_t kMostLeased = 8;
constexpr Bytes kLargestLease{1 << 20};
constexpr Bytes kSmallestLease{1 << 10};
// Leases come back once 1/16 of the limit is free; right at the limit they would be closed
// again by the next request.
constexpr std::uint64_t kReopenShare = 16;

Bytes saturating_add(Bytes a, Bytes b) noexcept {
  return checked_add(a, b).value_or(Bytes::unlimited());
}

std::size_t size_with_leases() noexcept {
  return sizeof(BudgetNode) + lease_count() * sizeof(Lease);
}

Pressure pressure_at(const BudgetNode* node, Bytes charged) noexcept {
  if (charged >= node->critical_from) return Pressure::critical;
  return charged >= node->high_from ? Pressure::high : Pressure::normal;
}

Pressure lowest_pressure_at(const BudgetNode* node, Bytes charged) noexcept {
  if (charged > node->critical_until) return Pressure::critical;
  return charged > node->high_until ? Pressure::high : Pressure::normal;
}

void update_pressure(BudgetNode* node) noexcept {
  const Pressure before = node->pressure;
  const Pressure risen = pressure_at(node, node->charged);
  if (risen > node->pressure) {
    node->pressure = risen;
    ++node->warnings;
  } else if (risen < node->pressure) {
    node->pressure = std::min(node->pressure, lowest_pressure_at(node, node->charged));
  }
  if (node->pressure != before) record_event_of(node, EventKind::pressure, node->charged);
  if (node->pressure != node->announced) note_changed(node);
}

std::uint64_t own_lease_mask() noexcept {
  const std::uint32_t slot = this_thread.own_slot;
  return slot == ThreadState::kNone ? 0 : std::uint64_t{1} << slot;
}

bool has_room_for_lease(const BudgetNode* node, std::uint64_t cap) noexcept {
  return !node->shrinking &&
         saturating_sub(node->limit, node->charged) >= node->limit / kReopenShare &&
         (node->open_below + 1) * cap <= node->limit.count() / kMostLeased;
}

}  // namespace

namespace {

struct Trees {
  std::mutex mutex;
  Tree* first = nullptr;
};
constinit Trees g_trees;

}  // namespace

Tree::Tree(Clock& a_clock) : clock(a_clock) {}

void Tree::enter_list() noexcept {
  static const int prepared = ::pthread_atfork(
      [] { g_trees.mutex.lock(); }, [] { g_trees.mutex.unlock(); }, [] { g_trees.mutex.unlock(); });
  static_cast<void>(prepared);
  add_statistics_of(add_statistics);
  add_counters_of(show_budgets);
  const std::lock_guard lock{g_trees.mutex};
  listed = true;
  next = g_trees.first;
  if (next != nullptr) next->previous = this;
  g_trees.first = this;
}

Tree::~Tree() {
  if (!listed) return;
  const std::lock_guard lock{g_trees.mutex};
  (previous != nullptr ? previous->next : g_trees.first) = next;
  if (next != nullptr) next->previous = previous;
}

std::vector<BudgetStats> all_budgets() {
  std::vector<BudgetStats> all;
  const std::lock_guard lock{g_trees.mutex};
  for (Tree* tree = g_trees.first; tree != nullptr; tree = tree->next) {
    const Lock in_tree{tree->mutex};
    if (tree->root != nullptr) append_stats(tree->root, all);
  }
  return all;
}

namespace {

void show_node(BudgetNode* node, const CounterSink& sink) noexcept {
  const auto show = [&](std::string_view name, Bytes value) {
    sink.counter(sink.context, "budget", node->path, name, static_cast<double>(value.count()));
  };
  show("used_bytes", node->charged);  // leases, which take a walk to tell apart, included
  show("charged_bytes", node->charged);
  if (!node->limit.is_unlimited()) show("limit_bytes", node->limit);
  show("guarantee_bytes", node->guarantee);
  show("peak_bytes", node->peak);
  show("denials_total", Bytes{node->denials});
  for (BudgetNode* child : node->children) show_node(child, sink);
}

}  // namespace

void show_budgets(const CounterSink& sink) noexcept {
  if (!g_trees.mutex.try_lock()) return;
  for (Tree* tree = g_trees.first; tree != nullptr; tree = tree->next) {
    if (!tree->mutex.try_lock()) continue;
    if (tree->root != nullptr) show_node(tree->root, sink);
    tree->mutex.unlock();
  }
  g_trees.mutex.unlock();
}

std::uint32_t lease_count() noexcept {
  static const std::uint32_t count =
      std::clamp(std::bit_ceil(4 * std::max(1U, std::thread::hardware_concurrency())), 8U, 64U);
  return count;
}

void number_this_thread() noexcept {
  static std::atomic<std::uint32_t> next{0};
  ThreadState& state = this_thread;
  if (state.own_slot != ThreadState::kNone) return;
  state.own_slot = next.fetch_add(1, std::memory_order_relaxed) & (lease_count() - 1);
  if (state.callback == nullptr) state.slot = state.own_slot;
}

BudgetNode::BudgetNode(std::shared_ptr<Tree> a_tree, BudgetNode* a_parent, std::string a_name,
                       const BudgetOptions& options)
    : tree(std::move(a_tree)),
      parent(a_parent),
      name(std::move(a_name)),
      path(a_parent == nullptr ? name : a_parent->path + "/" + name),
      subject(detail::subject(path)),
      limit(options.limit),
      soft(options.soft),
      critical(options.critical),
      guarantee(options.guarantee) {
  derive_marks(this);
}

BudgetNode* BudgetNode::create(std::shared_ptr<Tree> tree, BudgetNode* parent, std::string name,
                               const BudgetOptions& options) {
  constexpr std::align_val_t kAlignment{alignof(BudgetNode)};
  void* memory = ::operator new(size_with_leases(), kAlignment);
  try {
    auto* node = new (memory) BudgetNode{std::move(tree), parent, std::move(name), options};
    std::uninitialized_default_construct_n(&node->lease(0), lease_count());
    if (parent == nullptr) node->tree->root = node;
    return node;
  } catch (...) {
    ::operator delete(memory, kAlignment);
    throw;
  }
}

void BudgetNode::destroy(BudgetNode* node) noexcept {
  if (node->parent == nullptr) node->tree->root = nullptr;
  node->~BudgetNode();
  ::operator delete (node, std::align_val_t{alignof(BudgetNode)});
}

bool BudgetNode::within(const BudgetNode* ancestor) const noexcept {
  const BudgetNode* at = this;
  while (at != nullptr && at != ancestor) at = at->parent;
  return at != nullptr;
}

void climb(BudgetNode* node, Bytes bytes) noexcept {
  for (; node != nullptr && !bytes.is_zero(); node = node->parent) {
    const Bytes before = node->charge();
    node->charged += bytes;
    bytes = node->charge() - before;
  }
}

void descend(BudgetNode* node, Bytes bytes) noexcept {
  for (; node != nullptr && !bytes.is_zero(); node = node->parent) {
    const Bytes before = node->charge();
    node->charged -= bytes;
    bytes = before - node->charge();
  }
}

void charge(BudgetNode* node, Bytes bytes) noexcept {
  node->own += bytes;
  climb(node, bytes);
}

void uncharge(BudgetNode* node, Bytes bytes) noexcept {
  node->own -= bytes;
  descend(node, bytes);
}

Room room_at(BudgetNode* node) noexcept {
  Room room{Bytes::unlimited(), node};
  Bytes within_guarantees;  // what would not climb as far as `at`
  for (BudgetNode* at = node; at != nullptr; at = at->parent) {
    const Bytes here = saturating_add(within_guarantees, saturating_sub(at->limit, at->charged));
    if (here < room.bytes) room = {here, at};
    within_guarantees =
        saturating_add(within_guarantees, saturating_sub(at->guarantee, at->charged));
  }
  return room;
}

Room exact_room(BudgetNode* node, Bytes wanted) noexcept {
  while (true) {
    const Room room = room_at(node);
    if (room.bytes >= wanted || room.limiter->open_below == 0) return room;
    close_leases(room.limiter, kAllLeases);
  }
}

void close_leases(BudgetNode* node, std::uint64_t mask) noexcept {
  if (node->open_below == 0) return;
  for (BudgetNode* child : node->children) close_leases(child, mask);
  std::uint64_t closing = node->open & mask;
  if (closing == 0) return;
  const auto count = static_cast<std::uint64_t>(std::popcount(closing));
  for (BudgetNode* at = node; at != nullptr; at = at->parent) at->open_below -= count;
  node->open &= ~closing;
  Bytes freed;
  for (; closing != 0; closing &= closing - 1) {
    freed += Bytes{node->lease(static_cast<std::uint32_t>(std::countr_zero(closing))).close()};
  }
  if (freed.is_zero()) return;
  uncharge(node, freed);
  settle(node);
}

void revoke_before_raise(BudgetNode* node, Bytes bytes) noexcept {
  BudgetNode* new_peak = nullptr;
  BudgetNode* new_pressure = nullptr;
  for (BudgetNode* at = node; at != nullptr && !bytes.is_zero(); at = at->parent) {
    const Bytes after = saturating_add(at->charged, bytes);
    if (after > at->peak) new_peak = at;
    if (pressure_at(at, after) > at->pressure) new_pressure = at;
    bytes = std::max(at->guarantee, after) - at->charge();
  }
  if (new_pressure != nullptr) close_leases(new_pressure, kAllLeases);
  if (new_peak != nullptr) close_leases(new_peak, own_lease_mask());
}

void grant(BudgetNode* node, Bytes bytes) noexcept {
  revoke_before_raise(node, bytes);
  charge(node, bytes);
  settle(node);
  record_event_of(node, EventKind::reserve, bytes);
}

bool keep_as_lease(BudgetNode* node, Bytes bytes) noexcept {
  const std::uint32_t slot = this_thread.slot;
  const std::uint64_t cap = node->lease_cap;
  if (slot == ThreadState::kNone || node->retired || bytes.count() > cap) return false;
  if ((node->open >> slot & 1) != 0) return false;  // open, but full
  bool climbs = true;
  for (BudgetNode* at = node; at != nullptr; at = at->parent) {
    if (at->waiting != 0 || (climbs && !has_room_for_lease(at, cap))) return false;
    climbs = climbs && at->charged > at->guarantee;
  }
  node->open |= std::uint64_t{1} << slot;
  for (BudgetNode* at = node; at != nullptr; at = at->parent) ++at->open_below;
  node->lease(slot).open(cap, bytes.count());
  return true;
}

void settle(BudgetNode* node) noexcept {
  for (BudgetNode* at = node; at != nullptr; at = at->parent) {
    at->peak = std::max(at->peak, at->charged);
    at->shrinking = at->shrinking && at->charged > at->limit;
    update_pressure(at);
  }
}

// An empty node feels no pressure, whatever its limit.
void derive_marks(BudgetNode* node) noexcept {
  node->high_from = std::max(Bytes{1}, fraction_of(node->limit, node->soft));
  node->critical_from = std::max(Bytes{1}, fraction_of(node->limit, node->critical));
  node->high_until = fraction_of(node->high_from, 0.95);
  node->critical_until = fraction_of(node->critical_from, 0.95);
}

void derive_lease_caps(BudgetNode* node) noexcept {
  Bytes least = Bytes::unlimited();
  for (const BudgetNode* at = node; at != nullptr; at = at->parent) {
    least = std::min(least, at->limit);
  }
  const Bytes cap = std::min(least / kLeaseShare, kLargestLease);
  node->lease_cap = cap < kSmallestLease ? 0 : cap.count();
  for (BudgetNode* child : node->children) derive_lease_caps(child);
}

void free_if_done(BudgetNode* node) noexcept {
  while (node != nullptr && node->retired && node->own.is_zero() && node->children.empty() &&
         node->pins == 0) {
    BudgetNode* parent = node->parent;
    forget_changed(node);
    detach_reclaimers(node);
    if (parent != nullptr) std::erase(parent->children, node);
    BudgetNode::destroy(node);
    node = parent;
  }
}

}  // namespace forebay::detail
