// LIRS: who was asked for twice within a short time stays; the rest passes through a small queue.
// Jiang and Zhang, "LIRS: An Efficient Low Inter-reference Recency Set Replacement Policy",
// SIGMETRICS 2002. Blocks are bytes here, and the names of those who went are bounded.
#include <algorithm>
#include <new>

#include "cache/entry_list.hpp"
#include "cache/key_index.hpp"
#include "cache/policies/makers.hpp"

namespace forebay::detail {
namespace {

// The paper's hundredth for entries without merit.
constexpr std::uint64_t kHirPart = 100;
// Names remembered, in capacities; the paper has no bound.
constexpr std::uint64_t kGhostCapacities = 2;

enum class State : std::uint8_t { none, lir, hir, ghost };

// An HIR entry's links are those of the queue, a ghost's those of the ghosts by age.
struct LirsNode : EntryLinks {
  std::uint64_t hash = 0;
  std::uint64_t bytes = 0;
  EntryId id = kNoEntry;
  State state = State::none;
  bool stacked = false;
};

// Nodes have numbers of their own, as ghosts have no entry.
// Invariants: the stack's oldest is LIR; every LIR and every ghost is in the stack; there are at
// least as many nodes as entry numbers, so that a ghost's node can always be had.
class LirsPolicy final : public EvictionPolicy {
 public:
  explicit LirsPolicy(const PolicyOptions& options) noexcept { set_capacity(options.capacity); }

  PolicyKind kind() const noexcept override { return PolicyKind::lirs; }

  void hit(EntryId id) noexcept override {
    const EntryId node = node_of_[id];
    if (nodes_[node].state == State::lir) {
      push(node);
      prune();
    } else if (nodes_[node].stacked) {
      queue_.remove(nodes_, node);
      hir_bytes_ -= nodes_[node].bytes;
      make_lir(node);
    } else {
      push(node);
      queue_.renew(nodes_, node);
    }
  }

  void missed(const EntryFacts& incoming) override {
    incoming_hash_ = incoming.hash;
    asked_for_ = true;
  }

  EntryId victim(const EntryFacts& /*incoming*/) noexcept override {
    if (queue_.empty()) demote();
    return nodes_[queue_.oldest()].id;
  }

  void evicted(EntryId id) noexcept override {
    const EntryId node = node_of_[id];
    leave(node);
    if (nodes_[node].stacked) {
      make_ghost(node);
    } else {
      release(node);
    }
    bound_ghosts();
  }

  void inserted(EntryId id, const EntryFacts& facts) override {
    make_room(id);
    const bool asked_for = asked_for_ && incoming_hash_ == facts.hash;
    asked_for_ = false;
    const EntryId ghost = find_ghost(facts.hash);
    const EntryId node = ghost != kNoEntry ? ghost : new_node();
    if (ghost != kNoEntry) forget_name(ghost);
    nodes_[node].hash = facts.hash;
    nodes_[node].bytes = facts.bytes;
    nodes_[node].id = id;
    node_of_[id] = node;
    // One that comes without having been asked for was in a cache before: it takes its place above
    // those who came earlier, as in the order of the policy it came from.
    const bool filling = lir_bytes_ + hir_bytes_ + facts.bytes <= lir_limit_;
    if (ghost != kNoEntry || filling || !asked_for) {
      make_lir(node);
    } else {
      nodes_[node].state = State::hir;
      push(node);
      queue_.add_newest(nodes_, node);
      hir_bytes_ += facts.bytes;
    }
  }

  void erased(EntryId id) noexcept override {
    const EntryId node = node_of_[id];
    leave(node);
    if (nodes_[node].stacked) unstack(node);
    release(node);
    prune();
  }

  void updated(EntryId id, const EntryFacts& facts) noexcept override {
    LirsNode& node = nodes_[node_of_[id]];
    (node.state == State::lir ? lir_bytes_ : hir_bytes_) += facts.bytes - node.bytes;
    node.bytes = facts.bytes;
    hit(id);
    while (lir_bytes_ > lir_limit_ && lir_count_ > 1) demote();
  }

  void resized(std::uint64_t capacity) override {
    set_capacity(capacity);
    while (lir_bytes_ > lir_limit_ && lir_count_ > 1) demote();
    bound_ghosts();
  }

  void order(std::vector<EntryId>& entries) const override {
    entries.reserve(entries.size() + lir_count_ + queue_.size());
    queue_.for_each(nodes_, [&](EntryId node) { entries.push_back(nodes_[node].id); });
    stack_.for_each(links_, [&](EntryId node) {
      if (nodes_[node].state == State::lir) entries.push_back(nodes_[node].id);
    });
  }

  std::size_t metadata_bytes() const noexcept override {
    return nodes_.metadata_bytes() + links_.metadata_bytes() + index_.metadata_bytes() +
           (node_of_.capacity() + free_.capacity()) * sizeof(EntryId);
  }

 private:
  void set_capacity(std::uint64_t capacity) noexcept {
    lir_limit_ = capacity - std::max<std::uint64_t>(capacity / kHirPart, 1);
    ghost_limit_ = kGhostCapacities * capacity;
  }

