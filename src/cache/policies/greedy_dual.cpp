// gdsf and lfu: priority = L + frequency * weight, where L, the age, is the priority of the last
// that went. What is not asked for any more is overtaken by the age and goes in its turn.
//
// gdsf: Cherkasova, "Improving WWW proxies performance with Greedy-Dual-Size-Frequency caching
// policy", HP Labs 1998: weight = cost / size.
// lfu: the same with weight 1: LFU with dynamic aging (Arlitt, Cherkasova, Dilley, Friedrich, Jin,
// "Evaluating content management techniques for web proxy caches", 2000). Without aging, what was
// popular once would never go.
#include <limits>

#include "cache/entry_heap.hpp"
#include "cache/known_facts.hpp"
#include "cache/policies/makers.hpp"
#include "cache/short_float.hpp"

namespace forebay::detail {
namespace {

// Hits of an entry, and what else its weight is made of and the owner does not tell. Hits are
// counted to 65 535: beyond that the age does the rest.
struct LfuNode {
  std::uint16_t frequency = 0;

  void note(const EntryFacts& /*facts*/) noexcept {}
  float weight(Objective /*objective*/, const KnownFacts& /*facts*/,
               EntryId /*id*/) const noexcept {
    return 1;
  }
};

struct GdsfNode {
  std::uint16_t frequency = 0;
  std::uint16_t cost = 0;

  void note(const EntryFacts& facts) noexcept { cost = shortened(facts.cost); }
  // What a miss costs, divided by the bytes that the entry holds.
  float weight(Objective objective, const KnownFacts& facts, EntryId id) const noexcept {
    if (objective == Objective::bytes) return 1;
    const auto bytes = static_cast<float>(facts.bytes(id));
    if (objective == Objective::objects) return 1 / bytes;
    const float dear = lengthened(cost);
    return dear > 0 ? dear / bytes : 0;
  }
};

// Ties go by recency. After 2^32 requests the stamp begins anew, and ties of that moment go the
// wrong way round; L has left them behind soon after.
struct GreedySlot {
  double priority;
  std::uint32_t stamp;
  EntryId id;

  bool operator<(const GreedySlot& other) const noexcept {
    return priority != other.priority ? priority < other.priority : stamp < other.stamp;
  }
};

template <typename Node, PolicyKind Kind>
class GreedyDualPolicy final : public EvictionPolicy {
 public:
  explicit GreedyDualPolicy(Objective objective) noexcept : objective_(objective) {}

  PolicyKind kind() const noexcept override { return Kind; }
  void use_facts(const EntryFactsSource& source) noexcept override { facts_.use(source); }
  void hit(EntryId id) noexcept override {
    Node& node = nodes_[id];
    if (node.frequency != std::numeric_limits<std::uint16_t>::max()) ++node.frequency;
    heap_.change(slot(id));
  }
  void fetch(std::span<const EntryId> entries) const noexcept override {
    for (const EntryId id : entries) __builtin_prefetch(&nodes_[id], 1);
    heap_.fetch(entries);
  }
  void missed(const EntryFacts& /*incoming*/) override {}
  EntryId victim(const EntryFacts& /*incoming*/) noexcept override { return heap_.top().id; }
  void evicted(EntryId id) noexcept override {
    age_ = heap_.slot(id).priority;
    heap_.remove(id);
  }
  std::size_t next_victims(std::span<EntryId> entries) const noexcept override {
    return heap_.least(entries);
  }
  void inserted(EntryId id, const EntryFacts& facts) override {
    nodes_.make_room(id);
    facts_.make_room(id);
    heap_.make_room(id);
    const KnownFacts::Told told{facts_, id, facts};
    nodes_[id].frequency = 1;
    nodes_[id].note(facts);
    heap_.add(slot(id));
  }
  void erased(EntryId id) noexcept override { heap_.remove(id); }
  void updated(EntryId id, const EntryFacts& facts) noexcept override {
    const KnownFacts::Told told{facts_, id, facts};
    nodes_[id].note(facts);
    hit(id);
  }
  void resized(std::uint64_t /*capacity*/) override {}
  void order(std::vector<EntryId>& entries) const override { heap_.append_to(entries); }
  std::size_t metadata_bytes() const noexcept override {
    return nodes_.metadata_bytes() + facts_.metadata_bytes() + heap_.metadata_bytes();
  }

 private:
  GreedySlot slot(EntryId id) noexcept {
    const Node& node = nodes_[id];
    return {age_ + double{node.weight(objective_, facts_, id)} * node.frequency, stamp_++, id};
  }

  const Objective objective_;
  double age_ = 0;
  std::uint32_t stamp_ = 0;
  EntryTable<Node> nodes_;
  KnownFacts facts_;
  EntryHeap<GreedySlot> heap_;
};

}  // namespace

std::unique_ptr<EvictionPolicy> make_lfu(const PolicyOptions& options) {
  return std::make_unique<GreedyDualPolicy<LfuNode, PolicyKind::lfu>>(options.objective);
}
std::unique_ptr<EvictionPolicy> make_gdsf(const PolicyOptions& options) {
  return std::make_unique<GreedyDualPolicy<GdsfNode, PolicyKind::gdsf>>(options.objective);
}

}  // namespace forebay::detail
