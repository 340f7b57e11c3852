// wtinylfu: Einziger, Friedman, Manes, "TinyLFU: a highly efficient cache admission policy",
// ACM TOS 2017. Newcomers pass through a window in order of recency; who leaves it for the main
// part, a segmented LRU, must have been asked for more often than whom it would replace. How large
// the window is, is found while it runs (Einziger, Eytan, Friedman, Manes, "Adaptive software cache
// management", Middleware 2018).
//
// With sizes, who leaves the window is compared with all that must go for it (Einziger, Eytan,
// Friedman, Manes, "Lightweight robust size aware cache management", ACM TOS 2022: aggregated
// victims), by number or, for the objective `bytes`, by bytes asked for.
#include <algorithm>
#include <cmath>

#include "cache/frequency_sketch.hpp"
#include "cache/hash.hpp"
#include "cache/known_facts.hpp"
#include "cache/policies/makers.hpp"
#include "cache/policies/weighed_list.hpp"

namespace forebay::detail {
namespace {

// Nodes' marks.
enum class Segment : std::uint8_t { window, probation, guarded };

// Finds the share of the window that pays most: once a sample of requests, hits a byte of the
// window are compared with hits a byte of the main part, and the denser one grows. Comparing the
// hit rates of one sample and the next, as the paper does, mistakes the load's own swings for the
// window's doing; both densities are of the same sample. The law and its gain are those of
// Caffeine's density climber (2026), without the probes by which that one leaves corners; the
// sample is a quarter of its, as shorter ones were better on traces of fewer than a hundred
// requests an entry.
class WindowClimber {
 public:
  double share() const noexcept { return share_; }
  void missed(double asked) noexcept {
    ++requests_;
    asked_ += asked;
  }
  void hit(double asked, bool in_window) noexcept {
    missed(asked);
    (in_window ? window_hits_ : main_hits_) += asked;
  }
  // Whether the share was changed.
  bool climb(std::size_t entries) noexcept {
    constexpr std::size_t kLeastSample = 64;
    if (requests_ < std::max(entries, kLeastSample)) return false;
    share_ = std::clamp(share_ + step(), kLeastShare, kMostShare);
    requests_ = 0;
    asked_ = window_hits_ = main_hits_ = 0;
    return true;
  }

 private:
  static constexpr double kFirstShare = 0.01;
  static constexpr double kLeastShare = 0.02;  // a smaller window has too few hits to compare
  static constexpr double kMostShare = 0.8;

  double step() const noexcept {
    constexpr double kGain = 0.03;
    constexpr double kMost = 0.3;
    // A little of the sample on both sides: neither density is zero.
    const double least = asked_ / 1024;
    if (least == 0) return 0;
    const double error =
        std::log((window_hits_ + least) / share_) - std::log((main_hits_ + least) / (1 - share_));
    return std::clamp(kGain * error, -kMost, kMost);
  }

  double share_ = kFirstShare;
  std::uint64_t requests_ = 0;
  double asked_ = 0;
  double window_hits_ = 0;
  double main_hits_ = 0;
};

class WTinyLfuPolicy final : public EvictionPolicy {
 public:
  explicit WTinyLfuPolicy(const PolicyOptions& options)
      : by_bytes_(options.objective == Objective::bytes), capacity_(options.capacity) {
    sketch_.make_room(1);
    set_limits();
  }

  PolicyKind kind() const noexcept override { return PolicyKind::wtinylfu; }
  void use_facts(const EntryFactsSource& source) noexcept override { facts_.use(source); }

  void hit(EntryId id) noexcept override {
    const KnownFacts::Facts facts = facts_[id];
    sketch_.count(facts.hash);
    climber_.hit(weight(facts.bytes), segment(id) == Segment::window);
    promote(id, facts.bytes);
    adapt();
  }

  void missed(const EntryFacts& incoming) override {
    sketch_.count(incoming.hash);
    climber_.missed(weight(incoming.bytes));
    adapt();
  }

  EntryId victim(const EntryFacts& incoming) noexcept override {
    const EntryId window = part(Segment::window).oldest();
    const EntryId main = main_victim();
    if (main == kNoEntry) return window;
    if (incoming.bytes == 0) return overfull_window() ? window : main;
    // Larger than the window: it stands at the door of the main part itself.
    if (incoming.bytes > window_limit_) {
      return is_worth_more(incoming.hash, incoming.bytes) ? main : kNoEntry;
    }
    if (window == kNoEntry || part(Segment::window).bytes() + incoming.bytes <= window_limit_) {
      return main;
    }
    const KnownFacts::Facts candidate = facts_[window];
    return is_worth_more(candidate.hash, candidate.bytes) ? main : window;
  }

  void evicted(EntryId id) noexcept override {
    ++evictions_;
    remove(id);
  }

  void inserted(EntryId id, const EntryFacts& facts) override {
    nodes_.make_room(id);
    facts_.make_room(id);
    sketch_.make_room(nodes_.size());
    const KnownFacts::Told told{facts_, id, facts};
    add(id, facts.bytes > window_limit_ ? Segment::probation : Segment::window, facts.bytes);
    settle();
  }

  void erased(EntryId id) noexcept override { remove(id); }

  void updated(EntryId id, const EntryFacts& facts) noexcept override {
    part(segment(id)).weigh(facts_.bytes(id), facts.bytes);
    const KnownFacts::Told told{facts_, id, facts};
    hit(id);
    settle();
  }

  void resized(std::uint64_t capacity) override {
    capacity_ = capacity;
    set_limits();
  }

