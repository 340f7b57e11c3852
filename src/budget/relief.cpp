// Making room: reclaimers in order, then a place in the queue, then the refusal.

#include <algorithm>
#include <new>

#include "budget/claim.hpp"
#include "budget/reclaimers.hpp"

namespace forebay::detail {

// A thread in the queue, on its own stack.
struct Waiter {
  GrowClaim& claim;
  BudgetNode* limiter;
  std::condition_variable granted;
  bool done = false;
  Waiter* previous = nullptr;
  Waiter* next = nullptr;
};

namespace {

using Entries = std::vector<std::shared_ptr<ReclaimerEntry>>;

// Each round either moves the counters or is the last; this bounds what a thread does for
// others that take each time what it freed.
constexpr int kMostRounds = 16;

// One request's relief.
class Relief {
 public:
  Relief(Claim& claim, Lock& lock, Shortage shortage) noexcept
      : claim_(claim), lock_(lock), shortage_(shortage) {}

  // Until granted, or nothing moves.
  Shortage run() {
    if (hopeless()) return shortage_;
    for (int round = 0; round < kMostRounds && shortage_.limiter != nullptr; ++round) {
      moved_ = Bytes{};
      busy_ = nullptr;
      BudgetNode* const limiter = shortage_.limiter;
      ask_all(limiter, reclaimers_under(limiter, claim_.spare));
      reclaimed_ += moved_;
      if (shortage_.limiter != limiter || !moved_.is_zero()) continue;
      if (busy_ == nullptr) break;
      wait_for_other_thread(*busy_);
    }
    return shortage_;
  }

  Bytes reclaimed() const noexcept { return reclaimed_; }

  // It would not fit if all else were gone: nothing is to be lost for it. Zero wanted (a
  // transfer) is not known to be.
  bool hopeless() const noexcept {
    Bytes climbing = shortage_.wanted;
    for (const BudgetNode* at = claim_.requester; at != nullptr; at = at->parent) {
      if (climbing > at->limit) return true;
      climbing = saturating_sub(climbing, at->guarantee);
    }
    return false;
  }

 private:
  bool going_on(const BudgetNode* limiter) const noexcept { return shortage_.limiter == limiter; }

  void ask_all(const BudgetNode* limiter, const Entries& entries) {
    for (auto first = entries.begin(); first != entries.end() && going_on(limiter);) {
      const auto last = std::find_if(first, entries.end(), [&](const auto& entry) {
        return entry->options.stage != (*first)->options.stage ||
               entry->options.priority != (*first)->options.priority;
      });
      ask_peers(limiter, {first, last});
      first = last;
    }
  }

  // Equals give in proportion to what they could; then, if that was not enough, all.
  void ask_peers(const BudgetNode* limiter, const Entries& peers) {
    if (peers.size() > 1) ask_shares(limiter, peers);
    for (const auto& peer : peers) {
      if (going_on(limiter)) ask_one(limiter, peer, shortage_.missing);
    }
  }

  void ask_shares(const BudgetNode* limiter, const Entries& peers) {
    std::vector<Bytes> could;
    could.reserve(peers.size());
    double total = 0;
    for (const auto& peer : peers) {
      could.push_back(estimate(peer, lock_));
      total += static_cast<double>(could.back().count());
    }
    if (total == 0) return;
    const auto missing = static_cast<double>(shortage_.missing.count());
    for (std::size_t i = 0; i < peers.size() && going_on(limiter); ++i) {
      const double share = missing * (static_cast<double>(could[i].count()) / total);
      // + 1: rounded up, so that the shares of the whole are not less than the whole.
      const Bytes goal{share < missing ? static_cast<std::uint64_t>(share) + 1
                                       : shortage_.missing.count()};
      if (!could[i].is_zero()) ask_one(limiter, peers[i], std::min(goal, shortage_.missing));
    }
  }

  void ask_one(const BudgetNode* limiter, const std::shared_ptr<ReclaimerEntry>& entry,
               Bytes goal) {
    if (entry->node == nullptr) return;
    if (entry->reclaiming) {
      busy_ = entry;
      return;
    }
    goal = std::min(goal, reach_of(*entry, limiter, claim_.requester));
    if (goal.is_zero()) return;
    const Bytes missing = shortage_.missing;
    ReclaimAnswer& answer = answer_of(entry);  // before: it may not fail when bytes were given
    const auto [freed, claimed] = ask(entry, limiter, goal, lock_);
    answer.asked += goal;
    answer.freed += freed;
    answer.claimed = checked_add(answer.claimed, claimed).value_or(Bytes::unlimited());
    shortage_ = claim_.attempt();
    const Bytes gained = shortage_.limiter == nullptr ? Bytes{}
                         : going_on(limiter)          ? saturating_sub(missing, shortage_.missing)
                                                      : Bytes{};
    moved_ += std::max(freed, gained);
  }

  ReclaimAnswer& answer_of(const std::shared_ptr<ReclaimerEntry>& entry) {
    for (auto& [asked, answer] : claim_.answers) {
      if (asked == entry) return answer;
    }
    const std::string& name = entry->options.name;
    claim_.answers.push_back({entry, {.name = name.empty() ? entry->node->path : name}});
    return claim_.answers.back().second;
  }

  // As long as a call of this thread's own would have taken: its reclaimer may not wait for
  // a thread that waits for memory.
  void wait_for_other_thread(ReclaimerEntry& entry) noexcept {
    const std::uint64_t before = entry.times_asked;
    while (entry.reclaiming && entry.times_asked == before) entry.tree->call_ended.wait(lock_);
    shortage_ = claim_.attempt();
  }

