#include "cache/auto_policy.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <new>
#include <string>
#include <utility>

#include "cache/hash.hpp"

namespace forebay::detail {
double tune(const char* name, double fallback) {
  const char* v = std::getenv(name);
  return v ? atof(v) : fallback;
}
namespace {
const double kHalfLife = tune("HL", 10);      // capacities of misses
const double kZ = tune("Z", 1.5);             // to leave
const double kZBack = tune("ZB", 0.75);       // to go back to lru
const double kSwitchCost = tune("SC", 0.1);   // capacities of misses
const double kRel = tune("REL", 0.003);
const double kAllow = tune("AL", 0.004);
const double kBack = tune("BACK", 2);
const std::string kInit = std::getenv("INIT") ? std::getenv("INIT") : "lru";
const bool kPrior = tune("PRIOR", 1) != 0;
const bool kVerbose = tune("VERB", 0) != 0;
const double kPerEntry = tune("PE", 700);
const double kCorrect = tune("COR", 0.2);
const bool kRank = tune("RANK", 1) != 0;
const double kForce = tune("FORCE", 1.002);
const double kMem = tune("MEM", 1);

constexpr std::size_t kCandidatesMax = 9;
constexpr std::uint64_t kUnitBytes = 4096;
}  // namespace

// The miniature caches, and the account of what each would have lost.
class AutoPolicy::Tournament {
 public:
  explicit Tournament(const AutoOptions& options) : options_(options) {
    kinds_ = {PolicyKind::lru, PolicyKind::s3fifo, PolicyKind::arc, PolicyKind::lirs, PolicyKind::twoq, PolicyKind::gdsf, PolicyKind::wtinylfu};
    if (const char* c = std::getenv("CAND")) {
      kinds_ = {PolicyKind::lru};
      std::string_view all = c;
      while (!all.empty()) {
        auto p = all.find(',');
        kinds_.push_back(*policy_kind(all.substr(0, p)));
        all = p == all.npos ? "" : all.substr(p + 1);
      }
    }
    for (const PolicyKind kind : kinds_) caches_.emplace_back(kind, sim_options());
    capacity_ = options.capacity;
  }

  bool samples(std::uint64_t hash) const noexcept {
    return static_cast<std::uint32_t>((hash * 0x9e3779b97f4a7c15ULL) >> 32U) <= threshold_;
  }

  // A request to the cache. Whether there is something to decide.
  void request(const EntryFacts& facts, bool hit) noexcept {
    ++requests_;
    if (!full_) { bytes_seen_ += double(facts.bytes); squares_seen_ += double(facts.bytes) * double(facts.bytes); }
    if (!samples(facts.hash)) return;
    ++sampled_;
    const double loss = loss_of(facts);
    if (!hit) live_loss_ += loss;
    epoch_asked_ += loss;
    for (std::size_t i = 0; i < caches_.size(); ++i) {
      try {
        if (!caches_[i].request({facts.hash, facts.bytes, facts.cost, facts.utility}))
          epoch_loss_[i] += loss;
      } catch (const std::bad_alloc&) {
        epoch_loss_[i] += loss;
      }
    }
    if (!hit) epoch_live_ += loss;
    limit_memory();
    if (++epoch_requests_ >= epoch_length()) end_epoch();
  }

  // Bytes of live entries come and go: the sample's share of them is the miniatures' share of the
  // capacity, which corrects for what the sample has too much or too little of.
  void live(std::uint64_t hash, double bytes) noexcept {
    live_bytes_ += bytes;
    if (samples(hash)) live_sampled_ += bytes;
  }
  double live_bytes() const { return live_bytes_; }
  void recount(double sampled) { live_sampled_ = sampled; }
  bool take_recount() { return std::exchange(recount_, false); }

