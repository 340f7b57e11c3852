// learned: hit density, learned from the cache's own hits and evictions, over a random few.
//
// Beckmann, Chen, Cidon, "LHD: Improving Cache Hit Rate by Maximizing Hit Density", NSDI 2018. An
// entry is worth the hits that it may expect for the room and the time that it takes; what it may
// expect is read off what became of entries of its age (since it was last asked for) and kind (how
// often it was hit). Ages lie in buckets of a quarter of an octave, so that one table serves caches
// of every size without the paper's coarsening.
#include <algorithm>
#include <array>
#include <bit>
#include <limits>
#include <vector>

#include "cache/entry_table.hpp"
#include "cache/hash.hpp"
#include "cache/policies/makers.hpp"

namespace forebay::detail {
namespace {

constexpr std::size_t kKinds = 8;                   // by hits: 0, 1, 2-3, 4-7, ...
constexpr std::size_t kAges = std::size_t{4} * 30;  // up to 2^30 requests
constexpr std::size_t kTried = 8;                   // entries looked at for a victim
constexpr std::uint32_t kLearnEvery = 1U << 14U;    // events between two looks at the tables
constexpr float kKeep = 0.9F;                       // of what was counted, at each look

std::size_t age_bucket(std::uint32_t age) noexcept {
  if (age < 4) return age;
  const auto octave = static_cast<unsigned>(std::bit_width(age)) - 1;
  const std::size_t bucket = 4 * (octave - 1) + ((age >> (octave - 2)) & 3U);
  return std::min(bucket, kAges - 1);
}
// In requests, of the bucket's ages.
float bucket_width(std::size_t bucket) noexcept {
  return bucket < 4 ? 1.0F : static_cast<float>(1ULL << (bucket / 4 - 1));
}

struct LearnedNode {
  std::uint64_t bytes = 0;
  float cost = 0;
  std::uint32_t asked_at = 0;
  std::uint32_t place = 0;  // in the list of entries
  std::uint32_t hits = 0;
};

// Invariant: entries_[nodes_[id].place] == id for every entry.
class LearnedPolicy final : public EvictionPolicy {
 public:
  explicit LearnedPolicy(const PolicyOptions& options)
      : objective_(options.objective), random_(options.seed) {
    // Before anything is known: as lru, but for hits.
    for (std::size_t kind = 0; kind < kKinds; ++kind) {
      for (std::size_t age = 0; age < kAges; ++age)
        density_[kind][age] = static_cast<float>(kind + 1) / static_cast<float>(age + 1);
    }
  }

  PolicyKind kind() const noexcept override { return PolicyKind::learned; }

  void hit(EntryId id) noexcept override {
    ++now_;
    LearnedNode& node = nodes_[id];
    count(hits_, node);
    node.asked_at = now_;
    ++node.hits;
    chosen_ = kNoEntry;
  }

  void missed(const EntryFacts& /*incoming*/) override { chosen_ = kNoEntry; }

  EntryId victim(const EntryFacts& /*incoming*/) noexcept override {
    if (chosen_ == kNoEntry) chosen_ = choose();
    return chosen_;
  }

  void evicted(EntryId id) noexcept override {
    count(evictions_, nodes_[id]);
    erased(id);
  }

  void inserted(EntryId id, const EntryFacts& facts) override {
    nodes_.make_room(id);
    if (entries_.capacity() < nodes_.size()) entries_.reserve(nodes_.size() + nodes_.size() / 4);
    ++now_;
    nodes_[id] = {facts.bytes, facts.cost, now_, static_cast<std::uint32_t>(entries_.size()), 0};
    entries_.push_back(id);
    chosen_ = kNoEntry;
  }

  void erased(EntryId id) noexcept override {
    const std::uint32_t place = nodes_[id].place;
    entries_[place] = entries_.back();
    nodes_[entries_[place]].place = place;
    entries_.pop_back();
    chosen_ = kNoEntry;
  }

  void updated(EntryId id, const EntryFacts& facts) noexcept override {
    nodes_[id].bytes = facts.bytes;
    nodes_[id].cost = facts.cost;
    hit(id);
  }

  void resized(std::uint64_t /*capacity*/) override {}

  void order(std::vector<EntryId>& entries) const override {
    const std::size_t first = entries.size();
    entries.insert(entries.end(), entries_.begin(), entries_.end());
    std::sort(entries.begin() + static_cast<std::ptrdiff_t>(first), entries.end(),
              [this](EntryId a, EntryId b) {
                const float worth_a = worth(nodes_[a]);
                const float worth_b = worth(nodes_[b]);
                return worth_a != worth_b ? worth_a < worth_b : a < b;
              });
  }

  std::size_t metadata_bytes() const noexcept override {
    return sizeof(*this) + nodes_.metadata_bytes() + entries_.capacity() * sizeof(EntryId);
  }

 private:
  using Table = std::array<std::array<float, kAges>, kKinds>;

  static std::size_t kind_of(const LearnedNode& node) noexcept {
    return std::min<std::size_t>(static_cast<std::size_t>(std::bit_width(node.hits)), kKinds - 1);
  }

  void count(Table& table, const LearnedNode& node) noexcept {
    table[kind_of(node)][age_bucket(now_ - node.asked_at)] += 1;
    if (++events_ == kLearnEvery) learn();
  }

  // From the oldest age down: what is still to come of hits, over what is still to come of time.
  void learn() noexcept {
    events_ = 0;
    for (std::size_t kind = 0; kind < kKinds; ++kind) {
      float hits = 0;
      float ended = 0;
      float time = 0;
      for (std::size_t age = kAges; age-- > 0;) {
        hits += hits_[kind][age];
        ended += hits_[kind][age] + evictions_[kind][age];
        time += ended * bucket_width(age);
        // An age of which nothing is known keeps what was last believed of it.
        if (ended > 0) density_[kind][age] = hits / time;
        hits_[kind][age] *= kKeep;
        evictions_[kind][age] *= kKeep;
      }
    }
  }

  float worth(const LearnedNode& node) const noexcept {
    const float density = density_[kind_of(node)][age_bucket(now_ - node.asked_at)];
    switch (objective_) {
      case Objective::bytes:
        return density;
      case Objective::cost:
        return density * node.cost / static_cast<float>(node.bytes);
      default:
        return density / static_cast<float>(node.bytes);
    }
  }

  EntryId choose() noexcept {
    EntryId best = kNoEntry;
    float least = std::numeric_limits<float>::infinity();
    std::array<EntryId, kTried> drawn{};
    // Drawn first, so that the memory they are in is fetched side by side: one after the other cost
    // more than all the rest of a request.
    for (EntryId& id : drawn) {
      id = entries_[random_.below(static_cast<std::uint32_t>(entries_.size()))];
      __builtin_prefetch(&nodes_[id]);
    }
    for (const EntryId id : drawn) {
      const float value = worth(nodes_[id]);
      if (best == kNoEntry || value < least) {
        best = id;
        least = value;
      }
    }
    return best;
  }

  Objective objective_;
  SmallRandom random_;
  EntryTable<LearnedNode> nodes_;
  std::vector<EntryId> entries_;
  Table hits_{};
  Table evictions_{};
  Table density_{};
  std::uint32_t now_ = 0;
  std::uint32_t events_ = 0;
  EntryId chosen_ = kNoEntry;
};

}  // namespace

std::unique_ptr<EvictionPolicy> make_learned(const PolicyOptions& options) {
  return std::make_unique<LearnedPolicy>(options);
}

}  // namespace forebay::detail
