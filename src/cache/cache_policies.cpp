#include "cache/cache_policies.hpp"

#include <algorithm>
#include <string>
#include <utility>

namespace forebay::detail {
namespace {

[[noreturn]] void refuse(const std::string& name, const std::string& why) {
  throw Failure{Status{Code::invalid_argument, "cache " + name + ": " + why}};
}

Objective objective_of(const CacheOptions& options) {
  if (options.objective == "objects") return Objective::objects;
  if (options.objective == "bytes") return Objective::bytes;
  if (options.objective == "cost") return Objective::cost;
  refuse(options.name,
         "objective is '" + options.objective + "', and must be objects, bytes or cost");
}

PolicyKind kind_of(const CacheOptions& options) {
  if (const auto kind = policy_kind(options.policy)) return *kind;
  std::string names;
  for (std::size_t i = 0; i != kPolicyKinds; ++i)
    names += (i == 0 ? "" : ", ") + std::string{to_string(static_cast<PolicyKind>(i))};
  refuse(options.name, "policy is '" + options.policy + "', and must be one of " + names);
}

}  // namespace

CachePolicies::CachePolicies(const CacheOptions& options, std::uint32_t shards,
                             std::shared_ptr<MemoryResource> budget)
    : kind_(kind_of(options)),
      shards_(shards),
      line_above_(options.budget),
      budget_(std::move(budget)),
      max_bytes_(options.max_bytes.count()) {
  how_.objective = objective_of(options);
  how_.seed = options.seed;
  how_.charges_policies = true;
  const std::uint64_t line = max_bytes_.load();
  for_curve_ = options.miss_ratio_curve ? SharedCurve::bytes_for(line) : 0;
  if (options.miss_ratio_curve && for_curve_ == 0) {
    refuse(options.name,
           "a miss-ratio curve needs max_bytes of 4 MiB; it is " + to_string(options.max_bytes));
  }
  for_tournament_ = tournament_part(line, 0);
  const std::uint64_t both = for_tournament_ + for_curve_;
  if (!charge(both)) for_tournament_ = for_curve_ = 0;
  reserved_ = for_tournament_ + for_curve_;
  try {
    if (for_curve_ != 0) curve_ = std::make_shared<SharedCurve>(for_curve_);
    how_.memory_bytes = for_tournament_;
    how_.capacity = shard_capacity(line - reserved()) * shards;
    if (kind_ == PolicyKind::automatic) {
      tournament_ = std::make_shared<SharedTournament>(how_, shards);
    }
  } catch (...) {
    release(reserved());
    throw;
  }
}

CachePolicies::~CachePolicies() { release(reserved()); }

// Of what the cache can hold: a budget may have less for it than its own line.
std::uint64_t CachePolicies::tournament_part(std::uint64_t max_bytes,
                                             std::uint64_t charged) const noexcept {
  if (kind_ != PolicyKind::automatic) return 0;
  if (line_above_ == nullptr) return tournament_bytes(max_bytes);
  return tournament_bytes(std::min(max_bytes, charged + line_above_->available().count()));
}

std::uint64_t CachePolicies::shard_capacity(std::uint64_t bytes) const noexcept {
  return std::max<std::uint64_t>(bytes / shards_, 1);
}

bool CachePolicies::charge(std::uint64_t bytes) noexcept {
  if (budget_ == nullptr || bytes == 0) return true;
  return budget_->allocate(Bytes{bytes}, Bytes{1}).ok();
}

void CachePolicies::release(std::uint64_t bytes) noexcept {
  if (budget_ == nullptr || bytes == 0) return;
  budget_->deallocate(budget_.get(), Bytes{bytes}, Bytes{1});
}

std::unique_ptr<EvictionPolicy> CachePolicies::next_shard() const {
  AutoOptions how = how_;
  how.capacity = shard_capacity(max_bytes_.load() - reserved());
  std::unique_ptr<EvictionPolicy> made;
  if (tournament_ != nullptr) {
    made = std::make_unique<AutoPolicy>(tournament_, how);
  } else {
    made = make_policy(kind_, how);
  }
  if (curve_ != nullptr) made = std::make_unique<WatchedPolicy>(curve_, std::move(made));
  return made;
}

CachePolicies::Share CachePolicies::share_at(std::uint64_t max_bytes,
                                             std::uint64_t used) const noexcept {
  const std::uint64_t part = tournament_part(max_bytes, used + reserved());
  return {max_bytes, part, shard_capacity(max_bytes - part)};
}

// The budget is asked without a lock, as it may ask others to give back.
void CachePolicies::set_max_bytes(const Share& share, std::atomic<std::uint64_t>& line) noexcept {
  const std::uint64_t wanted = share.for_tournament;
  const std::uint64_t had = for_tournament_.load();
  std::uint64_t spare = wanted > had && charge(wanted - had) ? wanted - had : 0;
  {
    const std::lock_guard lock{resizing_};
    const std::uint64_t has = for_tournament_.load();
    if (wanted < has) {
      tournament_->set_memory(wanted);
      spare += has - wanted;
      for_tournament_ = wanted;
    } else {
      const std::uint64_t more = std::min(spare, wanted - has);
      spare -= more;
      for_tournament_ = has + more;
    }
    if (for_curve_ != 0 && SharedCurve::bytes_for(share.max_bytes) == 0) {
      curve_->close();
      spare += std::exchange(for_curve_, 0);
    }
    reserved_ = for_tournament_ + for_curve_;
    max_bytes_ = share.max_bytes;
    line = share.max_bytes - reserved();
    if (tournament_ != nullptr) tournament_->set_memory(for_tournament_);
  }
  release(spare);
}

std::uint64_t CachePolicies::bookkeeping() const noexcept {
  return (tournament_ != nullptr ? tournament_->latest_metadata_bytes() : 0) +
         (curve_ != nullptr ? curve_->metadata_bytes() : 0);
}

CachePolicyReport CachePolicies::report() const {
  CachePolicyReport made;
  made.policy = to_string(kind_);
  made.in_force = made.policy;
  made.reserved = Bytes{reserved()};
  if (tournament_ == nullptr) return made;
  const AutoReport report = tournament_->report();
  made.in_force = to_string(report.current);
  made.watching = report.watching;
  made.switches = report.switches;
  made.requests = report.requests;
  made.simulated = report.sampled;
  made.sample_rate = report.sample_rate;
  made.simulations = Bytes{report.memory_bytes};
  for (const AutoReport::Candidate& candidate : report.candidates) {
    made.candidates.push_back(
        {std::string{to_string(candidate.kind)}, candidate.miss_ratio, candidate.regret});
  }
  return made;
}

std::vector<MissRatioPoint> CachePolicies::miss_ratio_curve() const {
  if (curve_ == nullptr) return {};
  return curve_->points(max_bytes_.load());
}

}  // namespace forebay::detail