  // Before the first eviction all orders are alike: the first choice costs nothing.
  void filled() {
    if (full_) return;
    full_ = true;
    const double n = double(requests_);
    const bool varied = squares_seen_ * n > 1.5 * bytes_seen_ * bytes_seen_;
    PolicyKind first = options_.objective == Objective::bytes ? PolicyKind::arc : *policy_kind(kInit);
    if (kPrior && varied && options_.objective == Objective::objects) first = PolicyKind::gdsf;
    for (std::size_t i = 0; i < kinds_.size(); ++i)
      if (kinds_[i] == first) wanted_ = i;
  }
  bool wants_switch() const noexcept { return wanted_ != current_; }
  const SimulatedCache& wanted_cache() const { return caches_[wanted_]; }
  PolicyKind wanted() const noexcept { return kinds_[wanted_]; }
  void switched() noexcept { current_ = wanted_; }
  void not_switched() noexcept { wanted_ = current_; }
  PolicyKind current() const noexcept { return kinds_[current_]; }

  void resized(std::uint64_t capacity) {
    capacity_ = capacity;
    for (SimulatedCache& cache : caches_) cache.resize(sim_capacity());
  }
  std::size_t metadata_bytes() const noexcept {
    std::size_t sum = 0;
    for (const SimulatedCache& cache : caches_) sum += cache.metadata_bytes();
    return sum;
  }
  std::uint64_t requests_ = 0, sampled_ = 0;
  double rate() const { return (double(threshold_) + 1) / 4294967296.0; }

 private:
  PolicyOptions sim_options() const {
    PolicyOptions options = options_;
    return options;
  }
  double loss_of(const EntryFacts& f) const {
    switch (options_.objective) {
      case Objective::bytes: return double(f.bytes);
      case Objective::cost: return f.cost;
      default: return 1;
    }
  }
  std::uint64_t sim_capacity() const {
    return std::max<std::uint64_t>(1, static_cast<std::uint64_t>(std::llround(double(capacity_) * share_)));
  }
  std::size_t epoch_length() const { return std::max<std::size_t>(64, caches_[0].entries() / 2); }

  void limit_memory() {
    if ((sampled_ & 63U) != 0) return;
    std::uint64_t most = options_.memory_bytes;
    if (most == 0) {
      const bool units = caches_[0].used() == caches_[0].entries();
      most = std::max<std::uint64_t>(kLeastMemory, capacity_ / 50 * (units ? kUnitBytes : 1));
    }
    std::size_t entries = 0;
    for (const SimulatedCache& cache : caches_) entries = std::max(entries, cache.entries());
    if (double(entries) * kPerEntry <= double(most) * kMem) return;
    threshold_ /= 2;
    share_ = rate();
    recount_ = true;
    for (SimulatedCache& cache : caches_) {
      std::vector<EntryId> ids;
      cache.policy().order(ids);
      std::vector<std::uint64_t> keys;
      for (EntryId id : ids)
        if (!samples(cache.key_of(id))) keys.push_back(cache.key_of(id));
      for (std::uint64_t key : keys) cache.erase(key);
      cache.resize(sim_capacity());
    }
  }

  void correct_share() {
    if (kCorrect == 0 || rate() > 0.99 || recount_ || live_bytes_ < 0.9 * double(capacity_)) return;
    const double seen = live_sampled_ / live_bytes_;
    const double target = std::clamp(seen, rate() / 2, rate() * 2);
    share_ += kCorrect * (target - share_);
    const std::uint64_t want = sim_capacity();
    const auto is = double(caches_[0].capacity());
    if (std::abs(double(want) - is) < 0.005 * is) return;
    for (SimulatedCache& cache : caches_) cache.resize(want);
  }

  void end_epoch() noexcept {
    correct_share();
    const std::size_t n = caches_.size();
    // Decay by misses of lru in capacities.
    const double turn = double(caches_[0].counts().requests - caches_[0].counts().hits - last_misses_) /
                        double(std::max<std::size_t>(caches_[0].entries(), 16));
    last_misses_ = caches_[0].counts().requests - caches_[0].counts().hits;
    const double keep = std::exp2(-turn / kHalfLife);
    for (std::size_t i = 0; i < n; ++i) {
      sum_[i] = sum_[i] * keep + epoch_loss_[i];
      for (std::size_t j = 0; j < i; ++j) {
        const double d = epoch_loss_[i] - epoch_loss_[j];
        square_[i][j] = square_[j][i] = square_[i][j] * keep + d * d;
      }
    }
    asked_ = asked_ * keep + epoch_asked_;
    lru_total_ += epoch_loss_[0];
    regret_ += epoch_live_ - epoch_loss_[0];
    decide();
    epoch_loss_.fill(0);
    epoch_live_ = epoch_asked_ = 0;
    epoch_requests_ = 0;
  }

