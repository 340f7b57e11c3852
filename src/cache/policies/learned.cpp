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
#include "cache/short_float.hpp"

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

// What drawing looks at.
struct LearnedMark {
  EntryId id = kNoEntry;
  std::uint32_t asked_at = 0;
  std::uint16_t weight = 0;  // a short float: what a hit is worth, for a byte
  std::uint8_t hits = 0;     // as many as there are kinds to tell apart
};
static_assert(sizeof(LearnedMark) == 12);

// Invariant: marks_[places_[id]].id == id for every entry.
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
    LearnedMark& mark = marks_[places_[id]];
    count(hits_, mark);
    mark.asked_at = now_;
    if (mark.hits != kMostHits) ++mark.hits;
    chosen_ = kNoEntry;
  }

  void missed(const EntryFacts& /*incoming*/) override { chosen_ = kNoEntry; }

  EntryId victim(const EntryFacts& /*incoming*/) noexcept override {
    if (chosen_ == kNoEntry) chosen_ = choose();
    return chosen_;
  }

  void evicted(EntryId id) noexcept override {
    count(evictions_, marks_[places_[id]]);
    erased(id);
  }

  void inserted(EntryId id, const EntryFacts& facts) override {
    places_.make_room(id);
    if (id >= marks_.capacity()) marks_.reserve(grown(id));
    ++now_;
    places_[id] = static_cast<EntryId>(marks_.size());
    marks_.push_back({id, now_, weight_of(facts), 0});
    chosen_ = kNoEntry;
  }

  void erased(EntryId id) noexcept override {
    const EntryId place = places_[id];
    marks_[place] = marks_.back();
    places_[marks_[place].id] = place;
    marks_.pop_back();
    chosen_ = kNoEntry;
  }

  void updated(EntryId id, const EntryFacts& facts) noexcept override {
    marks_[places_[id]].weight = weight_of(facts);
    hit(id);
  }

  void resized(std::uint64_t /*capacity*/) override {}

  void order(std::vector<EntryId>& entries) const override {
    std::vector<LearnedMark> sorted = marks_;
    std::sort(sorted.begin(), sorted.end(), [this](const LearnedMark& a, const LearnedMark& b) {
      const float worth_a = worth(a);
      const float worth_b = worth(b);
      return worth_a != worth_b ? worth_a < worth_b : a.id < b.id;
    });
    entries.reserve(entries.size() + sorted.size());
    for (const LearnedMark& mark : sorted) entries.push_back(mark.id);
  }

  std::size_t metadata_bytes() const noexcept override {
    return sizeof(*this) + places_.metadata_bytes() + marks_.capacity() * sizeof(LearnedMark);
  }

 private:
  using Table = std::array<std::array<float, kAges>, kKinds>;

  static constexpr std::uint8_t kMostHits = 1U << (kKinds - 2);
  static std::size_t kind_of(const LearnedMark& mark) noexcept {
    return static_cast<std::size_t>(std::bit_width(unsigned{mark.hits}));
  }

  void count(Table& table, const LearnedMark& mark) noexcept {
    table[kind_of(mark)][age_bucket(now_ - mark.asked_at)] += 1;
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

  std::uint16_t weight_of(const EntryFacts& facts) const noexcept {
    if (objective_ == Objective::bytes) return shortened(1);
    const float gain = objective_ == Objective::cost ? facts.cost : 1.0F;
    return shortened(gain / static_cast<float>(facts.bytes));
  }
  float worth(const LearnedMark& mark) const noexcept {
    return density_[kind_of(mark)][age_bucket(now_ - mark.asked_at)] * lengthened(mark.weight);
  }

  EntryId choose() noexcept {
    EntryId best = kNoEntry;
    float least = std::numeric_limits<float>::infinity();
    std::array<EntryId, kTried> drawn{};
    // Drawn first, so that the memory they are in is fetched side by side: one after the other cost
    // more than all the rest of a request.
    for (EntryId& place : drawn) {
      place = random_.below(static_cast<std::uint32_t>(marks_.size()));
      __builtin_prefetch(&marks_[place]);
    }
    for (const EntryId place : drawn) {
      const float value = worth(marks_[place]);
      if (best == kNoEntry || value < least) {
        best = marks_[place].id;
        least = value;
      }
    }
    return best;
  }

  Objective objective_;
  SmallRandom random_;
  std::vector<LearnedMark> marks_;  // in no order
  EntryTable<EntryId> places_;      // in marks_
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
