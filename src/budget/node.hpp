// The tree of budgets: its state, and the arithmetic of charging it.
//
// Everything here but the leases is guarded by the tree's one mutex. The fast path (a lease
// of the calling thread) is in budget.cpp and takes no lock; all else is a slow operation:
// lock, change, settle(), finish().
//
// The invariants are those of budget.hpp; validate() in stats.cpp checks them.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "budget/lease.hpp"
#include "forebay/budget.hpp"
#include "track/hooks.hpp"
#include "track/source.hpp"

namespace forebay::detail {

class ReclaimerEntry;
struct ListenerEntry;
struct Waiter;

// Proof that the tree's mutex is held.
using Lock = std::unique_lock<std::mutex>;

// What the nodes of one tree share. Dies with the last of them.
struct Tree {
  explicit Tree(Clock& a_clock);
  ~Tree();
  Tree(const Tree&) = delete;
  Tree& operator=(const Tree&) = delete;

  // Of the process; once the root is whole.
  void enter_list() noexcept;

  std::mutex mutex;
  std::condition_variable call_ended;  // of a reclaimer or listener
  Clock& clock;
  BudgetNode* root = nullptr;      // null once it is gone
  Waiter* first_waiter = nullptr;  // in order of arrival
  Waiter* last_waiter = nullptr;
  std::uint64_t serving = 0;      // number of the latest walk over the waiters
  BudgetNode* changed = nullptr;  // nodes whose listener has yet to hear of their pressure
  bool listed = false;
  Tree* next = nullptr;  // of the process
  Tree* previous = nullptr;
};

class alignas(kCacheLine) BudgetNode {
 public:
  // The node is followed in memory by its leases: one pointer less on the fast path.
  static BudgetNode* create(std::shared_ptr<Tree> tree, BudgetNode* parent, std::string name,
                            const BudgetOptions& options);
  static void destroy(BudgetNode* node) noexcept;
  BudgetNode(const BudgetNode&) = delete;
  BudgetNode& operator=(const BudgetNode&) = delete;

  Lease& lease(std::uint32_t slot) noexcept { return reinterpret_cast<Lease*>(this + 1)[slot]; }
  // Null before the thread is numbered, and inside a callback.
  Lease* lease_of_this_thread() noexcept {
    const std::uint32_t slot = this_thread.slot;
    return slot == ThreadState::kNone ? nullptr : &lease(slot);
  }
  // What its parent is charged for it.
  Bytes charge() const noexcept { return guarantee > charged ? guarantee : charged; }
  bool within(const BudgetNode* ancestor) const noexcept;

  std::shared_ptr<Tree> tree;
  BudgetNode* parent;
  std::string name;
  std::string path;
  const SubjectId subject;  // of its events
  std::vector<BudgetNode*> children;

  Bytes limit;
  const double soft;
  const double critical;
  Bytes guarantee;
  // From limit, soft and critical, by derive_marks(): pressure rises from here, and falls
  // again only 5 % below.
  Bytes high_from;
  Bytes high_until;
  Bytes critical_from;
  Bytes critical_until;

  Bytes own;      // reservations and leases of this node itself
  Bytes charged;  // own + the children's charges
  Bytes before;   // scratch of a transfer: `charged` before it
  Bytes peak;
  std::uint64_t denials = 0;
  std::uint64_t warnings = 0;
  Pressure pressure = Pressure::normal;
  bool shrinking = false;  // the limit was set below `charged`, and still is
  bool retired = false;    // its Budget is gone; it goes when its bytes and children are
  std::uint64_t pins = 0;  // empty reservations and metered resources that point here

  std::uint64_t open = 0;        // bit i: lease i is open
  std::uint64_t open_below = 0;  // open leases here and below
  std::uint64_t lease_cap = 0;   // for leases opened from now on

  std::uint64_t waiting = 0;  // waiters for which this node is the limiting one
  std::uint64_t stuck = 0;    // the latest walk in which a waiter found no room here

  std::vector<std::shared_ptr<ReclaimerEntry>> reclaimers;
  std::shared_ptr<ListenerEntry> listener;
  Pressure announced = Pressure::normal;  // what the listener was told last
  bool in_changed = false;
  BudgetNode* next_changed = nullptr;

