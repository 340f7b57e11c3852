// The cache and SimulatedCache run the same policies: one shard and one thread hit the same
// requests, each single one.

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <unordered_map>
#include <vector>

#include "cache/auto_policy.hpp"
#include "cache/hash.hpp"
#include "cache/short_float.hpp"
#include "cache/simulated_cache.hpp"
#include "forebay/cache.hpp"

namespace forebay {
namespace {

using Blocks = Cache<std::uint64_t, std::uint64_t>;  // the value is what the block weighs

// Skewed, with a loop that does not fit and keys that come once.
std::vector<detail::CacheRequest> requests() {
  std::mt19937_64 random{3};
  std::vector<detail::CacheRequest> made;
  for (std::uint64_t i = 0; i != 60'000; ++i) {
    const double u = std::uniform_real_distribution<double>{0, 1}(random);
    std::uint64_t key = static_cast<std::uint64_t>(std::pow(4000.0, u));
    if (i % 7 == 0) key = 10'000 + i % 1500;
    if (i % 11 == 0) key = 100'000 + i;
    const std::uint64_t bytes = 256 + key * 2654435761U % 64 * 16;
    made.push_back({key, bytes, static_cast<float>(1 + key % 30), static_cast<float>(key % 5)});
  }
  return made;
}

class CachePolicyReplay : public ::testing::TestWithParam<detail::PolicyKind> {};

TEST_P(CachePolicyReplay, HitsWhatTheSimulationHits) {
  constexpr std::uint64_t kCapacity = 300'000;
  for (const auto objective : {"objects", "bytes", "cost"}) {
    detail::PolicyOptions how{.capacity = kCapacity};
    if (objective[0] == 'b') how.objective = detail::Objective::bytes;
    if (objective[0] == 'c') how.objective = detail::Objective::cost;
    detail::SimulatedCache simulated{GetParam(), how};
    // Charges are what the simulation was told: the block and the bookkeeping are part of it.
    const CacheOptions options{.max_bytes = Bytes{kCapacity},
                               .policy = std::string{to_string(GetParam())},
                               .objective = objective,
                               .shards = 1};
    const std::uint64_t base = 16 + cache_entry_overhead(to_string(GetParam())).count();
    Blocks cache{options, {.weigher = [base](std::uint64_t, std::uint64_t bytes) {
                   return Bytes{bytes - base};
                 }}};
    std::uint64_t n = 0;
    for (const auto& request : requests()) {
      const bool hit = bool{cache.find(request.key)};
      if (!hit) {
        ASSERT_TRUE(cache.put(request.key, request.bytes,
                              {.cost = request.cost, .utility = request.utility}));
      }
      ASSERT_EQ(hit, simulated.request(request)) << "request " << n;
      ++n;
    }
    EXPECT_EQ(cache.stats().hits, simulated.counts().hits);
    EXPECT_EQ(cache.stats().evicted, simulated.counts().evictions);
    EXPECT_EQ(cache.stats().used.count(), simulated.used());
    cache.validate();
  }
}

TEST_P(CachePolicyReplay, BookkeepingIsCharged) {
  const std::string policy{to_string(GetParam())};
  for (const std::uint64_t entries : {10'000, 31'600, 70'000}) {
    const std::uint64_t charge = 16 + cache_entry_overhead(policy).count();
    Blocks cache{{.max_bytes = Bytes{entries * ((charge + 15) / 16 * 16)},
                  .policy = policy,
                  .max_age = std::chrono::hours{1}}};
    std::mt19937_64 random{5};
    for (std::uint64_t i = 0; i != entries * 4; ++i) {
      const std::uint64_t key = std::min(random() % (entries * 3), random() % (entries * 3));
      if (!cache.find(key)) {
        ASSERT_TRUE(cache.put(key, key));
      }
    }
    const CacheStats stats = cache.stats();
    EXPECT_GT(stats.entries, entries / 20 * 19);
    EXPECT_LE(stats.bookkeeping.count(), stats.entries * cache_entry_overhead(policy).count());
  }
}

// Phases that favour different policies, over keys whose costs no header keeps exactly.
std::vector<detail::CacheRequest> phases() {
  std::mt19937_64 random{7};
  std::vector<detail::CacheRequest> made;
  for (std::uint64_t i = 0; i != 600'000; ++i) {
    const double u = std::uniform_real_distribution<double>{0, 1}(random);
    const std::uint64_t loop = i % 6000;
    const std::uint64_t twice = 1'000'000 + i / 2 - (i % 2 == 0 ? 0 : 1500);
    const std::uint64_t key = i / 150'000 % 2 == 0 ? loop : twice;
    const std::uint64_t bytes = 400 + key * 2654435761U % 40 * 16;
    made.push_back({key, bytes, static_cast<float>(1 + u * 1000), 0});
  }
  return made;
}

// A cache of names under `auto` that charges as a Cache does: for entries, and beside for what the
// policy takes of memory.
class ChargedSimulation final : private detail::EntryFactsSource {
 public:
  explicit ChargedSimulation(const detail::AutoOptions& how)
      : policy_(detail::make_auto(how)), capacity_(how.capacity) {
    policy_->use_facts(*this);
  }

  bool request(const detail::CacheRequest& request) {
    const auto facts =
        detail::as_kept({detail::mix_key(request.key), request.bytes, request.cost, 0});
    if (const auto found = ids_.find(facts.hash); found != ids_.end()) {
      policy_->hit(found->second);
      return true;
    }
    policy_->charged(for_policy_, 0);
    policy_->missed(facts);
    const detail::PolicyCharge charge = policy_->charge(0);
    std::uint64_t more = charge.entry;
    while (charged() + facts.bytes + more > capacity_) evict(facts);
    if (for_policy_ < charge.goal) {
      const std::uint64_t wish = std::min(charge.goal - for_policy_, charge.instalment);
      while (charged() + facts.bytes + more + wish > capacity_) evict({.bytes = 0});
      more += wish;
    }
    for_policy_ -= spare();
    insert(facts);
    for_policy_ += more;
    for_policy_ -= spare();
    return false;
  }

  std::uint64_t used() const { return entries_ + for_policy_; }
  const detail::AutoPolicy& policy() const { return *policy_; }

 private:
  detail::EntryFacts facts_of(detail::EntryId id) const noexcept override { return facts_[id]; }
  std::uint64_t spare() const {
    return for_policy_ - std::min(for_policy_, policy_->charge(0).goal);
  }
  std::uint64_t charged() const { return entries_ + for_policy_ - spare(); }
  void evict(const detail::EntryFacts& incoming) {
    const detail::EntryId id = policy_->victim(incoming);
    policy_->evicted(id);
    entries_ -= facts_[id].bytes;
    ids_.erase(facts_[id].hash);
    free_.push_back(id);
  }
  void insert(const detail::EntryFacts& facts) {
    if (free_.empty()) {
      free_.push_back(static_cast<detail::EntryId>(facts_.size()));
      facts_.emplace_back();
    }
    const detail::EntryId id = free_.back();
    free_.pop_back();
    policy_->inserted(id, facts);
    facts_[id] = facts;
    ids_[facts.hash] = id;
    entries_ += facts.bytes;
  }

  std::unique_ptr<detail::AutoPolicy> policy_;
  const std::uint64_t capacity_;
  std::uint64_t entries_ = 0;     // charged for them
  std::uint64_t for_policy_ = 0;  // charged beside
  std::vector<detail::EntryFacts> facts_;
  std::vector<detail::EntryId> free_;
  std::unordered_map<std::uint64_t, detail::EntryId> ids_;
};

TEST(CacheReplay, AutoHitsWhatItsSimulationHitsWhileItSwitches) {
  for (const auto objective : {"objects", "bytes", "cost"}) {
    constexpr Bytes kLine{3ULL << 20};
    const CacheOptions options{.max_bytes = kLine, .objective = objective, .shards = 1};
    ASSERT_EQ(options.policy, "auto") << "the default";
    const std::uint64_t base = 16 + cache_entry_overhead("lru").count();
    Blocks cache{options, {.weigher = [base](std::uint64_t, std::uint64_t bytes) {
                   return Bytes{bytes - base};
                 }}};
    detail::AutoOptions how;
    how.capacity = (kLine - cache.stats().reserved).count();
    how.memory_bytes = cache.stats().reserved.count();
    how.charges_policies = true;
    if (objective[0] == 'b') how.objective = detail::Objective::bytes;
    if (objective[0] == 'c') how.objective = detail::Objective::cost;
    ChargedSimulation simulated{how};
    std::uint64_t n = 0;
    for (const auto& request : phases()) {
      const bool hit = bool{cache.find(request.key)};
      if (!hit) {
        ASSERT_TRUE(cache.put(request.key, request.bytes, {.cost = request.cost}));
      }
      ASSERT_EQ(hit, simulated.request(request)) << "request " << n;
      ASSERT_EQ(cache.stats().used.count(), simulated.used()) << "request " << n;
      ++n;
    }
    const CachePolicyReport report = cache.policy_report();
    const detail::AutoReport expected = simulated.policy().report();
    EXPECT_GE(report.switches, 1U) << report.in_force;
    EXPECT_EQ(report.switches, expected.switches);
    EXPECT_EQ(report.simulated, expected.sampled);
    EXPECT_EQ(report.in_force, to_string(expected.current));
    cache.validate();
  }
}

// All that make_policy() makes.
std::vector<detail::PolicyKind> all_kinds() {
  std::vector<detail::PolicyKind> kinds;
  for (std::size_t i = 0; i != detail::kPolicyKinds; ++i) {
    const auto kind = static_cast<detail::PolicyKind>(i);
    if (detail::make_policy(kind, {.capacity = 1}) != nullptr) kinds.push_back(kind);
  }
  return kinds;
}
INSTANTIATE_TEST_SUITE_P(Policies, CachePolicyReplay, ::testing::ValuesIn(all_kinds()),
                         [](const auto& kind) { return std::string{to_string(kind.param)}; });

}  // namespace
}  // namespace forebay