  bool beats(std::size_t a, std::size_t b, double z, double scale) const {
    const double gain = sum_[b] - sum_[a];
    const double unit = asked_ > 0 ? asked_ / std::max(1.0, weight()) : 1;
    const double cost = scale * kSwitchCost * double(caches_[0].entries()) * unit;
    return gain > z * std::sqrt(square_[a][b]) + cost && gain > kRel * sum_[b];
  }
  double weight() const { return asked_; }

  void decide() noexcept {
    wanted_ = current_;
    std::size_t best = current_;
    for (std::size_t i = 0; i < caches_.size(); ++i) {
      if (i == best) continue;
      const bool back = i == 0;
      if (back ? beats(0, current_, kZBack, 0.0) : beats(i, current_, kZ * (current_ == 0 ? caution_ : 1.0), current_ == 0 ? caution_ : 1.0)) {
        if (best == current_ || sum_[i] < sum_[best]) best = i;
      }
    }
    // Back to lru when more was lost than may be.
    if (current_ != 0 && best == current_ && regret_ > kAllow * lru_total_ && sum_[0] <= sum_[current_] * kForce) best = 0;
    wanted_ = best;
    if (best == 0 && current_ != 0) caution_ = regret_ > left_at_ ? std::min(16.0, caution_ * kBack) : std::max(1.0, caution_ / kBack);
    if (best != 0 && current_ == 0) left_at_ = regret_;
    if (kVerbose && wanted_ != current_) {
      fprintf(stderr, "   @%lu (%lu) %s -> %s:", requests_, sampled_, std::string(to_string(kinds_[current_])).c_str(), std::string(to_string(kinds_[wanted_])).c_str());
      for (std::size_t i = 0; i < caches_.size(); ++i) fprintf(stderr, " %s %.1f", std::string(to_string(kinds_[i])).c_str(), sum_[i]);
      fprintf(stderr, " regret %.1f of %.1f rate %.3f\n", regret_, lru_total_, rate());
    }
  }

