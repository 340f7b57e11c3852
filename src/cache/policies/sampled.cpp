// random and hybrid: victims are drawn.
#include <algorithm>
#include <cmath>
#include <limits>

#include "cache/entry_set.hpp"
#include "cache/hash.hpp"
#include "cache/policies/makers.hpp"

namespace forebay::detail {
namespace {

class RandomPolicy final : public EvictionPolicy {
 public:
  explicit RandomPolicy(const PolicyOptions& options) noexcept : random_(options.seed) {}

  PolicyKind kind() const noexcept override { return PolicyKind::random; }
  void hit(EntryId /*id*/) noexcept override {}
  void missed(const EntryFacts& /*incoming*/) override {}
  EntryId victim(const EntryFacts& /*incoming*/) noexcept override {
    if (drawn_ == kNoEntry) {
      drawn_ = entries_[random_.below(static_cast<std::uint32_t>(entries_.size()))];
    }
    return drawn_;
  }
  void evicted(EntryId id) noexcept override { erased(id); }
  void inserted(EntryId id, const EntryFacts& /*facts*/) override {
    entries_.make_room(id);
    entries_.add(id);
  }
  void erased(EntryId id) noexcept override {
    entries_.remove(id);
    if (drawn_ == id) drawn_ = kNoEntry;
  }
  void updated(EntryId /*id*/, const EntryFacts& /*facts*/) noexcept override {}
  void resized(std::uint64_t /*capacity*/) override {}
  void order(std::vector<EntryId>& entries) const override {
    entries.insert(entries.end(), entries_.entries().begin(), entries_.entries().end());
  }
  std::size_t metadata_bytes() const noexcept override { return entries_.metadata_bytes(); }

 private:
  SmallRandom random_;
  EntrySet entries_;
  EntryId drawn_ = kNoEntry;  // stays the victim until it is gone
};

// Age, frequency, cost and the user's score as one number: how often the entry is asked for lately,
// times what it is worth. Frequency decays with age as in LRFU (Lee et al., IEEE Trans. Computers
// 2001), by half in as many requests as half_life(); the worth is cost / size, as in
// GreedyDual-Size, times 2^utility: a point of the user's score counts as much as being asked for
// twice as often.
//
// All values fall with time, by other amounts once entries come or go, and no heap could keep their
// order; the lowest of some that are drawn goes instead (Blankstein, Sen, Freedman, "Hyperbolic
// caching", ATC 2017). They are drawn as a few runs of neighbours: a run lies in two cache lines.
class HybridPolicy final : public EvictionPolicy {
 public:
  explicit HybridPolicy(const PolicyOptions& options) noexcept
      : objective_(options.objective), random_(options.seed) {}

  PolicyKind kind() const noexcept override { return PolicyKind::hybrid; }
  void hit(EntryId id) noexcept override {
    Mark& mark = marks_[positions_[id]];
    const float frequency = 1 + std::exp2(log_frequency(mark) - age(mark) / half_life());
    mark.value = in_parts(std::log2(frequency) + in_octaves(mark.worth));
    mark.last = ++now_;
    drawn_ = kNoEntry;
  }
  void missed(const EntryFacts& /*incoming*/) override {}
  EntryId victim(const EntryFacts& /*incoming*/) noexcept override {
    if (drawn_ == kNoEntry) drawn_ = lowest_of_drawn();
    return drawn_;
  }
  void evicted(EntryId id) noexcept override { erased(id); }
  void inserted(EntryId id, const EntryFacts& facts) override {
    if (id >= marks_.capacity()) marks_.reserve(grown(id));
    positions_.make_room(id);
    positions_[id] = static_cast<EntryId>(marks_.size());
    const std::int16_t worth = worth_of(facts);
    marks_.push_back({++now_, id, worth, worth});
    drawn_ = kNoEntry;
  }
  void erased(EntryId id) noexcept override {
    const EntryId position = positions_[id];
    marks_[position] = marks_.back();
    positions_[marks_.back().id] = position;
    marks_.pop_back();
    drawn_ = kNoEntry;
  }
  void updated(EntryId id, const EntryFacts& facts) noexcept override {
    Mark& mark = marks_[positions_[id]];
    const float frequency = log_frequency(mark);
    mark.worth = worth_of(facts);
    mark.value = in_parts(frequency + in_octaves(mark.worth));
    hit(id);
  }
  void resized(std::uint64_t /*capacity*/) override {}
  void order(std::vector<EntryId>& entries) const override {
    std::vector<Mark> sorted = marks_;
    std::sort(sorted.begin(), sorted.end(), [this](const Mark& a, const Mark& b) {
      const float value_a = value(a);
      const float value_b = value(b);
      return value_a != value_b ? value_a < value_b : a.id < b.id;
    });
    entries.reserve(entries.size() + sorted.size());
    for (const Mark& mark : sorted) entries.push_back(mark.id);
  }
  std::size_t metadata_bytes() const noexcept override {
    return marks_.capacity() * sizeof(Mark) + positions_.metadata_bytes();
  }