  // On top of the stack.
  void push(EntryId node) noexcept {
    if (nodes_[node].stacked) {
      stack_.renew(links_, node);
    } else {
      stack_.add_newest(links_, node);
      nodes_[node].stacked = true;
    }
  }
  void unstack(EntryId node) noexcept {
    stack_.remove(links_, node);
    nodes_[node].stacked = false;
  }
  // REQUIRES: in no queue.
  void make_lir(EntryId node) noexcept {
    nodes_[node].state = State::lir;
    push(node);
    lir_bytes_ += nodes_[node].bytes;
    ++lir_count_;
    while (lir_bytes_ > lir_limit_ && lir_count_ > 1) demote();
    prune();
  }
  // The LIR entry that was not asked for the longest goes to the queue.
  void demote() noexcept {
    const EntryId node = stack_.oldest();
    lir_bytes_ -= nodes_[node].bytes;
    --lir_count_;
    unstack(node);
    nodes_[node].state = State::hir;
    queue_.add_newest(nodes_, node);
    hir_bytes_ += nodes_[node].bytes;
    prune();
  }
  void prune() noexcept {
    for (EntryId node = stack_.oldest(); node != kNoEntry && nodes_[node].state != State::lir;
         node = stack_.oldest()) {
      unstack(node);
      if (nodes_[node].state == State::ghost) {
        forget_name(node);
        release(node);
      }
    }
  }
  // Its bytes are not in the cache any more.
  void leave(EntryId node) noexcept {
    if (nodes_[node].state == State::lir) {
      lir_bytes_ -= nodes_[node].bytes;
      --lir_count_;
    } else {
      hir_bytes_ -= nodes_[node].bytes;
      queue_.remove(nodes_, node);
    }
    nodes_[node].state = State::none;
  }

  void make_ghost(EntryId node) noexcept {
    nodes_[node].state = State::ghost;
    nodes_[node].id = kNoEntry;
    ghosts_.add_newest(nodes_, node);
    ghost_bytes_ += nodes_[node].bytes;
    index_.add(nodes_[node].hash, node);
  }
  EntryId find_ghost(std::uint64_t hash) const noexcept {
    return index_.find(hash, [&](EntryId node) { return nodes_[node].hash == hash; });
  }
  // Out of the names; it keeps its place in the stack.
  void forget_name(EntryId node) noexcept {
    index_.remove(nodes_[node].hash, node);
    ghosts_.remove(nodes_, node);
    ghost_bytes_ -= nodes_[node].bytes;
    nodes_[node].state = State::none;
  }
  void forget_oldest_ghost() noexcept {
    const EntryId node = ghosts_.oldest();
    forget_name(node);
    unstack(node);
    release(node);
  }
  void bound_ghosts() noexcept {
    while (ghost_bytes_ > ghost_limit_) forget_oldest_ghost();
    prune();
  }

  void make_room(EntryId id) {
    if (id >= node_of_.size()) {
      grow(id + std::size_t{1});
      node_of_.resize(id + std::size_t{1}, kNoEntry);
    } else if (free_.empty()) {
      // More nodes mean that more names are remembered; without them it works as well.
      try {
        grow(nodes_.size() + 1);
      } catch (const std::bad_alloc&) {  // new_node() takes the oldest ghost's
      }
    }
  }
  void grow(std::size_t least) {
    if (least <= nodes_.size() && !free_.empty()) return;
    const std::size_t count = std::max(least, nodes_.size() + nodes_.size() / 4 + 16);
    const std::size_t before = nodes_.size();
    node_of_.reserve(std::max(node_of_.capacity(), least));
    free_.reserve(count);
    index_.make_room(count);
    links_.make_room(static_cast<EntryId>(count - 1));
    nodes_.make_room(static_cast<EntryId>(count - 1));
    for (std::size_t node = count; node-- > before;) free_.push_back(static_cast<EntryId>(node));
  }
  EntryId new_node() noexcept {
    if (free_.empty()) forget_oldest_ghost();
    const EntryId node = free_.back();
    free_.pop_back();
    return node;
  }
  void release(EntryId node) noexcept {
    nodes_[node].state = State::none;
    free_.push_back(node);
  }

  EntryTable<LirsNode> nodes_;
  EntryTable<EntryLinks> links_;  // of the stack
  EntryList<EntryLinks> stack_;
  EntryList<LirsNode> queue_;   // HIR entries
  EntryList<LirsNode> ghosts_;  // by when they went
  KeyIndex index_;              // of ghosts
  std::vector<EntryId> node_of_;
  std::vector<EntryId> free_;
  std::uint64_t lir_limit_ = 0;
  std::uint64_t ghost_limit_ = 0;
  std::uint64_t lir_bytes_ = 0;
  std::uint64_t hir_bytes_ = 0;
  std::uint64_t ghost_bytes_ = 0;
  std::size_t lir_count_ = 0;
  std::uint64_t incoming_hash_ = 0;
  bool asked_for_ = false;
};

}  // namespace

std::unique_ptr<EvictionPolicy> make_lirs(const PolicyOptions& options) {
  return std::make_unique<LirsPolicy>(options);
}

}  // namespace forebay::detail
