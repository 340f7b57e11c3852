// LIRS: who was asked for twice within a short time stays; the rest passes through a small queue.
// Jiang and Zhang, "LIRS: An Efficient Low Inter-reference Recency Set Replacement Policy",
// SIGMETRICS 2002. Blocks are bytes here, and the names of those who went are bounded.
//
// The paper's stack S has LIR entries, HIR entries and names, by when they were asked for. Here
// only the LIR ones are a list. An HIR entry or a name is in the stack if it was asked for later
// than the LIR entry at the bottom, for pruning leaves nothing else: so each has the time of its
// last request, and comparing it with the bottom's says whether it is there.
#include <algorithm>
#include <limits>

#include "cache/ghosts.hpp"
#include "cache/known_facts.hpp"
#include "cache/policies/makers.hpp"
#include "cache/policies/weighed_list.hpp"

namespace forebay::detail {
namespace {

// The paper's hundredth for entries without merit.
constexpr std::uint64_t kHirPart = 100;
// Names remembered, in capacities; the paper has no bound.
constexpr std::uint64_t kGhostCapacities = 2;

// The mark says whether it is LIR.
struct LirsNode : EntryLinks {
  std::uint32_t asked_at = 0;
};

// Invariants: lir_ is in the order of asked_at, and its oldest's is floor_; names were asked for at
// floor_ or later. Who is in the queue and in the stack was asked for in the queue's order: so
// names come in the order of asked_at, and those that leave the stack are the oldest.
class LirsPolicy final : public EvictionPolicy {
 public:
  explicit LirsPolicy(const PolicyOptions& options) noexcept { set_capacity(options.capacity); }

  PolicyKind kind() const noexcept override { return PolicyKind::lirs; }
  void use_facts(const EntryFactsSource& source) noexcept override { facts_.use(source); }

  void hit(EntryId id) noexcept override {
    const bool stacked = nodes_[id].asked_at >= floor_;
    ask(id);
    if (is_lir(id)) {
      lir_.renew(nodes_, id);
      prune();
    } else if (stacked) {
      const std::uint64_t bytes = facts_.bytes(id);
      queue_.remove(nodes_, id, bytes);
      make_lir(id, bytes);
    } else {
      queue_.renew(nodes_, id);
    }
  }

  void missed(const EntryFacts& incoming) override {
    incoming_hash_ = incoming.hash;
    asked_for_ = true;
  }

  EntryId victim(const EntryFacts& /*incoming*/) noexcept override {
    if (queue_.empty()) demote();
    return queue_.oldest();
  }

  void evicted(EntryId id) noexcept override {
    const KnownFacts::Facts facts = facts_[id];
    list_of(id).remove(nodes_, id, facts.bytes);
    const std::uint32_t asked_at = nodes_[id].asked_at;
    if (asked_at >= floor_) ghosts_.add(facts.hash, facts.bytes, asked_at);
    prune();
  }

  void inserted(EntryId id, const EntryFacts& facts) override {
    facts_.make_room(id);
    if (id >= nodes_.size()) {
      nodes_.make_room(id);
      limit_names();
    }
    const KnownFacts::Told told{facts_, id, facts};
    const bool asked_for = asked_for_ && incoming_hash_ == facts.hash;
    asked_for_ = false;
    const bool returns = ghosts_.forget(facts.hash);
    // One that comes without having been asked for was in a cache before: it takes its place above
    // those who came earlier, as in the order of the policy it came from.
    const bool filling = lir_.bytes() + queue_.bytes() + facts.bytes <= lir_limit_;
    ask(id);
    if (returns || filling || !asked_for) {
      make_lir(id, facts.bytes);
    } else {
      nodes_[id].set_mark(kHir);
      queue_.add_newest(nodes_, id, facts.bytes);
    }
  }

  void erased(EntryId id) noexcept override {
    list_of(id).remove(nodes_, id, facts_.bytes(id));
    prune();
  }

  void updated(EntryId id, const EntryFacts& facts) noexcept override {
    list_of(id).weigh(facts_.bytes(id), facts.bytes);
    const KnownFacts::Told told{facts_, id, facts};
    hit(id);
    shed();
  }