  AutoOptions options_;
  std::vector<PolicyKind> kinds_;
  std::vector<SimulatedCache> caches_;
  std::uint64_t capacity_ = 0;
  std::uint32_t threshold_ = ~std::uint32_t{0};
  double live_bytes_ = 0, live_sampled_ = 0, share_ = 1;
  bool recount_ = false;
  double caution_ = 1, left_at_ = 0, bytes_seen_ = 0, squares_seen_ = 0;
  bool full_ = false;
  std::size_t current_ = 0, wanted_ = 0;
  std::size_t epoch_requests_ = 0;
  std::uint64_t last_misses_ = 0;
  double live_loss_ = 0, epoch_asked_ = 0, epoch_live_ = 0, asked_ = 0, lru_total_ = 0, regret_ = 0;
  std::array<double, kCandidatesMax> epoch_loss_{}, sum_{};
  std::array<std::array<double, kCandidatesMax>, kCandidatesMax> square_{};
};

AutoPolicy::AutoPolicy(const AutoOptions& options)
    : options_(options),
      tournament_(std::make_unique<Tournament>(options)),
      live_(make_policy(PolicyKind::lru, options)) {}

AutoPolicy::~AutoPolicy() = default;

void AutoPolicy::hit(EntryId id) noexcept {
  Place& place = nodes_[id];
  tournament_->request(place.facts, true);
  if (place.leaving) {
    before_->erased(id);
    place.leaving = false;
    --leaving_;
    live_->inserted(id, place.facts);
  }
  live_->hit(id);
}

void AutoPolicy::missed(const EntryFacts& incoming) {
  tournament_->request(incoming, false);
  if (tournament_->take_recount()) {
    double b = 0;
    for (EntryId id = 0; id < nodes_.size(); ++id)
      if (nodes_[id].in && tournament_->samples(nodes_[id].facts.hash)) b += double(nodes_[id].facts.bytes);
    tournament_->recount(b);
  }
  if (tournament_->live_bytes() + double(incoming.bytes) > double(options_.capacity)) tournament_->filled();
  if (tournament_->wants_switch() && leaving_ == 0) begin_switch();
  if (leaving_ != 0) carry(leaving_);
  live_->missed(incoming);
}

void AutoPolicy::begin_switch() {
  PolicyOptions options = options_;
  std::unique_ptr<EvictionPolicy> next = make_policy(tournament_->wanted(), options);
  before_ = std::exchange(live_, std::move(next));
  for (EntryId id = 0; id < nodes_.size(); ++id) {
    if (!nodes_[id].in) continue;
    nodes_[id].leaving = true;
    ++leaving_;
  }
  if (kRank && tournament_->rate() > 0.99) {
    const SimulatedCache& sim = tournament_->wanted_cache();
    std::vector<EntryId> live, ranked;
    before_->order(live);
    std::vector<std::pair<std::uint64_t, EntryId>> known;
    for (EntryId id : live)
      if (sim.contains(nodes_[id].facts.hash)) known.push_back({nodes_[id].facts.hash, id});
      else take_over(id);
    std::sort(known.begin(), known.end());
    sim.policy().order(ranked);
    for (EntryId r : ranked) {
      const std::uint64_t hash = sim.key_of(r);
      auto at = std::lower_bound(known.begin(), known.end(), std::pair<std::uint64_t, EntryId>{hash, 0});
      if (at != known.end() && at->first == hash) take_over(at->second);
    }
    before_.reset();
  }
  ++switches_;
  tournament_->switched();
}

void AutoPolicy::take_over(EntryId id) {
  nodes_[id].leaving = false;
  --leaving_;
  live_->inserted(id, nodes_[id].facts);
}

void AutoPolicy::carry(std::size_t entries) noexcept {
  for (; entries > 0 && leaving_ > 0; --entries) {
    const EntryId id = before_->victim({.bytes = 0});
    before_->erased(id);
    nodes_[id].leaving = false;
    --leaving_;
    live_->inserted(id, nodes_[id].facts);
  }
  if (leaving_ == 0) before_.reset();
}

EntryId AutoPolicy::victim(const EntryFacts& incoming) noexcept { return live_->victim(incoming); }

void AutoPolicy::evicted(EntryId id) noexcept {
  tournament_->live(nodes_[id].facts.hash, -double(nodes_[id].facts.bytes));
  nodes_[id].in = false;
  if (nodes_[id].leaving) {
    --leaving_;
    before_->evicted(id);
    nodes_[id].leaving = false;
  } else {
    live_->evicted(id);
  }
}
void AutoPolicy::inserted(EntryId id, const EntryFacts& facts) {
  nodes_.make_room(id);
  live_->inserted(id, facts);
  nodes_[id].facts = facts;
  tournament_->live(facts.hash, double(facts.bytes));
  nodes_[id].in = true;
  nodes_[id].leaving = false;
}
void AutoPolicy::erased(EntryId id) noexcept {
  tournament_->live(nodes_[id].facts.hash, -double(nodes_[id].facts.bytes));
  policy_of(id).erased(id);
  if (nodes_[id].leaving) --leaving_;
  nodes_[id].in = nodes_[id].leaving = false;
}
void AutoPolicy::updated(EntryId id, const EntryFacts& facts) noexcept {
  tournament_->request(facts, true);
  tournament_->live(facts.hash, double(facts.bytes) - double(nodes_[id].facts.bytes));
  nodes_[id].facts = facts;
  policy_of(id).updated(id, facts);
}
void AutoPolicy::resized(std::uint64_t capacity) {
  live_->resized(capacity);
  options_.capacity = capacity;
  tournament_->resized(capacity);
}
void AutoPolicy::order(std::vector<EntryId>& entries) const { live_->order(entries); }
std::size_t AutoPolicy::metadata_bytes() const noexcept {
  return live_->metadata_bytes() + tournament_->metadata_bytes() + nodes_.metadata_bytes();
}
AutoReport AutoPolicy::report() const {
  AutoReport r;
  r.current = tournament_->current();
  r.switches = switches_;
  r.requests = tournament_->requests_;
  r.sampled = tournament_->sampled_;
  r.sample_rate = tournament_->rate();
  return r;
}
std::unique_ptr<AutoPolicy> make_auto(const AutoOptions& options) {
  return std::make_unique<AutoPolicy>(options);
}

}  // namespace forebay::detail