 private:
  static constexpr std::uint32_t kRuns = 4;
  static constexpr std::uint32_t kRun = 8;

  // Logarithms to the base of two, in parts of an octave: within a quarter of a hundredth of what
  // they stand for.
  static constexpr float kPartsOfOctave = 128;
  struct Mark {
    std::uint32_t last;  // tick of the last request
    EntryId id;
    std::int16_t value;  // of frequency times worth, as of `last`
    std::int16_t worth;
  };
  static_assert(sizeof(Mark) == 12);

  static std::int16_t in_parts(float octaves) noexcept {
    constexpr float kMost = std::numeric_limits<std::int16_t>::max();
    return static_cast<std::int16_t>(
        std::lrint(std::clamp(octaves * kPartsOfOctave, -kMost, kMost)));
  }
  static float in_octaves(std::int16_t parts) noexcept {
    return static_cast<float>(parts) / kPartsOfOctave;
  }
  static float log_frequency(const Mark& mark) noexcept {
    return in_octaves(static_cast<std::int16_t>(mark.value - mark.worth));
  }

  std::int16_t worth_of(const EntryFacts& facts) const noexcept {
    return in_parts(log_worth(facts));
  }
  float log_worth(const EntryFacts& facts) const noexcept {
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
  // Right across the counter's wrap.
  float age(const Mark& mark) const noexcept { return static_cast<float>(now_ - mark.last); }
  // In requests. Shorter is nearer to LRU, longer to LFU.
  float half_life() const noexcept {
    constexpr float kRequestsAnEntry = 2;
    return kRequestsAnEntry * static_cast<float>(std::max<std::size_t>(marks_.size(), 1));
  }
  float value(const Mark& mark) const noexcept {
    return in_octaves(mark.value) - age(mark) / half_life();
  }

  EntryId lowest_of_drawn() noexcept {
    const auto size = static_cast<std::uint32_t>(marks_.size());
    const float per_tick = 1 / half_life();
    EntryId lowest = marks_.front().id;
    float least = std::numeric_limits<float>::infinity();
    const auto look = [&](std::uint32_t begin, std::uint32_t end) {
      for (std::uint32_t i = begin; i < end; ++i) {
        const float value = in_octaves(marks_[i].value) - age(marks_[i]) * per_tick;
        if (value < least) {
          least = value;
          lowest = marks_[i].id;
        }
      }
    };
    if (size <= kRuns * kRun) {
      look(0, size);
      return lowest;
    }
    std::uint32_t begins[kRuns];
    for (std::uint32_t& begin : begins) {
      begin = random_.below(size - kRun + 1);
      __builtin_prefetch(&marks_[begin]);
      __builtin_prefetch(&marks_[begin + kRun - 1]);
    }
    for (const std::uint32_t begin : begins) look(begin, begin + kRun);
    return lowest;
  }

  const Objective objective_;
  SmallRandom random_;
  std::uint32_t now_ = 0;
  std::vector<Mark> marks_;        // in no order
  EntryTable<EntryId> positions_;  // in marks_
  EntryId drawn_ = kNoEntry;
};

}  // namespace

std::unique_ptr<EvictionPolicy> make_random(const PolicyOptions& options) {
  return std::make_unique<RandomPolicy>(options);
}
std::unique_ptr<EvictionPolicy> make_hybrid(const PolicyOptions& options) {
  return std::make_unique<HybridPolicy>(options);
}

}  // namespace forebay::detail