  Claim& claim_;
  Lock& lock_;
  Shortage shortage_;
  Bytes moved_;
  Bytes reclaimed_;
  std::shared_ptr<ReclaimerEntry> busy_;
};

void enqueue(Tree& tree, Waiter& waiter) noexcept {
  waiter.previous = tree.last_waiter;
  (tree.last_waiter == nullptr ? tree.first_waiter : tree.last_waiter->next) = &waiter;
  tree.last_waiter = &waiter;
  ++waiter.limiter->waiting;
  // Every release below must now reach the waiters.
  close_leases(waiter.limiter, kAllLeases);
}

void dequeue(Tree& tree, Waiter& waiter) noexcept {
  (waiter.previous == nullptr ? tree.first_waiter : waiter.previous->next) = waiter.next;
  (waiter.next == nullptr ? tree.last_waiter : waiter.next->previous) = waiter.previous;
  --waiter.limiter->waiting;
}

// Whoever grants takes the waiter out of the queue; if nobody did, its own thread does.
struct InQueue {
  InQueue(Tree& a_tree, Waiter& a_waiter) noexcept : tree(a_tree), waiter(a_waiter) {
    enqueue(tree, waiter);
  }
  InQueue(const InQueue&) = delete;
  InQueue& operator=(const InQueue&) = delete;
  ~InQueue() {
    if (!waiter.done) dequeue(tree, waiter);
  }
  Tree& tree;
  Waiter& waiter;
};

// The nodes where the claim's charge would climb, while `wanted` says to go on.
template <typename Wanted>
BudgetNode* first_charged(const Claim& claim, Wanted&& wanted) noexcept {
  Bytes bytes = claim.least;
  for (BudgetNode* at = claim.requester; at != nullptr && !bytes.is_zero(); at = at->parent) {
    if (wanted(*at)) return at;
    bytes = saturating_sub(bytes, saturating_sub(at->guarantee, at->charged));
  }
  return nullptr;
}

Clock::TimePoint deadline_after(const Clock& clock, Duration timeout) noexcept {
  const Clock::TimePoint now = clock.now();
  return timeout > Clock::TimePoint::max() - now ? Clock::TimePoint::max() : now + timeout;
}

// A last attempt is made when time is up, out of turn: what fits is not refused.
Shortage wait(GrowClaim& claim, BudgetNode* limiter, Lock& lock, Clock::TimePoint deadline) {
  Tree& tree = *claim.requester->tree;
  Waiter waiter{claim, limiter, {}, false, nullptr, nullptr};
  {
    const InQueue in_queue{tree, waiter};
    serve_waiters(tree);
    while (!waiter.done && tree.clock.now() < deadline) {
      tree.clock.wait_until(waiter.granted, lock, deadline);
    }
  }
  return waiter.done ? Shortage{} : claim.attempt();
}

}  // namespace

Status try_obtain(Claim& claim, Lock& lock) {
  const Shortage shortage = claim.attempt();
  if (shortage.limiter == nullptr) return {};
  return refuse(claim, shortage, Bytes{}, false, lock);
}

Status obtain(Claim& claim, Lock& lock) {
  Relief relief{claim, lock, claim.attempt()};
  const Shortage shortage = relief.run();
  if (shortage.limiter == nullptr) return {};
  return refuse(claim, shortage, relief.reclaimed(), true, lock);
}

Status obtain_or_wait(GrowClaim& claim, Lock& lock, Duration timeout) {
  const auto deadline = deadline_after(claim.requester->tree->clock, timeout);
  BudgetNode* queue = first_charged(claim, [](const BudgetNode& at) { return at.waiting != 0; });
  const bool goes_first = queue == nullptr;
  Bytes reclaimed;
  if (goes_first) {
    Relief relief{claim, lock, claim.attempt()};
    const Shortage shortage = relief.run();
    if (shortage.limiter == nullptr) return {};
    // What can never fit must not stand in the way of those behind it.
    if (relief.hopeless()) return refuse(claim, shortage, Bytes{}, true, lock);
    queue = shortage.limiter;
    reclaimed = relief.reclaimed();
  }
  Shortage shortage = wait(claim, queue, lock, deadline);
  if (shortage.limiter != nullptr && !goes_first) {
    Relief relief{claim, lock, shortage};
    shortage = relief.run();
    reclaimed = relief.reclaimed();
  }
  if (shortage.limiter == nullptr) return {};
  return refuse(claim, shortage, reclaimed, true, lock);
}

void serve_waiters(Tree& tree) noexcept {
  if (tree.first_waiter == nullptr) return;
  const std::uint64_t walk = ++tree.serving;
  for (Waiter* waiter = tree.first_waiter; waiter != nullptr;) {
    Waiter& served = *waiter;
    waiter = waiter->next;
    const auto is_stuck = [walk](const BudgetNode& at) { return at.stuck == walk; };
    if (first_charged(served.claim, is_stuck) != nullptr) continue;
    const Shortage shortage = served.claim.attempt();
    if (shortage.limiter == nullptr) {
      dequeue(tree, served);
      served.done = true;
      served.granted.notify_one();
      continue;
    }
    --served.limiter->waiting;
    served.limiter = shortage.limiter;
    ++served.limiter->waiting;
    served.limiter->stuck = walk;
  }
}

}  // namespace forebay::detail
