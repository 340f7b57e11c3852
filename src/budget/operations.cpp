#include <fmt/format.h>

#include <cstdio>

#include "budget/claim.hpp"
#include "budget/listener.hpp"
#include "budget/reclaimers.hpp"
#include "track/source.hpp"

namespace forebay::detail {
namespace {

// One slow operation: the lock, and what is owed at its end, however it ends.
class Operation {
 public:
  // Keeps the tree: a listener that is told at the end may destroy the last budget of it.
  explicit Operation(std::shared_ptr<Tree> a_tree) : tree_(std::move(a_tree)), lock(tree_->mutex) {
    number_this_thread();
  }
  Operation(const Operation&) = delete;
  Operation& operator=(const Operation&) = delete;
  ~Operation() {
    serve_waiters(*tree_);
#ifdef FOREBAY_PARANOID
    if (tree_->root != nullptr) validate_tree(tree_->root);
#endif
    tell_listeners(*tree_, lock);
  }

 private:
  const std::shared_ptr<Tree> tree_;

 public:
  Lock lock;
};

Status may_reserve() {
  if (this_thread.callback == nullptr) return {};
  return {Code::failed_precondition, "memory cannot be reserved inside a reclaimer or listener"};
}

Status still_there(const BudgetNode* node) {
  if (!node->retired) return {};
  return {Code::failed_precondition, fmt::format("budget '{}' is gone", node->path)};
}

bool name_is_taken(const BudgetNode* parent, const std::string& name) {
  for (const BudgetNode* child : parent->children) {
    if (!child->retired && child->name == name) return true;
  }
  return false;
}

void tally(const BudgetNode* node, Bytes bytes) noexcept {
  ReliefTally* counted = this_thread.tally;
  if (counted != nullptr && node->within(counted->limiter)) counted->freed += bytes.count();
}

void complain(const BudgetNode* node) noexcept {
  // A buffer of our own: there may be no memory for a string.
  char text[512];
  std::snprintf(text, sizeof text,
                "budget '%s' was destroyed with %llu bytes reserved and %zu children",
                node->path.c_str(), static_cast<unsigned long long>(node->own.count()),
                node->children.size());
#if defined(NDEBUG) && !defined(FOREBAY_PARANOID)
  std::fprintf(stderr, "forebay: %s\n", text);
#else
  check_failed("own == 0 && children.empty()", text, __FILE__, __LINE__);
#endif
}

}  // namespace

namespace {

Result<Bytes> reserve_locked(BudgetNode* node, Bytes bytes, const ReserveOptions& options,
                             bool try_only) {
  const Bytes least = options.minimum.value_or(bytes);
  if (least > bytes) {
    return Status{Code::invalid_argument, fmt::format("minimum {} is more than the {} asked for",
                                                      to_string(least), to_string(bytes))};
  }
  if (bytes.is_zero()) {
    pin(node);
    return bytes;
  }
  if (Status status = may_reserve(); !status.ok()) return status;
  GrowClaim claim{node, least, bytes};
  Operation operation{node->tree};
  Status status = still_there(node);
  if (status.ok()) {
    status = try_only ? try_obtain(claim, operation.lock)
             : options.timeout > Duration{0}
                 ? obtain_or_wait(claim, operation.lock, options.timeout)
                 : obtain(claim, operation.lock);
  }
  if (!status.ok()) return status;
  if (claim.granted.is_zero()) ++node->pins;
  return claim.granted;
}

}  // namespace

Result<Bytes> reserve_slow(BudgetNode* node, Bytes bytes, const ReserveOptions& options,
                           bool try_only) {
  Result<Bytes> granted = reserve_locked(node, bytes, options, try_only);
  if (!try_only && granted.status().code() == Code::memory_refused) {
    const auto tell = g_on_refusal.load(std::memory_order_acquire);
    if (tell != nullptr) tell();
  }
  return granted;
}

void release_slow(BudgetNode* node, Bytes bytes) noexcept {
  std::shared_ptr<Tree> tree;  // only where it may die with the node: a copy costs 8 ns
  const Operation operation{node->tree};
  if (node->retired) tree = node->tree;
  tally(node, bytes);
  if (keep_as_lease(node, bytes)) return;
  record_event_of(node, EventKind::release, bytes);
  uncharge(node, bytes);
  settle(node);
  free_if_done(node);
}

Result<BudgetNode*> add_child(BudgetNode* parent, std::string name, const BudgetOptions& options) {
  if (Status status = may_reserve(); !status.ok()) return status;
  BudgetOptions without_guarantee = options;
  without_guarantee.guarantee = Bytes{};
  struct Destroy {
    void operator()(BudgetNode* node) const noexcept { BudgetNode::destroy(node); }
  };
  std::unique_ptr<BudgetNode, Destroy> created{
      BudgetNode::create(parent->tree, parent, std::move(name), without_guarantee)};
  BudgetNode* const node = created.get();
  {
    const Operation operation{parent->tree};
    if (name_is_taken(parent, node->name)) {
      return Status{Code::invalid_argument,
                    fmt::format("budget '{}' already has a child '{}'", parent->path, node->name)};
    }
    parent->children.push_back(node);
    static_cast<void>(created.release());  // the parent's now
    derive_lease_caps(node);
  }
  struct Retire {
    void operator()(BudgetNode* child) const noexcept { retire(child); }
  };
  std::unique_ptr<BudgetNode, Retire> child{node};
  if (Status status = set_guarantee(node, options.guarantee); !status.ok()) return status;
  return child.release();
}

Status set_guarantee(BudgetNode* node, Bytes guarantee) {
  if (Status status = may_reserve(); !status.ok()) return status;
  Operation operation{node->tree};
  if (guarantee > node->limit) {
    return {Code::invalid_argument,
            fmt::format("budget '{}': guarantee {} is above its limit {}", node->path,
                        to_string(guarantee), to_string(node->limit))};
  }
  if (node->parent == nullptr) {
    node->guarantee = guarantee;
    return {};
  }
  GuaranteeClaim claim{node, guarantee};
  return obtain(claim, operation.lock);
}

Status set_limit(BudgetNode* node, Bytes limit) {
  const Operation operation{node->tree};
  if (limit < node->guarantee) {
    return {Code::invalid_argument,
            fmt::format("budget '{}': limit {} is below its guarantee {}", node->path,
                        to_string(limit), to_string(node->guarantee))};
  }
  close_leases(node, kAllLeases);
  node->limit = limit;
  derive_marks(node);
  node->shrinking = node->charged > limit;
  derive_lease_caps(node);
  settle(node);
  return {};
}

Status transfer(BudgetNode* from, BudgetNode* to, Bytes bytes) {
  if (from->tree != to->tree) {
    return {Code::failed_precondition,
            fmt::format("budgets '{}' and '{}' are of different trees", from->path, to->path)};
  }
  if (from == to) return {};
  if (Status status = may_reserve(); !status.ok()) return status;
  Operation operation{from->tree};
  if (bytes.is_zero()) {
    ++to->pins;
    --from->pins;
    free_if_done(from);
    return {};
  }
  TransferClaim claim{from, to, bytes};
  Status status = obtain(claim, operation.lock);
  if (status.ok()) free_if_done(from);
  return status;
}

void pin(BudgetNode* node) noexcept {
  const Lock lock{node->tree->mutex};
  ++node->pins;
}

void unpin(BudgetNode* node) noexcept {
  const std::shared_ptr<Tree> tree = node->tree;
  const Lock lock{tree->mutex};
  --node->pins;
  free_if_done(node);
}

void retire(BudgetNode* node) noexcept {
  const std::shared_ptr<Tree> tree = node->tree;
  std::shared_ptr<ListenerEntry> listener;  // dies after the lock
  Operation operation{tree};
  listener = replace_listener(node, operation.lock, nullptr);
  close_leases(node, kAllLeases);
  if (!node->own.is_zero() || !node->children.empty()) complain(node);
  const Bytes before = node->charge();
  node->retired = true;
  node->guarantee = Bytes{};
  if (node->parent != nullptr) {
    descend(node->parent, before - node->charge());
    settle(node->parent);
  }
  forget_changed(node);
  free_if_done(node);
}

}  // namespace forebay::detail
