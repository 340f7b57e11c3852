// random and hybrid: victims are drawn.
#include <algorithm>
#include <cmath>

#include "cache/entry_set.hpp"
#include "cache/hash.hpp"
#include "cache/policies/makers.hpp"

namespace forebay::detail {
namespace {

// What both do: a drawn victim stays the victim until something happens.
class DrawingPolicy : public EvictionPolicy {
 public:
  explicit DrawingPolicy(const PolicyOptions& options) noexcept : random_(options.seed) {}

  void evicted(EntryId id) noexcept override { erased(id); }
  void erased(EntryId id) noexcept override {
    entries_.remove(id);
    drawn_ = kNoEntry;
  }
  void resized(std::uint64_t /*capacity*/) override {}

 protected:
  EntryId draw() noexcept {
    return entries_[random_.below(static_cast<std::uint32_t>(entries_.size()))];
  }

  SmallRandom random_;
  EntrySet entries_;
  EntryId drawn_ = kNoEntry;
};

class RandomPolicy final : public DrawingPolicy {
 public:
  using DrawingPolicy::DrawingPolicy;

  PolicyKind kind() const noexcept override { return PolicyKind::random; }
  void hit(EntryId /*id*/) noexcept override {}
  void missed(const EntryFacts& /*incoming*/) override {}
  EntryId victim(const EntryFacts& /*incoming*/) noexcept override {
    if (drawn_ == kNoEntry) drawn_ = draw();
    return drawn_;
  }
  void inserted(EntryId id, const EntryFacts& /*facts*/) override {
    entries_.make_room(id);
    entries_.add(id);
  }
  void updated(EntryId /*id*/, const EntryFacts& /*facts*/) noexcept override {}
  void order(std::vector<EntryId>& entries) const override {
    entries.insert(entries.end(), entries_.entries().begin(), entries_.entries().end());
  }
  std::size_t metadata_bytes() const noexcept override { return entries_.metadata_bytes(); }
};

// Age, frequency, cost and the user's score as one number: how often the entry is asked for lately,
// times what it is worth. Frequency decays with age as in LRFU (Lee et al., IEEE Trans. Computers
// 2001); the worth is cost / size, as in GreedyDual-Size, times 2^utility: one point of the user's
// score counts as much as being asked for twice as often.
//
// All values fall with time, each at its own moment of being asked, so no heap keeps their order
// for long; the lowest of a few that are drawn goes instead (Blankstein, Sen, Freedman, "Hyperbolic
// caching", ATC 2017, where 64 drawn ones were as good as all).
struct HybridNode {
  float frequency = 0;     // decayed, as of `last`
  float worth = 0;         // log2
  float value = 0;         // log2(frequency) + worth: drawing looks at many, a hit at one
  std::uint32_t last = 0;  // tick of the last request
};

class HybridPolicy final : public DrawingPolicy {
 public:
  explicit HybridPolicy(const PolicyOptions& options) noexcept
      : DrawingPolicy(options), objective_(options.objective) {}

  PolicyKind kind() const noexcept override { return PolicyKind::hybrid; }
  void hit(EntryId id) noexcept override {
    HybridNode& node = nodes_[id];
    node.frequency = 1 + node.frequency * std::exp2(-age(node) / half_life());
    node.value = std::log2(node.frequency) + node.worth;
    node.last = ++now_;
    drawn_ = kNoEntry;
  }
  void missed(const EntryFacts& /*incoming*/) override {}
  EntryId victim(const EntryFacts& /*incoming*/) noexcept override {
    if (drawn_ == kNoEntry) drawn_ = lowest_of_drawn();
    return drawn_;
  }
  void inserted(EntryId id, const EntryFacts& facts) override {
    entries_.make_room(id);
    nodes_.make_room(id);
    const float worth = worth_of(facts);
    nodes_[id] = {1, worth, worth, ++now_};
    entries_.add(id);
    drawn_ = kNoEntry;
  }
  void updated(EntryId id, const EntryFacts& facts) noexcept override {
    nodes_[id].worth = worth_of(facts);
    hit(id);
  }
  void order(std::vector<EntryId>& entries) const override {
    const std::size_t before = entries.size();
    entries.insert(entries.end(), entries_.entries().begin(), entries_.entries().end());
    std::stable_sort(entries.begin() + static_cast<std::ptrdiff_t>(before), entries.end(),
                     [this](EntryId a, EntryId b) { return value(a) < value(b); });
  }
  std::size_t metadata_bytes() const noexcept override {
    return entries_.metadata_bytes() + nodes_.metadata_bytes();
  }

 private:
  static constexpr unsigned kDrawn = 32;

  float worth_of(const EntryFacts& facts) const noexcept {
    const float score = std::isnan(facts.utility) ? 0 : std::clamp(facts.utility, -64.0F, 64.0F);
    switch (objective_) {
      case Objective::objects:
        return score - std::log2(static_cast<float>(facts.bytes));
      case Objective::bytes:
        return score;
      case Objective::cost: {
        constexpr float kLeastCost = 1e-6F;
        const float cost = facts.cost > kLeastCost ? facts.cost : kLeastCost;
        return score + std::log2(cost / static_cast<float>(facts.bytes));
      }
    }
    return score;
  }
  float age(const HybridNode& node) const noexcept {
    return static_cast<float>(now_ - node.last);  // right across the counter's wrap
  }
  float half_life() const noexcept {
    return kHalfLife * static_cast<float>(std::max<std::size_t>(entries_.size(), 1));
  }
  float value(EntryId id) const noexcept {
    const HybridNode& node = nodes_[id];
    return node.value - age(node) / half_life();
  }
  EntryId lowest_of_drawn() noexcept {
    EntryId lowest = draw();
    for (unsigned i = 1; i < kDrawn; ++i) {
      const EntryId other = draw();
      if (value(other) < value(lowest)) lowest = other;
    }
    return lowest;
  }

  static constexpr float kHalfLife = 2;  // in requests an entry
  const Objective objective_;
  std::uint32_t now_ = 0;
  EntryTable<HybridNode> nodes_;
};

}  // namespace

std::unique_ptr<EvictionPolicy> make_random(const PolicyOptions& options) {
  return std::make_unique<RandomPolicy>(options);
}
std::unique_ptr<EvictionPolicy> make_hybrid(const PolicyOptions& options) {
  return std::make_unique<HybridPolicy>(options);
}

}  // namespace forebay::detail