  void resized(std::uint64_t capacity) override {
    set_capacity(capacity);
    shed();
    prune();
  }

  void order(std::vector<EntryId>& entries) const override {
    queue_.append_to(nodes_, entries);
    lir_.append_to(nodes_, entries);
  }

  std::size_t metadata_bytes() const noexcept override {
    return nodes_.metadata_bytes() + facts_.metadata_bytes() + ghosts_.metadata_bytes();
  }

 private:
  static constexpr unsigned kHir = 0;
  static constexpr unsigned kLir = 1;

  bool is_lir(EntryId id) const noexcept { return nodes_[id].mark() == kLir; }
  WeighedList<LirsNode>& list_of(EntryId id) noexcept { return is_lir(id) ? lir_ : queue_; }

  void set_capacity(std::uint64_t capacity) noexcept {
    lir_limit_ = capacity - std::max<std::uint64_t>(capacity / kHirPart, 1);
    names_limit_ = kGhostCapacities * capacity;
    limit_names();
  }
  // By number as well, as the room for names is charged to entries; a little more than with entries
  // of one size, as those who go are smaller than those who stay.
  void limit_names() noexcept {
    ghosts_.set_limits(kGhostCapacities * nodes_.size() * 9 / 8, names_limit_);
  }

  // On top of the stack.
  void ask(EntryId id) noexcept {
    if (now_ == kLastTime) begin_time_anew();
    nodes_[id].asked_at = ++now_;
  }
  // REQUIRES: in no list; it was just asked for.
  void make_lir(EntryId id, std::uint64_t bytes) noexcept {
    nodes_[id].set_mark(kLir);
    lir_.add_newest(nodes_, id, bytes);
    shed();
    prune();
  }
  void shed() noexcept {
    while (lir_.bytes() > lir_limit_ && lir_.size() > 1) demote();
  }
  // The LIR entry that was not asked for the longest goes to the queue.
  void demote() noexcept {
    const EntryId id = lir_.oldest();
    const std::uint64_t bytes = facts_.bytes(id);
    lir_.remove(nodes_, id, bytes);
    nodes_[id].set_mark(kHir);
    queue_.add_newest(nodes_, id, bytes);
    prune();
  }
  void prune() noexcept {
    floor_ = lir_.empty() ? now_ + 1 : nodes_[lir_.oldest()].asked_at;
    ghosts_.forget_before(floor_);
  }

  // Times are told from floor_ on; if that is not enough, two become one.
  void begin_time_anew() noexcept {
    const unsigned halves = now_ - floor_ > kLastTime / 2 ? 1 : 0;
    const auto lower = [&](EntryId id) {
      std::uint32_t& asked_at = nodes_[id].asked_at;
      asked_at = asked_at < floor_ ? 0 : ((asked_at - floor_) >> halves) + 1;
    };
    lir_.for_each(nodes_, lower);
    queue_.for_each(nodes_, lower);
    ghosts_.change_stamps([&](std::uint32_t stamp) { return ((stamp - floor_) >> halves) + 1; });
    now_ = ((now_ - floor_) >> halves) + 1;
    floor_ = 1;
  }

  static constexpr std::uint32_t kLastTime = std::numeric_limits<std::uint32_t>::max() - 1;
  // So that beginning anew is nothing rare.
  static constexpr std::uint32_t kFirstTime = kLastTime - 100;

  EntryTable<LirsNode> nodes_;
  KnownFacts facts_;
  WeighedList<LirsNode> lir_;
  WeighedList<LirsNode> queue_;  // HIR entries
  Ghosts ghosts_;
  std::uint64_t lir_limit_ = 0;
  std::uint64_t names_limit_ = 0;
  std::uint64_t incoming_hash_ = 0;
  std::uint32_t now_ = kFirstTime;
  std::uint32_t floor_ = kFirstTime + 1;
  bool asked_for_ = false;
};

}  // namespace

std::unique_ptr<EvictionPolicy> make_lirs(const PolicyOptions& options) {
  return std::make_unique<LirsPolicy>(options);
}

}  // namespace forebay::detail