  // Who has not shown that it is asked for again goes first.
  void order(std::vector<EntryId>& entries) const override {
    entries.reserve(entries.size() + nodes_.size());
    for (const Segment in : {Segment::probation, Segment::window, Segment::guarded}) {
      parts_[static_cast<std::size_t>(in)].append_to(nodes_, entries);
    }
  }

  std::size_t metadata_bytes() const noexcept override {
    return nodes_.metadata_bytes() + facts_.metadata_bytes() + sketch_.metadata_bytes();
  }

 private:
  static constexpr double kGuardedOfMain = 0.8;
  // How many are moved at most when limits have changed: the rest is for the next call.
  static constexpr unsigned kMovesAtOnce = 16;

  WeighedList<>& part(Segment which) noexcept { return parts_[static_cast<std::size_t>(which)]; }
  Segment segment(EntryId id) const noexcept { return static_cast<Segment>(nodes_[id].mark()); }
  bool overfull_window() noexcept { return part(Segment::window).bytes() > window_limit_; }

  void set_limits() noexcept {
    const auto capacity = static_cast<double>(capacity_);
    window_limit_ =
        std::max<std::uint64_t>(static_cast<std::uint64_t>(capacity * climber_.share()), 1);
    guarded_limit_ = static_cast<std::uint64_t>(
        kGuardedOfMain * static_cast<double>(capacity_ - std::min(window_limit_, capacity_)));
  }
  void adapt() noexcept {
    if (!climber_.climb(entry_count())) return;
    set_limits();
    settle();
  }
  std::size_t entry_count() const noexcept {
    return parts_[0].size() + parts_[1].size() + parts_[2].size();
  }

  EntryId main_victim() noexcept {
    const EntryId id = part(Segment::probation).oldest();
    return id != kNoEntry ? id : part(Segment::guarded).oldest();
  }

  // Whether a candidate for the main part is asked for more than those that would go for it. At
  // most some are looked at; if they all go, the next question is about those after them.
  bool is_worth_more(std::uint64_t hash, std::uint64_t bytes) noexcept {
    constexpr unsigned kLookedAt = 16;
    const double mine = worth(hash, bytes);
    double theirs = 0;
    std::uint64_t freed = 0;
    Segment in = Segment::probation;
    EntryId id = part(in).oldest();
    for (unsigned i = 0; i < kLookedAt && freed < bytes; ++i) {
      if (id == kNoEntry && in == Segment::probation) {
        in = Segment::guarded;
        id = part(in).oldest();
      }
      if (id == kNoEntry) break;
      const KnownFacts::Facts facts = facts_[id];
      theirs += worth(facts.hash, facts.bytes);
      freed += facts.bytes;
      if (theirs >= mine && !is_let_off(hash, i)) return false;
      id = nodes_[id].newer();
    }
    return true;
  }
  double worth(std::uint64_t hash, std::uint64_t bytes) const noexcept {
    return sketch_.frequency(hash) * weight(bytes);
  }
  double weight(std::uint64_t bytes) const noexcept {
    return by_bytes_ ? static_cast<double>(bytes) : 1.0;
  }
  // Whoever knows the hash could keep newcomers out by making the counters of a few old entries
  // full: one in 128 warm candidates is let in for nothing, as in Caffeine. The number is drawn
  // from what changes with each eviction, so that asking twice is answered alike.
  bool is_let_off(std::uint64_t hash, unsigned looked_at) const noexcept {
    constexpr unsigned kWarm = 6;
    constexpr std::uint64_t kOneIn = 128;
    return looked_at == 0 && sketch_.frequency(hash) >= kWarm &&
           mix_key(hash ^ evictions_) % kOneIn == 0;
  }

  void add(EntryId id, Segment to, std::uint64_t bytes) noexcept {
    nodes_[id].set_mark(static_cast<unsigned>(to));
    part(to).add_newest(nodes_, id, bytes);
  }
  void remove(EntryId id) noexcept { part(segment(id)).remove(nodes_, id, facts_.bytes(id)); }
  void move(EntryId id, Segment to, std::uint64_t bytes) noexcept {
    part(segment(id)).remove(nodes_, id, bytes);
    add(id, to, bytes);
  }
  void promote(EntryId id, std::uint64_t bytes) noexcept {
    if (segment(id) == Segment::probation && bytes <= guarded_limit_) {
      move(id, Segment::guarded, bytes);
      shed(Segment::guarded, guarded_limit_);
    } else {
      part(segment(id)).renew(nodes_, id);
    }
  }
  void settle() noexcept {
    shed(Segment::window, window_limit_);
    shed(Segment::guarded, guarded_limit_);
  }
  void shed(Segment from, std::uint64_t limit) noexcept {
    for (unsigned i = 0; i < kMovesAtOnce && part(from).bytes() > limit; ++i) {
      const EntryId id = part(from).oldest();
      move(id, Segment::probation, facts_.bytes(id));
    }
  }

  const bool by_bytes_;
  std::uint64_t capacity_;
  std::uint64_t window_limit_ = 0;
  std::uint64_t guarded_limit_ = 0;
  std::uint64_t evictions_ = 0;
  WindowClimber climber_;
  FrequencySketch sketch_;
  EntryTable<EntryLinks> nodes_;
  KnownFacts facts_;
  WeighedList<> parts_[3];
};

}  // namespace

std::unique_ptr<EvictionPolicy> make_wtinylfu(const PolicyOptions& options) {
  return std::make_unique<WTinyLfuPolicy>(options);
}

}  // namespace forebay::detail