 private:
  BudgetNode(std::shared_ptr<Tree> a_tree, BudgetNode* a_parent, std::string a_name,
             const BudgetOptions& options);
  ~BudgetNode() = default;
};

// The most that could be charged at a node now, and the node that allows no more.
struct Room {
  Bytes bytes;
  BudgetNode* limiter;
};

inline constexpr std::uint64_t kAllLeases = ~std::uint64_t{0};

// ---- tree.cpp: charging. REQUIRES for all: the tree's mutex is held.

// The plain arithmetic, without the effects of settle().
void charge(BudgetNode* node, Bytes bytes) noexcept;
void uncharge(BudgetNode* node, Bytes bytes) noexcept;
// The same for a change of what `node` charges its parent.
void climb(BudgetNode* node, Bytes bytes) noexcept;
void descend(BudgetNode* node, Bytes bytes) noexcept;

// By the counters as they are, leases included.
Room room_at(BudgetNode* node) noexcept;
// Closes leases until `wanted` fits or the limiting node has none open: the room is then
// exact, for whatever could change it has to wait for the mutex.
Room exact_room(BudgetNode* node, Bytes wanted) noexcept;
// Closes those leases in `mask` at and below `node`, and uncharges what was in them.
void close_leases(BudgetNode* node, std::uint64_t mask) noexcept;
// Before a charge: closes the leases without which it would raise no peak (one thread's own,
// so that its peak is its highest use) and no pressure (nobody is warned for want of a lease).
void revoke_before_raise(BudgetNode* node, Bytes bytes) noexcept;
inline void record_event_of(const BudgetNode* node, EventKind kind, Bytes bytes) noexcept {
  record(kind, node->subject, bytes, 0, this_tracking.context);
}
// Charges what is known to fit.
void grant(BudgetNode* node, Bytes bytes) noexcept;
// Keeps the bytes as a lease of this thread, if nobody could miss them.
bool keep_as_lease(BudgetNode* node, Bytes bytes) noexcept;
// Peak, pressure, shrinking: what follows from a change of `charged` from `node` to the root.
void settle(BudgetNode* node) noexcept;
void derive_marks(BudgetNode* node) noexcept;
// Sets the caps of the leases at and below, from the limits above.
void derive_lease_caps(BudgetNode* node) noexcept;
// Frees the node, and then its parents, where retired and no longer pointed to.
void free_if_done(BudgetNode* node) noexcept;

// ---- operations.cpp: the slow operations. They take the lock themselves.

// `try_only`: no reclaiming, no waiting. The result is what was granted.
Result<Bytes> reserve_slow(BudgetNode* node, Bytes bytes, const ReserveOptions& options,
                           bool try_only);
void release_slow(BudgetNode* node, Bytes bytes) noexcept;
Result<BudgetNode*> add_child(BudgetNode* parent, std::string name, const BudgetOptions& options);
Status set_guarantee(BudgetNode* node, Bytes guarantee);
Status set_limit(BudgetNode* node, Bytes limit);
Status transfer(BudgetNode* from, BudgetNode* to, Bytes bytes);
// Counts a reservation without bytes, or a metered resource: the node outlives it.
void pin(BudgetNode* node) noexcept;
void unpin(BudgetNode* node) noexcept;
// The Budget is gone.
void retire(BudgetNode* node) noexcept;

// One lease operation, or the slow one.
inline void release_bytes(BudgetNode* node, Bytes bytes) noexcept {
  Lease* lease = node->lease_of_this_thread();
  if (lease != nullptr && lease->put(bytes.count())) [[likely]] {
    return;
  }
  release_slow(node, bytes);
}

// ---- stats.cpp

Bytes leased_at(BudgetNode* node) noexcept;  // of the node itself
Bytes available_at(BudgetNode* node) noexcept;
BudgetStats stats_of(BudgetNode* node);
// Adds the node and all below, parents first; with the tree's mutex. The result is what is used.
Bytes append_stats(BudgetNode* node, std::vector<BudgetStats>& all);
std::vector<BudgetStats> all_budgets();
void add_statistics(std::vector<StatisticsGroup>& groups);  // a group a budget
void show_budgets(const CounterSink& sink) noexcept;
std::vector<BudgetStats> snapshot_of(BudgetNode* node);
void validate_tree(BudgetNode* node) noexcept;

}  // namespace forebay::detail
