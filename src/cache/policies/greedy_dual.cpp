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
#include "cache/policies/makers.hpp"

namespace forebay::detail {
namespace {

// What a miss costs, divided by the bytes that the entry holds.
float weight_of(Objective objective, const EntryFacts& facts) noexcept {
  const auto bytes = static_cast<float>(facts.bytes);
  switch (objective) {
    case Objective::objects:
      return 1 / bytes;
    case Objective::bytes:
      return 1;
    case Objective::cost:
      return facts.cost > 0 ? facts.cost / bytes : 0;
  }
  return 1;
}

struct LfuNode {
  std::uint32_t frequency = 0;

  void weigh(Objective /*objective*/, const EntryFacts& /*facts*/) noexcept {}
  double value() const noexcept { return frequency; }
};

struct GdsfNode {
  std::uint32_t frequency = 0;
  float weight = 0;

  void weigh(Objective objective, const EntryFacts& facts) noexcept {
    weight = weight_of(objective, facts);
  }
  double value() const noexcept { return double{weight} * frequency; }
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
  void hit(EntryId id) noexcept override {
    Node& node = nodes_[id];
    if (node.frequency != std::numeric_limits<std::uint32_t>::max()) ++node.frequency;
    heap_.change(slot(id));
  }
  void missed(const EntryFacts& /*incoming*/) override {}
  EntryId victim(const EntryFacts& /*incoming*/) noexcept override { return heap_.top().id; }
  void evicted(EntryId id) noexcept override {
    age_ = heap_.slot(id).priority;
    heap_.remove(id);
  }
  void inserted(EntryId id, const EntryFacts& facts) override {
    nodes_.make_room(id);
    heap_.make_room(id);
    nodes_[id].frequency = 1;
    nodes_[id].weigh(objective_, facts);
    heap_.add(slot(id));
  }
  void erased(EntryId id) noexcept override { heap_.remove(id); }
  void updated(EntryId id, const EntryFacts& facts) noexcept override {
    nodes_[id].weigh(objective_, facts);
    hit(id);
  }
  void resized(std::uint64_t /*capacity*/) override {}
  void order(std::vector<EntryId>& entries) const override { heap_.append_to(entries); }
  std::size_t metadata_bytes() const noexcept override {
    return nodes_.metadata_bytes() + heap_.metadata_bytes();
  }

 private:
  GreedySlot slot(EntryId id) noexcept { return {age_ + nodes_[id].value(), stamp_++, id}; }

  const Objective objective_;
  double age_ = 0;
  std::uint32_t stamp_ = 0;
  EntryTable<Node> nodes_;
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
